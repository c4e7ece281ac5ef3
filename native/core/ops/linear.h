// linear: y = x W^T + bias.
#pragma once

#include "core/ops/common.h"

namespace mome {

struct LinearForward {
  static constexpr const char* kOp = "linear";
  static constexpr Direction kDirection = Direction::forward;
  int64_t rows;
  const float* x;     // [rows, weight.columns]
  Matrix weight;      // [outputs, inputs]
  const float* bias;  // [outputs] or null
  float* y;           // [rows, weight.rows]
};

struct LinearBackward {
  static constexpr const char* kOp = LinearForward::kOp;
  static constexpr Direction kDirection = Direction::backward;
  int64_t rows;
  const float* x;
  Matrix weight;
  const float* dy;  // [rows, outputs]
  float* dx;        // [rows, inputs] or null
  float* dweight;   // [outputs, inputs] +=, or null (a frozen weight)
  float* dbias;     // [outputs] +=, or null
};

extern const OpSpec linear_op;

}  // namespace mome
