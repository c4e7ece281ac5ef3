// Sums of 8-bit products in 32-bit lanes, for the instruction set this file is compiled for.
//
//   VNNI     vpdpbusd: four products of an unsigned and a signed byte per lane. Activations are stored as q + 128, and
//            sums start from -128 times the sum of the weights, which makes up for it exactly.
//   AVX2     twice vpmaddubsw, added in 16 bits, and vpmaddwd with ones: eight products per lane for three operations
//            of the multiply ports. Activations are stored as q + 127 in [0, 254]. Weights of one sign among four whose
//            products are summed in 16 bits add up to at most 129 (weight_row_factor in core/quantise.h), so no
//            sum leaves +-254 * 129 = 32,766: nothing saturates. Sums start from -127 times the sum of the weights.
//   AVX-512  without VNNI: vpmaddwd on activations stored as 16 bits and weights widened while they are loaded, two
//            products per lane.
//   NEON     signed bytes on either side, with nothing to make up for (neon.h).
// All are exact. 2^31 / (127 * 255) = 66,000 products fit a lane: deeper than any contraction here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "core/kernel.h"
#include "cpu/vector/simd.h"

namespace mome::MOME_ISA {
namespace {

#if defined(MOME_EMULATED)
inline constexpr int kSumLimit = kNoSumLimit;
#else
inline constexpr int kSumLimit = weight_sum_limit(Target::MOME_ISA);
#endif

#if MOME_OWN_PRIMITIVES  // emulated.h or neon.h has the rest
#elif defined(__AVX512F__)

using Word = uint32_t;
struct Ints {
  __m512i v;
};
inline Ints load_ints(const int32_t* p) { return {_mm512_loadu_si512(p)}; }
inline void store_ints(int32_t* p, Ints x) { _mm512_storeu_si512(p, x.v); }
inline Ints set1_word(const Word* word) { return {_mm512_set1_epi32(static_cast<int>(*word))}; }
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
inline Ints load_weights(const std::byte* step, int v) { return {_mm512_loadu_si512(step + v * 64)}; }
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
inline Ints load_weights(const std::byte* step, int v) {
  return {_mm512_cvtepi8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(step + v * 32)))};
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
inline Ints load_bytes(const std::byte* p) { return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))}; }
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

// kLanes values, rounded to integers, as bytes in the low half. quantise_words, below, makes words of them.
inline __m128i rounded_bytes(Vec x) {
  const __m256i wide = _mm256_cvtps_epi32(x.v);
  const __m128i halves = _mm_packs_epi32(_mm256_castsi256_si128(wide), _mm256_extracti128_si256(wide, 1));
  return _mm_packs_epi16(halves, halves);
}

#if defined(__AVXVNNI__)
using Word = uint32_t;
inline constexpr int kDotDepth = 4;
inline constexpr int32_t kQuantOffset = 128;
inline Ints set1_word(const Word* word) { return {_mm256_set1_epi32(static_cast<int>(*word))}; }
inline Ints load_weights(const std::byte* step, int v) { return load_bytes(step + v * 32); }
inline Ints dot(Ints sum, Ints activations, Ints weights) {
  return {_mm256_dpbusd_avx_epi32(sum.v, activations.v, weights.v)};
}
inline void quantise_words(Vec x, Word* words) {
  const __m128i bytes = _mm_xor_si128(rounded_bytes(x), _mm_set1_epi8(static_cast<char>(0x80)));
  _mm_storel_epi64(reinterpret_cast<__m128i*>(words), bytes);
}
#else
using Word = uint64_t;
inline constexpr int kDotDepth = 8;
inline constexpr int32_t kQuantOffset = kQuantLimit;
static_assert((kQuantLimit + kQuantOffset) * kSumLimit <= INT16_MAX);

// The halves of a step: four activations of a row each, in every lane, and the weights they are multiplied with.
struct IntsPair {
  Ints first, second;
};
inline IntsPair set1_word(const Word* word) {
  // Copied into an array first, g++ 12 would load the word whole and part it in integer registers.
  using Half [[gnu::may_alias]] = int;
  const auto* half = reinterpret_cast<const Half*>(word);
  return {{_mm256_set1_epi32(half[0])}, {_mm256_set1_epi32(half[1])}};
}
inline IntsPair load_weights(const std::byte* step, int v) {
  return {load_bytes(step + v * 32), load_bytes(step + (2 + v) * 32)};
}
inline Ints dot(Ints sum, const IntsPair& activations, const IntsPair& weights) {
  const __m256i first = _mm256_maddubs_epi16(activations.first.v, weights.first.v);
  const __m256i second = _mm256_maddubs_epi16(activations.second.v, weights.second.v);
  const __m256i fours = _mm256_add_epi16(first, second);
  return {_mm256_add_epi32(sum.v, _mm256_madd_epi16(fours, _mm256_set1_epi16(1)))};
}
inline void quantise_words(Vec x, Word* words) {
  const __m128i bytes = _mm_add_epi8(rounded_bytes(x), _mm_set1_epi8(static_cast<char>(kQuantOffset)));
  _mm_storel_epi64(reinterpret_cast<__m128i*>(words), bytes);
}
#endif

#endif

// A Word: kDotDepth consecutive quantised activations of a row. The weights of a step are [kDotDepth / kLaneDepth][two
// vectors of lanes][kLaneDepth].
inline constexpr int kLaneDepth = kDotDepth == 8 ? 4 : kDotDepth;
inline constexpr int kWordsPerVector = kLanes / kDotDepth;
inline constexpr int64_t kStepBytes = int64_t{2} * kLanes * kDotDepth;  // kDotDepth rows of a panel of two vectors

}  // namespace
}  // namespace mome::MOME_ISA
