// Products of bfloat16: two in every float32 lane, for instruction sets that multiply them (AVX512-BF16, vdpbf16ps;
// Arm's bf16, bfdot).
//
// A word holds two consecutive elements of the contraction, the first in its low half. Every product is exact in
// float32 and is added with one rounding; numbers below 2^-126 count as 0.
#pragma once

#include <cstdint>

#include "cpu/vector/simd.h"

#if defined(MOME_EMULATED)  // emulated.h has them
#define MOME_HAS_PAIRS MOME_EMULATED_BF16
#elif defined(__AVX512BF16__) || defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC)
#define MOME_HAS_PAIRS 1
#else
#define MOME_HAS_PAIRS 0
#endif

#if MOME_HAS_PAIRS && !MOME_OWN_PRIMITIVES  // neon.h has them too

namespace mome::MOME_ISA {
namespace {

// kLanes words.
struct Pairs {
  __m512i v;
};

inline Pairs load_pairs(const void* p) { return {_mm512_loadu_si512(p)}; }
inline void store_pairs(void* p, Pairs x) { _mm512_storeu_si512(p, x.v); }
inline Pairs set1_pairs(uint32_t word) { return {_mm512_set1_epi32(static_cast<int>(word))}; }
// sum + the products of a's and b's low halves and of their high halves.
inline Vec dot_pairs(Vec sum, Pairs a, Pairs b) {
  return {_mm512_dpbf16_ps(sum.v, reinterpret_cast<__m512bh>(a.v), reinterpret_cast<__m512bh>(b.v))};
}
// Words of consecutive values: word i of (x[2 i], x[2 i + 1]) for the 2 kLanes values x of `first` and `second`.
// Rounded to nearest, ties to even.
inline Pairs consecutive_pairs(Vec first, Vec second) {
  return {reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(second.v, first.v))};
}
// Words across two vectors: word i of (low[i], high[i]).
inline Pairs interleaved_pairs(Vec low, Vec high) {
  const __m512i halves = consecutive_pairs(low, high).v;  // all of `low`, then all of `high`
  const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21,
                                         5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  return {_mm512_permutexvar_epi16(order, halves)};
}
// The bits of words in float32 lanes, for what only moves them, and back.
inline Vec as_lanes(Pairs x) { return {_mm512_castsi512_ps(x.v)}; }
inline Pairs as_pairs(Vec x) { return {_mm512_castps_si512(x.v)}; }

}  // namespace
}  // namespace mome::MOME_ISA

#endif
