// layer_norm: y = (x - mean(x)) / sqrt(var(x) + eps) * gamma + beta, per row (biased variance).
#pragma once

#include "core/ops/common.h"

namespace mome {

struct LayerNormForward {
  static constexpr const char* kOp = "layer_norm";
  static constexpr Direction kDirection = Direction::forward;
  int64_t rows, width;
  const float* x;      // [rows, width]
  const float* gamma;  // [width]
  const float* beta;   // [width]
  float eps;
  float* y;  // [rows, width]
};

struct LayerNormBackward {
  static constexpr const char* kOp = LayerNormForward::kOp;
  static constexpr Direction kDirection = Direction::backward;
  int64_t rows, width;
  const float* x;
  const float* gamma;
  float eps;
  const float* dy;     // [rows, width]
  bool accumulate_dx;  // dx += instead of dx =
  float* dx;           // [rows, width]
  float* dgamma;       // [width] +=
  float* dbeta;        // [width] +=
};

extern const OpSpec layer_norm_op;

}  // namespace mome
