// qkv: one tall projection to queries, keys and values: y = x W^T + [q_bias, 0, v_bias]. Queries are scaled in
// `attention`.
#pragma once

#include "core/ops/common.h"

namespace mome {

struct QkvForward {
  static constexpr const char* kOp = "qkv";
  static constexpr Direction kDirection = Direction::forward;
  int64_t rows, width;
  const float* x;       // [rows, width]
  Matrix weight;        // [3 * width, width]
  const float* q_bias;  // [width]
  const float* v_bias;  // [width]
  float* y;             // [rows, 3 * width]
};

struct QkvBackward {
  static constexpr const char* kOp = QkvForward::kOp;
  static constexpr Direction kDirection = Direction::backward;
  int64_t rows, width;
  const float* x;
  Matrix weight;
  const float* dy;  // [rows, 3 * width]
  float* dx;        // [rows, width]
  float* dweight;   // [3 * width, width] +=, or null
  float* dq_bias;   // [width] +=, or null
  float* dv_bias;   // [width] +=, or null
};

extern const OpSpec qkv_op;

}  // namespace mome
