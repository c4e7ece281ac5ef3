// One vector of float32 lanes for the instruction set this translation unit is compiled for (see kernels.h).
#pragma once

#ifndef MOME_ISA
#error "define MOME_ISA (such as avx512_vnni) before including"
#endif

// Whether one header has the primitives of simd.h, dot.h, words.h, pairs.h and gemm_pack.h together.
#if defined(MOME_EMULATED)
#define MOME_OWN_PRIMITIVES 1
#include "cpu/vector/emulated.h"
#elif defined(__aarch64__)
#define MOME_OWN_PRIMITIVES 1
#include "cpu/vector/neon.h"
#else
#define MOME_OWN_PRIMITIVES 0

#include <immintrin.h>

#include <cstdint>

namespace mome::MOME_ISA {
namespace {

#if defined(__AVX512F__)

inline constexpr int kLanes = 16;

struct Vec {
  __m512 v;
};
using Mask = __mmask16;

inline Vec zero() { return {_mm512_setzero_ps()}; }
inline Vec set1(float x) { return {_mm512_set1_ps(x)}; }
inline Vec load(const float* p) { return {_mm512_loadu_ps(p)}; }
inline void store(float* p, Vec x) { _mm512_storeu_ps(p, x.v); }
// The first `count` lanes; others read as 0 and are not written. 0 <= count <= kLanes.
inline Mask first_lanes(int64_t count) { return static_cast<Mask>((1u << count) - 1u); }
inline Mask first_lanes_mask(int64_t count) { return first_lanes(count); }
inline Vec load(const float* p, int64_t count) { return {_mm512_maskz_loadu_ps(first_lanes(count), p)}; }
inline void store(float* p, Vec x, int64_t count) { _mm512_mask_storeu_ps(p, first_lanes(count), x.v); }

inline Vec operator+(Vec a, Vec b) { return {_mm512_add_ps(a.v, b.v)}; }
inline Vec operator-(Vec a, Vec b) { return {_mm512_sub_ps(a.v, b.v)}; }
inline Vec operator*(Vec a, Vec b) { return {_mm512_mul_ps(a.v, b.v)}; }
inline Vec operator/(Vec a, Vec b) { return {_mm512_div_ps(a.v, b.v)}; }
inline Vec fma(Vec a, Vec b, Vec c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }    // a * b + c
inline Vec fnma(Vec a, Vec b, Vec c) { return {_mm512_fnmadd_ps(a.v, b.v, c.v)}; }  // c - a * b
inline Vec min(Vec a, Vec b) { return {_mm512_min_ps(a.v, b.v)}; }                  // b where a is NaN
inline Vec max(Vec a, Vec b) { return {_mm512_max_ps(a.v, b.v)}; }                  // b where a is NaN
inline Vec sqrt(Vec a) { return {_mm512_sqrt_ps(a.v)}; }
inline Vec abs(Vec a) { return {_mm512_abs_ps(a.v)}; }
inline Vec round(Vec a) { return {_mm512_roundscale_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }
inline Vec copy_sign(Vec magnitude, Vec sign) {
  return {_mm512_castsi512_ps(_mm512_ternarylogic_epi32(_mm512_castps_si512(magnitude.v), _mm512_castps_si512(sign.v),
                                                        _mm512_set1_epi32(0x7fffffff), 0xe4))};
}
inline Mask less(Vec a, Vec b) { return _mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ); }
inline Vec select(Mask m, Vec yes, Vec no) { return {_mm512_mask_blend_ps(m, no.v, yes.v)}; }
// x * 2^n for integral n in [-127, 128].
inline Vec scale_by_power(Vec x, Vec n) { return {_mm512_scalef_ps(x.v, n.v)}; }

// Horizontal sums run as a fixed tree; both sets fold halves in the same manner.
inline float reduce_add(Vec a) { return _mm512_reduce_add_ps(a.v); }
inline float reduce_max(Vec a) { return _mm512_reduce_max_ps(a.v); }

// Two vectors of bfloat16 from the low and high halves of one vector of words.
inline void load_bf16(const void* p, Vec& low, Vec& high) {
  const __m512i words = _mm512_loadu_si512(p);
  low = {_mm512_castsi512_ps(_mm512_slli_epi32(words, 16))};
  high = {_mm512_castsi512_ps(_mm512_and_si512(words, _mm512_set1_epi32(static_cast<int>(0xffff0000u))))};
}

#elif defined(__AVX2__) && defined(__FMA__)

inline constexpr int kLanes = 8;

struct Vec {
  __m256 v;
};
struct Mask {
  __m256 m;
};

inline Vec zero() { return {_mm256_setzero_ps()}; }
inline Vec set1(float x) { return {_mm256_set1_ps(x)}; }
inline Vec load(const float* p) { return {_mm256_loadu_ps(p)}; }
inline void store(float* p, Vec x) { _mm256_storeu_ps(p, x.v); }
inline __m256i first_lanes(int64_t count) {
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(count)), lane);
}
inline Mask first_lanes_mask(int64_t count) { return {_mm256_castsi256_ps(first_lanes(count))}; }
inline Vec load(const float* p, int64_t count) { return {_mm256_maskload_ps(p, first_lanes(count))}; }
inline void store(float* p, Vec x, int64_t count) { _mm256_maskstore_ps(p, first_lanes(count), x.v); }

inline Vec operator+(Vec a, Vec b) { return {_mm256_add_ps(a.v, b.v)}; }
inline Vec operator-(Vec a, Vec b) { return {_mm256_sub_ps(a.v, b.v)}; }
inline Vec operator*(Vec a, Vec b) { return {_mm256_mul_ps(a.v, b.v)}; }
inline Vec operator/(Vec a, Vec b) { return {_mm256_div_ps(a.v, b.v)}; }
inline Vec fma(Vec a, Vec b, Vec c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
inline Vec fnma(Vec a, Vec b, Vec c) { return {_mm256_fnmadd_ps(a.v, b.v, c.v)}; }
inline Vec min(Vec a, Vec b) { return {_mm256_min_ps(a.v, b.v)}; }
inline Vec max(Vec a, Vec b) { return {_mm256_max_ps(a.v, b.v)}; }
inline Vec sqrt(Vec a) { return {_mm256_sqrt_ps(a.v)}; }
inline Vec abs(Vec a) { return {_mm256_andnot_ps(_mm256_set1_ps(-0.0f), a.v)}; }
inline Vec round(Vec a) { return {_mm256_round_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }
inline Vec copy_sign(Vec magnitude, Vec sign) {
  const __m256 bit = _mm256_set1_ps(-0.0f);
  return {_mm256_or_ps(_mm256_andnot_ps(bit, magnitude.v), _mm256_and_ps(bit, sign.v))};
}
inline Mask less(Vec a, Vec b) { return {_mm256_cmp_ps(a.v, b.v, _CMP_LT_OQ)}; }
inline Vec select(Mask m, Vec yes, Vec no) { return {_mm256_blendv_ps(no.v, yes.v, m.m)}; }
inline Vec scale_by_power(Vec x, Vec n) {
  // In two factors, so that n = -127 and 128 stay inside the exponent field.
  const __m256i whole = _mm256_cvtps_epi32(n.v);
  const __m256i half = _mm256_srai_epi32(whole, 1);
  const __m256i rest = _mm256_sub_epi32(whole, half);
  const __m256i bias = _mm256_set1_epi32(127);
  const __m256 a = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(half, bias), 23));
  const __m256 b = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(rest, bias), 23));
  return {_mm256_mul_ps(_mm256_mul_ps(x.v, a), b)};
}

inline float reduce_add(Vec a) {
  __m128 x = _mm_add_ps(_mm256_castps256_ps128(a.v), _mm256_extractf128_ps(a.v, 1));
  x = _mm_add_ps(x, _mm_movehl_ps(x, x));
  return _mm_cvtss_f32(_mm_add_ss(x, _mm_shuffle_ps(x, x, 1)));
}
inline float reduce_max(Vec a) {
  __m128 x = _mm_max_ps(_mm256_castps256_ps128(a.v), _mm256_extractf128_ps(a.v, 1));
  x = _mm_max_ps(x, _mm_movehl_ps(x, x));
  return _mm_cvtss_f32(_mm_max_ss(x, _mm_shuffle_ps(x, x, 1)));
}

// Two vectors of bfloat16 from the low and high halves of one vector of words.
inline void load_bf16(const void* p, Vec& low, Vec& high) {
  const __m256i words = _mm256_loadu_si256(static_cast<const __m256i*>(p));
  low = {_mm256_castsi256_ps(_mm256_slli_epi32(words, 16))};
  high = {_mm256_castsi256_ps(_mm256_and_si256(words, _mm256_set1_epi32(static_cast<int>(0xffff0000u))))};
}

#else
#error "compile with AVX2 + FMA or AVX-512F"
#endif

}  // namespace
}  // namespace mome::MOME_ISA

#endif
