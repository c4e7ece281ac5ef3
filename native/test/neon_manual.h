// What Arm's manual says that conversions to integers, products of bytes and products of bfloat16 do, one number after
// the other: where NEON differs from the instruction sets that cpu/vector/emulated.h has.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

namespace mome::test {

// fcvtns and sqxtn: to the nearest, ties to even; the end of the range for what does not fit, and 0 for NaN.
inline int32_t manual_rounded(uint32_t word, double least, double most) {
  const double x = std::bit_cast<float>(word);
  if (std::isnan(x)) return 0;
  return static_cast<int32_t>(std::fmin(std::fmax(std::nearbyint(x), least), most));
}

// sdot of one lane: four products of signed bytes; sums wrap around.
inline uint32_t manual_dot(uint32_t sum, uint32_t a, uint32_t b) {
  for (int byte = 0; byte < 4; byte++)
    sum += static_cast<uint32_t>(static_cast<int8_t>(a >> 8 * byte) * static_cast<int8_t>(b >> 8 * byte));
  return sum;
}

// bfcvtn: to the nearest, ties to even. Results below the normal numbers stay what they are.
inline uint32_t manual_bf16(uint32_t word) {
  if ((word & 0x7fffffffu) > 0x7f800000u) return word >> 16 | 0x40;
  return (word + 0x7fffu + (word >> 16 & 1u)) >> 16;
}

// A double, exact or rounded to odd (its last bit is 1 where it is not exact), as a float that is rounded to odd; 0
// below the normal floats. A double has so many more digits that rounding twice to odd is rounding once.
inline float odd_float(double x) {
  if (!std::isfinite(x)) return static_cast<float>(x);
  if (std::fabs(x) < 0x1p-126) return std::copysign(0.0f, static_cast<float>(x));
  uint64_t bits = std::bit_cast<uint64_t>(x);
  if ((bits & 0x1fffffffu) != 0) bits = (bits & ~uint64_t{0x1fffffff}) | 0x20000000u;
  return static_cast<float>(std::bit_cast<double>(bits));
}
// a + b rounded to odd.
inline float odd_sum(double a, double b) {
  const double sum = a + b;
  if (std::isfinite(sum)) {
    const double part = sum - a, error = (a - (sum - part)) + (b - part);
    uint64_t bits = std::bit_cast<uint64_t>(sum);
    // Towards zero first where the sum was rounded away from it, then to odd.
    if (error != 0) {
      if ((error > 0) != (sum > 0)) bits--;
      bits |= 1;
      return odd_float(std::bit_cast<double>(bits));
    }
  }
  return odd_float(sum);
}

inline double normal_or_zero(double x) { return std::fabs(x) < 0x1p-126 ? std::copysign(0.0, x) : x; }

// bfdot of one lane: both products and their sums are rounded to odd. Numbers below 2^-126 count as 0.
inline uint32_t manual_bf16_dot(uint32_t sum, uint32_t a, uint32_t b) {
  const auto half = [](uint32_t word, int i) {
    return normal_or_zero(std::bit_cast<float>(i == 0 ? word << 16 : word & 0xffff0000u));
  };
  const float first = odd_float(half(a, 0) * half(b, 0)), second = odd_float(half(a, 1) * half(b, 1));
  return std::bit_cast<uint32_t>(odd_sum(normal_or_zero(std::bit_cast<float>(sum)), odd_sum(first, second)));
}

}  // namespace mome::test
