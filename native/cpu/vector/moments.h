// Mean and inverse standard deviation of a row. Sums are kept in kLanes float lanes and folded once: a row's result
// depends on nothing but the row.
#pragma once

#include "cpu/vector/simd.h"

namespace mome::MOME_ISA {
namespace {

struct Moments {
  float mean, inverse_deviation;
};

// Mean and 1 / sqrt(variance + eps) of a row, in two passes: squares of centred values lose no digits.
inline Moments row_moments(const float* x, int64_t width, float eps) {
  Vec sum = zero();
  int64_t j = 0;
  for (; j + kLanes <= width; j += kLanes) sum = sum + load(x + j);
  if (j < width) sum = sum + load(x + j, width - j);
  const float mean = reduce_add(sum) / static_cast<float>(width);
  const Vec centre = set1(mean);
  Vec squares = zero();
  for (j = 0; j + kLanes <= width; j += kLanes) {
    const Vec d = load(x + j) - centre;
    squares = fma(d, d, squares);
  }
  float variance = 0;
  for (; j < width; ++j) {
    const float d = x[j] - mean;
    variance += d * d;
  }
  variance = (variance + reduce_add(squares)) / static_cast<float>(width);
  return {mean, 1.0f / __builtin_sqrtf(variance + eps)};
}

}  // namespace
}  // namespace mome::MOME_ISA
