// Products of 16-bit integers: two in every 32-bit lane, as attention of 8-bit models multiplies. vpdpwssd where there
// is VNNI, otherwise vpmaddwd and an addition.
//
// A word holds two consecutive elements of the contraction, the first in its low half. Sums are exact as long as they
// fit 32 bits (core/quantise.h proves it of each product here); beyond that they wrap around.
#pragma once

#include "cpu/vector/dot.h"
#include "cpu/vector/simd.h"

namespace mome::MOME_ISA {
namespace {

#if MOME_OWN_PRIMITIVES  // emulated.h or neon.h has them
#elif defined(__AVX512F__)

// To the nearest integers, ties to even; -2^31 for what does not fit and for NaN.
inline Ints rounded(Vec x) { return {_mm512_cvtps_epi32(x.v)}; }
// Words of consecutive values: word i of (x[2 i], x[2 i + 1]) for the 2 kLanes values x of `first` and `second`, kept
// within 16 bits.
inline Ints consecutive_words(Ints first, Ints second) {
  const __m512i quarters = _mm512_packs_epi32(first.v, second.v);  // four values of each in turn
  return {_mm512_permutexvar_epi64(_mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7), quarters)};
}
// Words across two vectors: word i of the low halves of (low[i], high[i]).
inline Ints interleaved_words(Ints low, Ints high) {
  return {_mm512_mask_blend_epi16(0xaaaaaaaau, low.v, _mm512_slli_epi32(high.v, 16))};
}
// sum + the products of a's and b's low halves and of their high halves.
inline Ints dot_words(Ints sum, Ints a, Ints b) {
#if defined(__AVX512VNNI__)
  return {_mm512_dpwssd_epi32(sum.v, a.v, b.v)};
#else
  return {_mm512_add_epi32(sum.v, _mm512_madd_epi16(a.v, b.v))};
#endif
}
// The bits of integers in float32 lanes, for what only moves them, and back.
inline Vec as_lanes(Ints x) { return {_mm512_castsi512_ps(x.v)}; }
inline Ints as_ints(Vec x) { return {_mm512_castps_si512(x.v)}; }

#else

inline Ints rounded(Vec x) { return {_mm256_cvtps_epi32(x.v)}; }
inline Ints consecutive_words(Ints first, Ints second) {
  const __m256i quarters = _mm256_packs_epi32(first.v, second.v);
  return {_mm256_permute4x64_epi64(quarters, 0xd8)};
}
inline Ints interleaved_words(Ints low, Ints high) {
  return {_mm256_blend_epi16(low.v, _mm256_slli_epi32(high.v, 16), 0xaa)};
}
inline Ints dot_words(Ints sum, Ints a, Ints b) {
#if defined(__AVXVNNI__)
  return {_mm256_dpwssd_avx_epi32(sum.v, a.v, b.v)};
#else
  return {_mm256_add_epi32(sum.v, _mm256_madd_epi16(a.v, b.v))};
#endif
}
inline Vec as_lanes(Ints x) { return {_mm256_castsi256_ps(x.v)}; }
inline Ints as_ints(Vec x) { return {_mm256_castps_si256(x.v)}; }

#endif

}  // namespace
}  // namespace mome::MOME_ISA
