// Sums of 8-bit products in 32-bit lanes, for the instruction set this file is compiled for.
//
//   AVX-512 VNNI  vpdpbusd: four products of an unsigned and a signed byte per lane. Activations are stored as q + 128,
//   and
//                 sums start from -128 times the sum of the weights, which makes up for it exactly.
//   otherwise     vpmaddwd on activations stored as 16 bits and weights widened while they are loaded: two products per
//   lane,
//                 exact. (vpmaddubsw would be faster, but it saturates: 2 * 255 * 127 does not fit 16 bits.)
// 2^31 / (127 * 255) = 66,000 products fit a lane: deeper than any contraction here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "cpu/vector/simd.h"

namespace mome::MOME_ISA {
namespace {

using Word = uint32_t;  // kDotDepth consecutive quantised activations of a row

#if defined(__AVX512F__)

struct Ints {
  __m512i v;
};
inline Ints load_ints(const int32_t* p) { return {_mm512_loadu_si512(p)}; }
inline void store_ints(int32_t* p, Ints x) { _mm512_storeu_si512(p, x.v); }
inline Ints set1_word(Word word) { return {_mm512_set1_epi32(static_cast<int>(word))}; }
inline Vec to_float(Ints x) { return {_mm512_cvtepi32_ps(x.v)}; }
inline int32_t largest_bits(Vec x) {  // of the magnitudes; NaN above infinity above all numbers
  return _mm512_reduce_max_epi32(_mm512_castps_si512(abs(x).v));
}
inline Vec max_magnitude(Vec a, Vec b) {  // a is not negative; NaN wins
  return {_mm512_castsi512_ps(_mm512_max_epi32(_mm512_castps_si512(a.v), _mm512_castps_si512(abs(b).v)))};
}

#if defined(__AVX512VNNI__)
inline constexpr int kDotDepth = 4;
inline constexpr int32_t kQuantOffset = 128;
inline Ints load_weights(const std::byte* p) { return {_mm512_loadu_si512(p)}; }
inline Ints dot(Ints sum, Ints activations, Ints weights) {
  return {_mm512_dpbusd_epi32(sum.v, activations.v, weights.v)};
}
// kLanes values, rounded to integers in [-127, 127], as kLanes / kDotDepth words.
inline void quantise_words(Vec x, Word* words) {
  const __m128i bytes = _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(x.v));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(words), _mm_xor_si128(bytes, _mm_set1_epi8(static_cast<char>(0x80))));
}
#else
inline constexpr int kDotDepth = 2;
inline constexpr int32_t kQuantOffset = 0;
inline Ints load_weights(const std::byte* p) {
  return {_mm512_cvtepi8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
}
inline Ints dot(Ints sum, Ints activations, Ints weights) {
  return {_mm512_add_epi32(sum.v, _mm512_madd_epi16(activations.v, weights.v))};
}
inline void quantise_words(Vec x, Word* words) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(words), _mm512_cvtsepi32_epi16(_mm512_cvtps_epi32(x.v)));
}
#endif

#else

struct Ints {
  __m256i v;
};
inline Ints load_ints(const int32_t* p) { return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))}; }
inline void store_ints(int32_t* p, Ints x) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), x.v); }
inline Ints set1_word(Word word) { return {_mm256_set1_epi32(static_cast<int>(word))}; }
inline Vec to_float(Ints x) { return {_mm256_cvtepi32_ps(x.v)}; }
inline Vec max_magnitude(Vec a, Vec b) {
  return {_mm256_castsi256_ps(_mm256_max_epi32(_mm256_castps_si256(a.v), _mm256_castps_si256(abs(b).v)))};
}
inline int32_t largest_bits(Vec x) {
  const __m256i bits = _mm256_castps_si256(abs(x).v);
  __m128i most = _mm_max_epi32(_mm256_castsi256_si128(bits), _mm256_extracti128_si256(bits, 1));
  most = _mm_max_epi32(most, _mm_shuffle_epi32(most, 0x4e));
  most = _mm_max_epi32(most, _mm_shuffle_epi32(most, 0xb1));
  return _mm_cvtsi128_si32(most);
}

inline constexpr int kDotDepth = 2;
inline constexpr int32_t kQuantOffset = 0;
inline Ints load_weights(const std::byte* p) {
  return {_mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))};
}
inline Ints dot(Ints sum, Ints activations, Ints weights) {
  return {_mm256_add_epi32(sum.v, _mm256_madd_epi16(activations.v, weights.v))};
}
inline void quantise_words(Vec x, Word* words) {
  const __m256i wide = _mm256_cvtps_epi32(x.v);
  const __m128i halves = _mm_packs_epi32(_mm256_castsi256_si128(wide), _mm256_extracti128_si256(wide, 1));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(words), halves);
}

#endif

inline constexpr int kWordsPerVector = kLanes / kDotDepth;
inline constexpr int64_t kStepBytes = int64_t{2} * kLanes * kDotDepth;  // kDotDepth rows of a panel of two vectors

}  // namespace
}  // namespace mome::MOME_ISA
