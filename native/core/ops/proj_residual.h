// proj_residual: out = x + row_scale * gamma * (a W^T + bias): the attention branch's projection, layer scale, drop
// path and residual in one pass. The gradient of x is dout itself, so backward does not write it.
#pragma once

#include "core/ops/common.h"

namespace mome {

struct ProjResidualForward {
  static constexpr const char* kOp = "proj_residual";
  static constexpr Direction kDirection = Direction::forward;
  int64_t rows, width;
  const float* x;          // [rows, width]
  const float* a;          // [rows, width] attention output
  Matrix weight;           // [width, width]
  const float* bias;       // [width]
  const float* gamma;      // [width] or null (no layer scale)
  const float* row_scale;  // [rows] drop path: 0 or 1 / keep; null = 1
  float* out;              // [rows, width]; may be x itself
};

struct ProjResidualBackward {
  static constexpr const char* kOp = ProjResidualForward::kOp;
  static constexpr Direction kDirection = Direction::backward;
  int64_t rows, width;
  const float* a;
  Matrix weight;  // with `data`: dgamma reads it
  const float* bias;
  const float* gamma;
  const float* row_scale;
  const float* dout;  // [rows, width]
  float* da;          // [rows, width]
  float* dweight;     // [width, width] +=, or null
  float* dbias;       // [width] +=, or null
  float* dgamma;      // [width] +=, or null
};

extern const OpSpec proj_residual_op;

}  // namespace mome
