// Rows of an optional group's own LayerNorm: y = (x - mean) / sqrt(variance + eps) * gamma + beta. One warp per row,
// the row in registers, the variance from the centred values (two passes, no cancellation). 2 bytes read and 2 written
// per element: bound by memory.
#pragma once

#include "cuda/kernels/row_groups.h"
#include "cuda/primitives/queue.h"
#include "cuda/primitives/types.h"
#include "cuda/primitives/warp.h"

namespace mome::cuda {

struct NormGroups {
  RowGroups rows;  // rows of no group are skipped
  const float* gamma[kMaxGroups];
  const float* beta[kMaxGroups];
};

inline constexpr int kNormWarps = 4;
inline constexpr int kNormMaxRuns = 4;  // of kRun columns per lane: rows of up to 1,024 columns stay in registers

// The runs of kRun columns a lane owns: columns (run * 32 + lane) * 8 on.
template <typename Body>
MOME_DEVICE void for_lane_runs(int64_t width, Body&& body) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  for (int64_t column = int64_t{lane} * kRun; column < width; column += kWarp * kRun) {
    body(column, width - column < kRun ? static_cast<int>(width - column) : kRun);
  }
}

template <typename T, int kRuns>
MOME_KERNEL(kNormWarps * 32)
layer_norm_forward_cuda(const T* x, int64_t width, float eps, MOME_PARAMETER NormGroups groups, bool aligned, T* y) {
  const int64_t row = int64_t{blockIdx.x} * kNormWarps + threadIdx.x / kWarp;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const GroupBounds bounds = read_bounds(groups.rows);
  if (row < bounds.at[0] || row >= bounds.at[kMaxGroups]) return;
  const float* gamma = groups.gamma[0];
  const float* beta = groups.beta[0];
#pragma unroll
  for (int group = 1; group < kMaxGroups; group++) {
    if (row < bounds.at[group]) continue;
    gamma = groups.gamma[group];
    beta = groups.beta[group];
  }
  const T* from = x + row * width;
  T* to = y + row * width;

  if constexpr (kRuns > 0) {
    float values[kRuns][kRun];
    float sum = 0;
#pragma unroll
    for (int run = 0; run < kRuns; run++) {
      const int64_t column = int64_t{run * kWarp + lane} * kRun;
      load_run(from + column, 0, column < width, values[run]);
#pragma unroll
      for (int i = 0; i < kRun; i++) sum += values[run][i];
    }
    const float mean = warp_sum(sum) / static_cast<float>(width);
    float squares = 0;
#pragma unroll
    for (int run = 0; run < kRuns; run++) {
      if (int64_t{run * kWarp + lane} * kRun >= width) continue;
#pragma unroll
      for (int i = 0; i < kRun; i++) squares = fmaf(values[run][i] - mean, values[run][i] - mean, squares);
    }
    const float scale = 1.0f / sqrtf(warp_sum(squares) / static_cast<float>(width) + eps);
#pragma unroll
    for (int run = 0; run < kRuns; run++) {
      const int64_t column = int64_t{run * kWarp + lane} * kRun;
      if (column >= width) continue;
      float g[kRun], b[kRun];
      load_run(gamma + column, kRun, true, g);
      load_run(beta + column, kRun, true, b);
#pragma unroll
      for (int i = 0; i < kRun; i++) values[run][i] = (values[run][i] - mean) * scale * g[i] + b[i];
      store_run(to + column, kRun, true, values[run]);
    }
  } else {
    float sum = 0;
    for_lane_runs(width, [&](int64_t column, int count) {
      float values[kRun];
      load_run(from + column, count, aligned && count == kRun, values);
      for (int i = 0; i < kRun; i++) sum += values[i];
    });
    const float mean = warp_sum(sum) / static_cast<float>(width);
    float squares = 0;
    for_lane_runs(width, [&](int64_t column, int count) {
      float values[kRun];
      load_run(from + column, count, aligned && count == kRun, values);
      for (int i = 0; i < count; i++) squares = fmaf(values[i] - mean, values[i] - mean, squares);
    });
    const float scale = 1.0f / sqrtf(warp_sum(squares) / static_cast<float>(width) + eps);
    for_lane_runs(width, [&](int64_t column, int count) {
      float values[kRun];
      load_run(from + column, count, aligned && count == kRun, values);
      for (int i = 0; i < count; i++) values[i] = (values[i] - mean) * scale * gamma[column + i] + beta[column + i];
      store_run(to + column, count, aligned && count == kRun, values);
    });
  }
}

template <typename T>
Status normalise(const Queue& queue, const T* x, int64_t width, float eps, const NormGroups& groups, T* y) {
  bool aligned = width % kRun == 0;
  for (const void* pointer : {static_cast<const void*>(x), static_cast<const void*>(y)})
    aligned &= reinterpret_cast<uintptr_t>(pointer) % 16 == 0;
  for (int group = 0; group < groups.rows.groups; group++) {
    aligned &= reinterpret_cast<uintptr_t>(groups.gamma[group]) % 16 == 0 &&
               reinterpret_cast<uintptr_t>(groups.beta[group]) % 16 == 0;
  }
  const int64_t runs = (width + kWarp * kRun - 1) / (kWarp * kRun);
  const Dim3 grid = {static_cast<unsigned>((groups.rows.rows + kNormWarps - 1) / kNormWarps), 1, 1};
  const auto run = [&](auto kernel) {
    return launch(kernel, grid, kNormWarps * kWarp, 0, queue.stream, x, width, eps, groups, aligned, y);
  };
  if (!aligned || runs > kNormMaxRuns) return run(layer_norm_forward_cuda<T, 0>);
  if (runs == 1) return run(layer_norm_forward_cuda<T, 1>);
  if (runs == 2) return run(layer_norm_forward_cuda<T, 2>);
  if (runs == 3) return run(layer_norm_forward_cuda<T, 3>);
  return run(layer_norm_forward_cuda<T, 4>);
}

}  // namespace mome::cuda
