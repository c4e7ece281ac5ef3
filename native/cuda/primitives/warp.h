// Sums and maxima over the lanes of a warp.
#pragma once

#include "cuda/primitives/platform.h"

namespace mome::cuda {

// The value of the lane whose index differs in the bits of `mask`.
template <typename T>
MOME_DEVICE T shuffle_xor(T value, int mask) {
#if defined(MOME_EMULATION)
  return emulation::exchange(value, emulation::lane().index ^ mask);
#else
  return __shfl_xor_sync(0xffffffffu, value, mask);
#endif
}

// The value of lane `from`.
template <typename T>
MOME_DEVICE T shuffle_from(T value, int from) {
#if defined(MOME_EMULATION)
  return emulation::exchange(value, from);
#else
  return __shfl_sync(0xffffffffu, value, from);
#endif
}

template <typename T>
MOME_DEVICE T warp_sum(T value) {
#pragma unroll
  for (int mask = kWarp / 2; mask > 0; mask /= 2) value += shuffle_xor(value, mask);
  return value;
}

MOME_DEVICE float warp_max(float value) {
#pragma unroll
  for (int mask = kWarp / 2; mask > 0; mask /= 2) value = fmaxf(value, shuffle_xor(value, mask));
  return value;
}

// Sum over the block in a fixed order; `scratch` holds one value per warp. Every thread gets the sum.
template <typename T>
MOME_DEVICE T block_sum(T value, T* scratch) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp;
  value = warp_sum(value);
  block_barrier();  // scratch may still be read
  if (lane == 0) scratch[warp] = value;
  block_barrier();
  T sum = 0;
  for (int i = 0; i < static_cast<int>(blockDim.x) / kWarp; i++) sum += scratch[i];
  return sum;
}

}  // namespace mome::cuda
