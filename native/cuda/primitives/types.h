// bfloat16, and reading and writing of short runs of elements.
#pragma once

#include "core/matrix.h"
#include "cuda/primitives/platform.h"

#if defined(MOME_EMULATION)
#include <bit>
#else
#include <cuda_bf16.h>
#endif

namespace mome::cuda {

struct bf16 {
  uint16_t bits;
};

MOME_DEVICE float float_of_bits(uint32_t bits) {
#if defined(MOME_EMULATION)
  return std::bit_cast<float>(bits);
#else
  return __uint_as_float(bits);
#endif
}

// Two floats to bfloat16, rounded to nearest even; `low` in the lower half.
MOME_DEVICE uint32_t pack_bf16(float low, float high) {
#if defined(MOME_EMULATION)
  const auto round = [](float value) -> uint32_t {
    const uint32_t bits = std::bit_cast<uint32_t>(value);
    if ((bits & 0x7fffffff) > 0x7f800000) return (bits >> 16) | 0x40;  // NaN stays NaN
    return (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  };
  return round(low) | round(high) << 16;
#else
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const uint32_t*>(&pair);
#endif
}

MOME_DEVICE float to_float(float value) { return value; }
MOME_DEVICE float to_float(bf16 value) { return float_of_bits(static_cast<uint32_t>(value.bits) << 16); }

template <typename T>
MOME_DEVICE T from_float(float value);
template <>
MOME_DEVICE float from_float<float>(float value) {
  return value;
}
template <>
MOME_DEVICE bf16 from_float<bf16>(float value) {
  return {static_cast<uint16_t>(pack_bf16(value, 0))};
}

struct alignas(16) Bytes16 {
  uint32_t word[4];
};

// Elements of one vector access; rows whose width is a multiple of it and whose start is aligned take the vector path.
inline constexpr int kRun = 8;

// values[i] = from[i] for i < count <= kRun, 0 for the others. `aligned`: `from` is aligned to 16 bytes and count is
// kRun.
MOME_DEVICE void load_run(const float* from, int count, bool aligned, float (&values)[kRun]) {
  if (aligned) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const Bytes16 bytes = reinterpret_cast<const Bytes16*>(from)[half];
#pragma unroll
      for (int i = 0; i < 4; i++) values[4 * half + i] = float_of_bits(bytes.word[i]);
    }
    return;
  }
#pragma unroll
  for (int i = 0; i < kRun; i++) values[i] = i < count ? from[i] : 0;
}

MOME_DEVICE void load_run(const bf16* from, int count, bool aligned, float (&values)[kRun]) {
  if (aligned) {
    const Bytes16 bytes = *reinterpret_cast<const Bytes16*>(from);
#pragma unroll
    for (int i = 0; i < 4; i++) {
      values[2 * i] = float_of_bits(bytes.word[i] << 16);
      values[2 * i + 1] = float_of_bits(bytes.word[i] & 0xffff0000u);
    }
    return;
  }
#pragma unroll
  for (int i = 0; i < kRun; i++) values[i] = i < count ? to_float(from[i]) : 0;
}

MOME_DEVICE uint32_t bits_of(float value) {
#if defined(MOME_EMULATION)
  return std::bit_cast<uint32_t>(value);
#else
  return __float_as_uint(value);
#endif
}

MOME_DEVICE void store_run(float* to, int count, bool aligned, const float (&values)[kRun]) {
  if (aligned) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
      Bytes16 bytes;
#pragma unroll
      for (int i = 0; i < 4; i++) bytes.word[i] = bits_of(values[4 * half + i]);
      reinterpret_cast<Bytes16*>(to)[half] = bytes;
    }
    return;
  }
#pragma unroll
  for (int i = 0; i < kRun; i++) {
    if (i < count) to[i] = values[i];
  }
}

MOME_DEVICE void store_run(bf16* to, int count, bool aligned, const float (&values)[kRun]) {
  if (aligned) {
    Bytes16 bytes;
#pragma unroll
    for (int i = 0; i < 4; i++) bytes.word[i] = pack_bf16(values[2 * i], values[2 * i + 1]);
    *reinterpret_cast<Bytes16*>(to) = bytes;
    return;
  }
#pragma unroll
  for (int i = 0; i < kRun; i++) {
    if (i < count) to[i] = from_float<bf16>(values[i]);
  }
}

// body(i, from[i]) for i < count, with few values in registers at a time: for code that ends a tile of many sums.
template <typename Body>
MOME_DEVICE void each_of_run(const float* from, int count, bool aligned, Body&& body) {
  if (aligned) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const Bytes16 bytes = reinterpret_cast<const Bytes16*>(from)[half];
#pragma unroll
      for (int i = 0; i < 4; i++) body(4 * half + i, float_of_bits(bytes.word[i]));
      keep_order();
    }
    return;
  }
#pragma unroll
  for (int i = 0; i < kRun; i++) {
    if (i < count) body(i, from[i]);
  }
}
template <typename Body>
MOME_DEVICE void each_of_run(const bf16* from, int count, bool aligned, Body&& body) {
  if (aligned) {
    const Bytes16 bytes = *reinterpret_cast<const Bytes16*>(from);
#pragma unroll
    for (int i = 0; i < 4; i++) {
      body(2 * i, float_of_bits(bytes.word[i] << 16));
      body(2 * i + 1, float_of_bits(bytes.word[i] & 0xffff0000u));
    }
    keep_order();
    return;
  }
#pragma unroll
  for (int i = 0; i < kRun; i++) {
    if (i < count) body(i, to_float(from[i]));
  }
}

// ---- the functions of the network

// x * Phi(x), exact up to the rounding of erf.
MOME_DEVICE float gelu(float x) { return 0.5f * x * (1.0f + erff(x * 0.70710678118654752440f)); }

template <typename T>
inline constexpr WeightType kWeightType = WeightType::f32;
template <>
inline constexpr WeightType kWeightType<bf16> = WeightType::bf16;

}  // namespace mome::cuda
