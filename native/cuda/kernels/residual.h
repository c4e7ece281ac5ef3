// The epilogue that ends both branches of a block: out = x + row_scale * gamma * (product + bias).
#pragma once

#include "cuda/kernels/gemm.h"

namespace mome::cuda {

template <typename T>
struct ResidualEpilogue {
  const T* x;
  const float* bias[kMaxGroups];
  const float* gamma;      // or null
  const float* row_scale;  // or null
  T* out;                  // may be x
  int64_t width;
  bool aligned;

  MOME_DEVICE void operator()(int64_t row, int64_t column, int group, int count, float (&values)[kRun]) const {
    const bool whole = aligned && count == kRun;
    float b[kRun], residual[kRun];
    load_run(bias[group] + column, count, whole, b);
    load_run(x + row * width + column, count, whole, residual);
    const float scale = row_scale == nullptr ? 1.0f : row_scale[row];
    float g[kRun] = {1, 1, 1, 1, 1, 1, 1, 1};
    if (gamma != nullptr) load_run(gamma + column, count, whole, g);
#pragma unroll
    for (int i = 0; i < kRun; i++) values[i] = fmaf(scale * g[i], values[i] + b[i], residual[i]);
    store_run(out + row * width + column, count, whole, values);
  }
};

}  // namespace mome::cuda
