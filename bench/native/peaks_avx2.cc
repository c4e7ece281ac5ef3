#include <immintrin.h>

#include "native/peaks.h"

namespace mome::avx2 {

using bench::kChains;

float peak_fma(int64_t steps) {
  constexpr int kSums = kChains / 2;
  __m256 sum[kSums];
  for (int i = 0; i < kSums; i++) sum[i] = _mm256_set1_ps(static_cast<float>(i));
  const __m256 factor = _mm256_set1_ps(0.999f), addend = _mm256_set1_ps(0.001f);
  for (int64_t step = 0; step < steps; step++) {
#pragma GCC unroll 32
    for (int i = 0; i < kSums; i++) sum[i] = _mm256_fmadd_ps(sum[i], factor, addend);
  }
  float total = 0;
  for (int i = 0; i < kSums; i++) total += _mm256_cvtss_f32(sum[i]);
  return total;
}

float peak_read(const float* data, int64_t count) {
  __m256 sum[8] = {};
  for (int64_t i = 0; i + 64 <= count; i += 64) {
#pragma GCC unroll 8
    for (int v = 0; v < 8; v++) sum[v] = _mm256_add_ps(sum[v], _mm256_load_ps(data + i + 8 * v));
  }
  float total = 0;
  for (int v = 0; v < 8; v++) total += _mm256_cvtss_f32(sum[v]);
  return total;
}

}  // namespace mome::avx2
