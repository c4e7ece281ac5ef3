// gather_rows: y[i] = x[index[i]]. Backward: dx = 0, then dx[index[i]] += dy[i] in ascending i.
#pragma once

#include "core/ops/common.h"

namespace mome {

struct GatherRowsForward {
  static constexpr const char* kOp = "gather_rows";
  static constexpr Direction kDirection = Direction::forward;
  int64_t rows, width, count;
  const float* x;        // [rows, width]
  const int32_t* index;  // [count] in [0, rows)
  float* y;              // [count, width]
};

struct GatherRowsBackward {
  static constexpr const char* kOp = GatherRowsForward::kOp;
  static constexpr Direction kDirection = Direction::backward;
  int64_t rows, width, count;
  const int32_t* index;
  const float* dy;     // [count, width]
  bool accumulate_dx;  // leave out the zeroing: dx already holds a gradient
  float* dx;           // [rows, width]
};

extern const OpSpec gather_rows_op;

}  // namespace mome
