// What simd.h, dot.h, words.h, pairs.h and the transposition of gemm_pack.h give, on 64-bit Arm.
//
// Eight lanes are two registers of NEON. Tiles are those of AVX2: 6 rows x 2 vectors make 24 accumulators, and with 4
// registers of B and a broadcast they fill 29 of 32. Sums, folds and roundings are those of eight lanes on x86-64, so
// that float32 has the same bits there; products of bytes and of bfloat16 are:
//
//   int8      sdot where there is asimddp: four products of signed bytes per lane. Otherwise smull, whose products of
//             two fit 16 bits (2 * 127^2 < 2^15), addp, and sadalp: the same sums from the same layout.
//   bfloat16  bfdot where there is bf16: two products per lane, summed and added to the lane with two roundings to odd;
//             numbers below 2^-126 count as 0. Otherwise weights are widened while they are loaded.
#pragma once

#include <arm_neon.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace mome::MOME_ISA {
namespace {

inline constexpr int kLanes = 8;

struct Vec {
  float32x4_t low, high;
};
struct Mask {
  uint32x4_t low, high;
};
struct Ints {
  int32x4_t low, high;
};

// Memory of any type: what is loaded as numbers may have been stored as words.
template <typename Vector>
inline Vector read(const void* p) {
  Vector x;
  std::memcpy(&x, p, sizeof x);
  return x;
}
template <typename Vector>
inline void write(void* p, Vector x) {
  std::memcpy(p, &x, sizeof x);
}

// ---- Vectors of float32 -----------------------------------------------------------------------------------------------------

inline Vec set1(float x) { return {vdupq_n_f32(x), vdupq_n_f32(x)}; }
inline Vec zero() { return set1(0); }
inline Vec load(const float* p) { return {read<float32x4_t>(p), read<float32x4_t>(p + 4)}; }
inline void store(float* p, Vec x) { write(p, x.low), write(p + 4, x.high); }

// The first `count` of four numbers, at most all.
inline float32x4_t load_some(const float* p, int64_t count) {
  const float32x4_t none = vdupq_n_f32(0);
  switch (count) {
    case 0: return none;
    case 1: return vsetq_lane_f32(read<float>(p), none, 0);
    case 2: return vcombine_f32(read<float32x2_t>(p), vget_low_f32(none));
    case 3: return vsetq_lane_f32(read<float>(p + 2), vcombine_f32(read<float32x2_t>(p), vget_low_f32(none)), 2);
    default: return read<float32x4_t>(p);
  }
}
inline void store_some(float* p, float32x4_t x, int64_t count) {
  if (count >= 4) return write(p, x);
  if (count >= 2) write(p, vget_low_f32(x));
  if (count == 1) write(p, vgetq_lane_f32(x, 0));
  if (count == 3) write(p + 2, vgetq_lane_f32(x, 2));
}
// NEON has no masks for memory. (Tails are rare: inlined everywhere, their branches would fill the cache.)
[[gnu::noinline]] inline Vec load(const float* p, int64_t count) {
  if (count <= 4) return {load_some(p, count), vdupq_n_f32(0)};
  return {read<float32x4_t>(p), load_some(p + 4, count - 4)};
}
[[gnu::noinline]] inline void store(float* p, Vec x, int64_t count) {
  store_some(p, x.low, count);
  if (count > 4) store_some(p + 4, x.high, count - 4);
}
inline Mask first_lanes_mask(int64_t count) {
  constexpr int32_t kLane[] = {0, 1, 2, 3};
  const int32x4_t lane = vld1q_s32(kLane), end = vdupq_n_s32(static_cast<int32_t>(count));
  return {vcltq_s32(lane, end), vcltq_s32(vaddq_s32(lane, vdupq_n_s32(4)), end)};
}

inline Vec operator+(Vec a, Vec b) { return {vaddq_f32(a.low, b.low), vaddq_f32(a.high, b.high)}; }
inline Vec operator-(Vec a, Vec b) { return {vsubq_f32(a.low, b.low), vsubq_f32(a.high, b.high)}; }
inline Vec operator*(Vec a, Vec b) { return {vmulq_f32(a.low, b.low), vmulq_f32(a.high, b.high)}; }
inline Vec operator/(Vec a, Vec b) { return {vdivq_f32(a.low, b.low), vdivq_f32(a.high, b.high)}; }
inline Vec fma(Vec a, Vec b, Vec c) { return {vfmaq_f32(c.low, a.low, b.low), vfmaq_f32(c.high, a.high, b.high)}; }
inline Vec fnma(Vec a, Vec b, Vec c) { return {vfmsq_f32(c.low, a.low, b.low), vfmsq_f32(c.high, a.high, b.high)}; }
inline Mask less(Vec a, Vec b) { return {vcltq_f32(a.low, b.low), vcltq_f32(a.high, b.high)}; }
inline Vec select(Mask m, Vec yes, Vec no) {
  return {vbslq_f32(m.low, yes.low, no.low), vbslq_f32(m.high, yes.high, no.high)};
}
inline Vec min(Vec a, Vec b) { return select(less(a, b), a, b); }  // b where a is NaN: fmin and fminnm differ there
inline Vec max(Vec a, Vec b) { return select(less(b, a), a, b); }
inline Vec sqrt(Vec a) { return {vsqrtq_f32(a.low), vsqrtq_f32(a.high)}; }
inline Vec abs(Vec a) { return {vabsq_f32(a.low), vabsq_f32(a.high)}; }
inline Vec round(Vec a) { return {vrndnq_f32(a.low), vrndnq_f32(a.high)}; }
inline Vec copy_sign(Vec magnitude, Vec sign) {
  const uint32x4_t bits = vdupq_n_u32(0x7fffffff);
  return select({bits, bits}, magnitude, sign);
}
// In two factors, so that n = -127 and 128 stay inside the exponent field.
inline float32x4_t scale_by_power(float32x4_t x, float32x4_t n) {
  const int32x4_t whole = vcvtnq_s32_f32(n), half = vshrq_n_s32(whole, 1), bias = vdupq_n_s32(127);
  const int32x4_t a = vshlq_n_s32(vaddq_s32(half, bias), 23);
  const int32x4_t b = vshlq_n_s32(vaddq_s32(vsubq_s32(whole, half), bias), 23);
  return vmulq_f32(vmulq_f32(x, vreinterpretq_f32_s32(a)), vreinterpretq_f32_s32(b));
}
inline Vec scale_by_power(Vec x, Vec n) { return {scale_by_power(x.low, n.low), scale_by_power(x.high, n.high)}; }

// The tree of eight lanes: halves are folded.
inline float reduce_add(Vec a) {
  const float32x4_t four = vaddq_f32(a.low, a.high);
  const float32x2_t two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
  return vget_lane_f32(two, 0) + vget_lane_f32(two, 1);
}
inline float reduce_max(Vec a) { return vmaxnmvq_f32(vmaxnmq_f32(a.low, a.high)); }

// Two vectors of bfloat16 from the low and high halves of one vector of words.
inline void load_bf16(const void* p, Vec& low, Vec& high) {
  const auto first = read<uint32x4_t>(p), second = read<uint32x4_t>(static_cast<const std::byte*>(p) + 16);
  const uint32x4_t upper = vdupq_n_u32(0xffff0000u);
  low = {vreinterpretq_f32_u32(vshlq_n_u32(first, 16)), vreinterpretq_f32_u32(vshlq_n_u32(second, 16))};
  high = {vreinterpretq_f32_u32(vandq_u32(first, upper)), vreinterpretq_f32_u32(vandq_u32(second, upper))};
}

inline void transpose_four(float32x4_t& a, float32x4_t& b, float32x4_t& c, float32x4_t& d) {
  const auto pairs = [](float32x4_t x) { return vreinterpretq_f64_f32(x); };
  const float32x4_t ab_even = vtrn1q_f32(a, b), ab_odd = vtrn2q_f32(a, b);
  const float32x4_t cd_even = vtrn1q_f32(c, d), cd_odd = vtrn2q_f32(c, d);
  a = vreinterpretq_f32_f64(vtrn1q_f64(pairs(ab_even), pairs(cd_even)));
  b = vreinterpretq_f32_f64(vtrn1q_f64(pairs(ab_odd), pairs(cd_odd)));
  c = vreinterpretq_f32_f64(vtrn2q_f64(pairs(ab_even), pairs(cd_even)));
  d = vreinterpretq_f32_f64(vtrn2q_f64(pairs(ab_odd), pairs(cd_odd)));
}
inline void transpose(Vec (&m)[kLanes]) {
  transpose_four(m[0].low, m[1].low, m[2].low, m[3].low);
  transpose_four(m[0].high, m[1].high, m[2].high, m[3].high);
  transpose_four(m[4].low, m[5].low, m[6].low, m[7].low);
  transpose_four(m[4].high, m[5].high, m[6].high, m[7].high);
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    const float32x4_t corner = m[i].high;
    m[i].high = m[4 + i].low;
    m[4 + i].low = corner;
  }
}

// ---- Integers -----------------------------------------------------------------------------------------------------------------

inline Ints load_ints(const int32_t* p) { return {read<int32x4_t>(p), read<int32x4_t>(p + 4)}; }
inline void store_ints(int32_t* p, Ints x) { write(p, x.low), write(p + 4, x.high); }
inline Vec to_float(Ints x) { return {vcvtq_f32_s32(x.low), vcvtq_f32_s32(x.high)}; }
// The bits of integers in float32 lanes, for what only moves them, and back.
inline Vec as_lanes(Ints x) { return {vreinterpretq_f32_s32(x.low), vreinterpretq_f32_s32(x.high)}; }
inline Ints as_ints(Vec x) { return {vreinterpretq_s32_f32(x.low), vreinterpretq_s32_f32(x.high)}; }
inline int32_t largest_bits(Vec x) {  // of the magnitudes; NaN above infinity above all numbers
  const Ints bits = as_ints(abs(x));
  return vmaxvq_s32(vmaxq_s32(bits.low, bits.high));
}
inline Vec max_magnitude(Vec a, Vec b) {  // a is not negative; NaN wins
  const Ints x = as_ints(a), y = as_ints(abs(b));
  return as_lanes({vmaxq_s32(x.low, y.low), vmaxq_s32(x.high, y.high)});
}
// To the nearest integers, ties to even. (Here the nearest that fits, and 0 for NaN.)
inline Ints rounded(Vec x) { return {vcvtnq_s32_f32(x.low), vcvtnq_s32_f32(x.high)}; }
// Eight integers kept within 16 bits.
inline int16x8_t halves(Ints x) { return vqmovn_high_s32(vqmovn_s32(x.low), x.high); }

// ---- Products of 16-bit integers ------------------------------------------------------------------------------------------

inline Ints consecutive_words(Ints first, Ints second) {
  return {vreinterpretq_s32_s16(halves(first)), vreinterpretq_s32_s16(halves(second))};
}
inline Ints interleaved_words(Ints low, Ints high) {
  return {vsliq_n_s32(low.low, high.low, 16), vsliq_n_s32(low.high, high.high, 16)};
}
inline int32x4_t dot_words(int32x4_t sum, int32x4_t x, int32x4_t y) {
  const int16x8_t a = vreinterpretq_s16_s32(x), b = vreinterpretq_s16_s32(y);
  return vaddq_s32(sum, vpaddq_s32(vmull_s16(vget_low_s16(a), vget_low_s16(b)), vmull_high_s16(a, b)));
}
inline Ints dot_words(Ints sum, Ints a, Ints b) {
  return {dot_words(sum.low, a.low, b.low), dot_words(sum.high, a.high, b.high)};
}

// ---- Sums of 8-bit products -------------------------------------------------------------------------------------------------

using Word = uint32_t;
inline constexpr int kDotDepth = 4;
inline constexpr int32_t kQuantOffset = 0;
inline Ints set1_word(const Word* word) {
  const int32x4_t x = vdupq_n_s32(static_cast<int32_t>(*word));
  return {x, x};
}
inline Ints load_weights(const std::byte* step, int v) {
  return {read<int32x4_t>(step + v * 32), read<int32x4_t>(step + v * 32 + 16)};
}
inline int32x4_t dot(int32x4_t sum, int32x4_t activations, int32x4_t weights) {
  const int8x16_t a = vreinterpretq_s8_s32(activations), b = vreinterpretq_s8_s32(weights);
#if defined(__ARM_FEATURE_DOTPROD)
  return vdotq_s32(sum, a, b);
#else
  return vpadalq_s16(sum, vpaddq_s16(vmull_s8(vget_low_s8(a), vget_low_s8(b)), vmull_high_s8(a, b)));
#endif
}
inline Ints dot(Ints sum, Ints activations, Ints weights) {
  return {dot(sum.low, activations.low, weights.low), dot(sum.high, activations.high, weights.high)};
}
// kLanes values, rounded to integers in [-127, 127], as kLanes / kDotDepth words.
inline void quantise_words(Vec x, Word* words) { write(words, vqmovn_s16(halves(rounded(x)))); }

// ---- Products of bfloat16 ---------------------------------------------------------------------------------------------------

#if defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC)

struct Pairs {
  bfloat16x8_t low, high;
};

inline Pairs load_pairs(const void* p) {
  return {read<bfloat16x8_t>(p), read<bfloat16x8_t>(static_cast<const std::byte*>(p) + 16)};
}
inline void store_pairs(void* p, Pairs x) { write(p, x.low), write(static_cast<std::byte*>(p) + 16, x.high); }
inline Pairs set1_pairs(uint32_t word) {
  const bfloat16x8_t x = vreinterpretq_bf16_u32(vdupq_n_u32(word));
  return {x, x};
}
inline Vec dot_pairs(Vec sum, Pairs a, Pairs b) {
  return {vbfdotq_f32(sum.low, a.low, b.low), vbfdotq_f32(sum.high, a.high, b.high)};
}
// Eight values, rounded to nearest, ties to even.
inline bfloat16x8_t to_bf16(Vec x) { return vcvtq_high_bf16_f32(vcvtq_low_bf16_f32(x.low), x.high); }
inline Pairs consecutive_pairs(Vec first, Vec second) { return {to_bf16(first), to_bf16(second)}; }
inline Pairs interleaved_pairs(Vec low, Vec high) {
  const uint16x8_t a = vreinterpretq_u16_bf16(to_bf16(low)), b = vreinterpretq_u16_bf16(to_bf16(high));
  return {vreinterpretq_bf16_u16(vzip1q_u16(a, b)), vreinterpretq_bf16_u16(vzip2q_u16(a, b))};
}
inline Vec as_lanes(Pairs x) { return {vreinterpretq_f32_bf16(x.low), vreinterpretq_f32_bf16(x.high)}; }
inline Pairs as_pairs(Vec x) { return {vreinterpretq_bf16_f32(x.low), vreinterpretq_bf16_f32(x.high)}; }

#endif

}  // namespace
}  // namespace mome::MOME_ISA
