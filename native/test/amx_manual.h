// What Intel's manual says that multiplications in AMX's tile registers do, one number after the other. Registers are
// 16 rows of 16 words.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

namespace mome::test {

inline constexpr int kTileSide = 16;

inline float without_denormals(float x) {
  return (std::bit_cast<uint32_t>(x) & 0x7f800000u) == 0 ? std::copysign(0.0f, x) : x;
}
inline float bf16_half(uint32_t word, int half) {
  return without_denormals(std::bit_cast<float>(half == 0 ? word << 16 : word & 0xffff0000u));
}

// tdpbf16ps: the products of even and of odd elements are summed apart, from 0 on. Numbers below 2^-126 count as 0.
inline void manual_bf16_products(int rows, uint32_t* sums, const uint32_t* a, const uint32_t* b) {
  for (int m = 0; m < rows; m++) {
    for (int n = 0; n < kTileSide; n++) {
      float sum[2] = {0, 0};
      for (int k = 0; k < kTileSide; k++) {
        for (int half = 0; half < 2; half++) {
          const float x = bf16_half(a[m * kTileSide + k], half), y = bf16_half(b[k * kTileSide + n], half);
          sum[half] = without_denormals(std::fma(x, y, sum[half]));
        }
      }
      uint32_t& word = sums[m * kTileSide + n];
      const float before = without_denormals(std::bit_cast<float>(word));
      word = std::bit_cast<uint32_t>(without_denormals(before + without_denormals(sum[0] + sum[1])));
    }
  }
}

// tdpbusd: bytes of the rows are unsigned, those of the columns signed; sums wrap around.
inline void manual_byte_products(int rows, uint32_t* sums, const uint32_t* a, const uint32_t* b) {
  for (int m = 0; m < rows; m++) {
    for (int n = 0; n < kTileSide; n++) {
      for (int k = 0; k < kTileSide; k++) {
        for (int byte = 0; byte < 4; byte++) {
          const int x = static_cast<uint8_t>(a[m * kTileSide + k] >> 8 * byte);
          const int y = static_cast<int8_t>(b[k * kTileSide + n] >> 8 * byte);
          sums[m * kTileSide + n] += static_cast<uint32_t>(x * y);
        }
      }
    }
  }
}

}  // namespace mome::test
