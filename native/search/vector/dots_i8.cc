// One byte and one multiply-add of each code: the speed is that of the memory the rows come from. Four rows at a time
// share the query and their last sums, which would otherwise cost more than the products of a short row.
//   VNNI   vpdpbusd multiplies an unsigned with a signed byte: codes are taken as code + 128, and 128 times the sum of the query comes off
//   AVX2   codes and query widened to 16 bits, whose products of two fit 32 (vpmaddubsw would saturate)
//   NEON   sdot multiplies signed bytes; without it, two products of a byte each are added in 16 bits, which they fit
#include "search/vector/dots_i8.h"

#if defined(__aarch64__)
#include <arm_neon.h>
#else
#include <immintrin.h>
#endif

namespace mome::MOME_ISA {
namespace {

#if defined(__aarch64__)
using Lanes = int8x16_t;
using Sums = int32x4_t;
using Four = int32x4_t;
constexpr int64_t kStep = 16;
inline Sums zero() { return vdupq_n_s32(0); }
inline Lanes load(const int8_t* values) { return vld1q_s8(values); }
inline Sums multiply_add(Sums sum, Lanes codes, Lanes query) {
#if defined(__ARM_FEATURE_DOTPROD)
  return vdotq_s32(sum, codes, query);
#else
  const int16x8_t products = vmull_s8(vget_low_s8(codes), vget_low_s8(query));
  return vpadalq_s16(sum, vmlal_high_s8(products, codes, query));
#endif
}
inline Sums half(Sums sum) { return sum; }
constexpr int32_t kOffset = 0;
inline Four lane_sums(Sums a, Sums b, Sums c, Sums d) { return vpaddq_s32(vpaddq_s32(a, b), vpaddq_s32(c, d)); }
inline Four less_offset(Four sums, int32_t offset) { return vsubq_s32(sums, vdupq_n_s32(offset)); }
inline void store(int32_t* to, Four sums) { vst1q_s32(to, sums); }
inline int32_t first(Four sums) { return vgetq_lane_s32(sums, 0); }
#else

// The sums of the lanes of four registers.
using Four = __m128i;
inline Four lane_sums(__m256i a, __m256i b, __m256i c, __m256i d) {
  const __m256i sums = _mm256_hadd_epi32(_mm256_hadd_epi32(a, b), _mm256_hadd_epi32(c, d));
  return _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));
}
inline Four less_offset(Four sums, int32_t offset) { return _mm_sub_epi32(sums, _mm_set1_epi32(offset)); }
inline void store(int32_t* to, Four sums) { _mm_storeu_si128(reinterpret_cast<__m128i*>(to), sums); }
inline int32_t first(Four sums) { return _mm_cvtsi128_si32(sums); }

#if defined(__AVX512VNNI__)
using Lanes = __m512i;
constexpr int64_t kStep = 64;
inline Lanes zero() { return _mm512_setzero_si512(); }
inline Lanes load(const int8_t* values) { return _mm512_loadu_si512(values); }
inline Lanes multiply_add(Lanes sum, Lanes codes, Lanes query) {
  return _mm512_dpbusd_epi32(sum, _mm512_xor_si512(codes, _mm512_set1_epi8(-128)), query);
}
inline __m256i half(Lanes sum) {
  return _mm256_add_epi32(_mm512_castsi512_si256(sum), _mm512_extracti64x4_epi64(sum, 1));
}
constexpr int32_t kOffset = 128;
#elif defined(__AVXVNNI__)
using Lanes = __m256i;
constexpr int64_t kStep = 32;
inline Lanes zero() { return _mm256_setzero_si256(); }
inline Lanes load(const int8_t* values) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(values)); }
inline Lanes multiply_add(Lanes sum, Lanes codes, Lanes query) {
  return _mm256_dpbusd_avx_epi32(sum, _mm256_xor_si256(codes, _mm256_set1_epi8(-128)), query);
}
inline __m256i half(Lanes sum) { return sum; }
constexpr int32_t kOffset = 128;
#else
using Lanes = __m256i;  // sixteen codes of 16 bits
constexpr int64_t kStep = 16;
inline Lanes zero() { return _mm256_setzero_si256(); }
inline Lanes load(const int8_t* values) {
  return _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(values)));
}
inline Lanes multiply_add(Lanes sum, Lanes codes, Lanes query) {
  return _mm256_add_epi32(sum, _mm256_madd_epi16(codes, query));
}
inline __m256i half(Lanes sum) { return sum; }
constexpr int32_t kOffset = 0;
#endif
using Sums = Lanes;
#endif

// The sums of rows 0, `b`, `c` and `d`, which are rows after `codes`.
inline Four four_rows(const int8_t* codes, int64_t stride, int64_t b, int64_t c, int64_t d, const int8_t* query) {
  Sums sum_a = zero(), sum_b = zero(), sum_c = zero(), sum_d = zero();
  for (int64_t i = 0; i < stride; i += kStep) {
    const Lanes wanted = load(query + i);
    sum_a = multiply_add(sum_a, load(codes + i), wanted);
    sum_b = multiply_add(sum_b, load(codes + b * stride + i), wanted);
    sum_c = multiply_add(sum_c, load(codes + c * stride + i), wanted);
    sum_d = multiply_add(sum_d, load(codes + d * stride + i), wanted);
  }
  return lane_sums(half(sum_a), half(sum_b), half(sum_c), half(sum_d));
}

}  // namespace

void dots_i8(const int8_t* codes, int64_t rows, int64_t stride, const int8_t* query, int32_t* sums) {
  int32_t offset = 0;
  for (int64_t i = 0; i < stride; i++) offset += kOffset * query[i];
  int64_t row = 0;
  for (; row + 4 <= rows; row += 4)
    store(sums + row, less_offset(four_rows(codes + row * stride, stride, 1, 2, 3, query), offset));
  for (; row < rows; row++)
    sums[row] = first(less_offset(four_rows(codes + row * stride, stride, 0, 0, 0, query), offset));
}

}  // namespace mome::MOME_ISA
