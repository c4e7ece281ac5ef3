// The epilogue that ends both branches of a block: out = x + row_scale * gamma * (product + bias).
#pragma once

#include "cuda/kernels/gemm.h"

namespace mome::cuda {

template <typename T>
struct ResidualEpilogue {
  enum : bool { kLight = true };
  const T* x;
  const float* bias[kMaxGroups];
  const float* gamma;      // or null
  const float* row_scale;  // or null
  T* out;                  // may be x
  int64_t width;
  bool aligned;

  MOME_DEVICE void operator()(int row, int column, int group, int count, bool whole, float (&values)[kRun]) const {
    // One operand after the other: registers are short where this ends a large tile.
    each_of_run(bias[group] + column, count, whole, [&](int i, float b) { values[i] += b; });
    if (gamma != nullptr) each_of_run(gamma + column, count, whole, [&](int i, float g) { values[i] *= g; });
    const float scale = row_scale == nullptr ? 1.0f : row_scale[row];
    each_of_run(x + int64_t{row} * width + column, count, whole,
                [&](int i, float residual) { values[i] = fmaf(scale, values[i], residual); });
    store_run(out + int64_t{row} * width + column, count, whole, values);
  }
};

}  // namespace mome::cuda
