#include <immintrin.h>

#include "native/peaks.h"

namespace mome::avx512_vnni {

using bench::kChains;

float peak_fma(int64_t steps) {
  __m512 sum[kChains];
  for (int i = 0; i < kChains; i++) sum[i] = _mm512_set1_ps(static_cast<float>(i));
  const __m512 factor = _mm512_set1_ps(0.999f), addend = _mm512_set1_ps(0.001f);
  for (int64_t step = 0; step < steps; step++) {
#pragma GCC unroll 32
    for (int i = 0; i < kChains; i++) sum[i] = _mm512_fmadd_ps(sum[i], factor, addend);
  }
  float total = 0;
  for (int i = 0; i < kChains; i++) total += _mm512_cvtss_f32(sum[i]);
  return total;
}

int64_t peak_vnni(int64_t steps) {
  // In assembly: g++ 12 keeps such sums in memory.
  __m512i s0{}, s1{}, s2{}, s3{}, s4{}, s5{}, s6{}, s7{}, s8{}, s9{};
  const __m512i a = _mm512_set1_epi8(3), b = _mm512_set1_epi8(-2);
  for (int64_t step = 0; step < steps; step++) {
    for (int half = 0; half < kChains / 10; half++) {
      asm volatile(
          "vpdpbusd %11, %10, %0\n vpdpbusd %11, %10, %1\n vpdpbusd %11, %10, %2\n vpdpbusd %11, %10, %3\n"
          " vpdpbusd %11, %10, %4\nvpdpbusd %11, %10, %5\n vpdpbusd %11, %10, %6\n vpdpbusd %11, %10, %7\n"
          " vpdpbusd %11, %10, %8\n vpdpbusd %11, %10, %9\n"
          : "+v"(s0), "+v"(s1), "+v"(s2), "+v"(s3), "+v"(s4), "+v"(s5), "+v"(s6), "+v"(s7), "+v"(s8), "+v"(s9)
          : "v"(a), "v"(b));
    }
  }
  return _mm_cvtsi128_si32(_mm512_castsi512_si128(s0)) + _mm_cvtsi128_si32(_mm512_castsi512_si128(s9));
}

}  // namespace mome::avx512_vnni
