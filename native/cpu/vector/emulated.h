// What simd.h, dot.h, words.h, pairs.h and the transposition of gemm_pack.h give, in portable C++: for tests, so that
// the tiles, tails and masks of instruction sets that a machine lacks are checked on it. A file is compiled with
// MOME_EMULATED and
//   MOME_EMULATED_LANES  8 or 16
//   MOME_EMULATED_VNNI   1 where sums of 8-bit products are those of vpdpbusd, otherwise 0
//   MOME_EMULATED_BF16   1 where products of bfloat16 are those of vdpbf16ps, otherwise 0
//   MOME_EMULATED_AMX    1 where there are the tile registers of AMX (emulated_tiles.h), otherwise 0
// and without the flags of any instruction set. Results have the bits of the instructions (native/test/primitives.cc
// compares them where a machine has these), but for the payloads of NaNs.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace mome::MOME_ISA {
namespace {

inline constexpr int kLanes = MOME_EMULATED_LANES;
inline constexpr int kQuads = kLanes / 4;

// Vectors that every processor of this kind has.
typedef float Floats __attribute__((vector_size(16)));
typedef int32_t Bits __attribute__((vector_size(16)));
typedef uint32_t Words __attribute__((vector_size(16)));
typedef int16_t Shorts __attribute__((vector_size(16)));
typedef uint16_t Halves __attribute__((vector_size(16)));
typedef double Doubles __attribute__((vector_size(32)));
typedef int64_t Longs __attribute__((vector_size(32)));

struct Vec {
  Floats part[kQuads];
};
struct Mask {
  Bits part[kQuads];
};
struct Ints {
  Bits part[kQuads];
};

// A vector whose parts are f(0), f(1), ...
template <typename Vector, typename Function>
[[gnu::always_inline]] inline Vector parts(const Function& f) {
  Vector result;
#pragma GCC unroll 4
  for (int i = 0; i < kQuads; ++i) result.part[i] = f(i);
  return result;
}

// ---- Vectors of float32 -----------------------------------------------------------------------------------------------------

inline Vec set1(float x) {
  return parts<Vec>([&](int) { return Floats{x, x, x, x}; });
}
inline Vec zero() { return set1(0); }
inline Vec load(const float* p) {
  Vec x;
  std::memcpy(&x, p, sizeof x);
  return x;
}
inline void store(float* p, Vec x) { std::memcpy(p, &x, sizeof x); }
inline Vec load(const float* p, int64_t count) {
  Vec x = zero();
  std::memcpy(&x, p, static_cast<size_t>(count) * sizeof(float));
  return x;
}
inline void store(float* p, Vec x, int64_t count) { std::memcpy(p, &x, static_cast<size_t>(count) * sizeof(float)); }
inline Mask first_lanes_mask(int64_t count) {
  const int32_t n = static_cast<int32_t>(count);
  return parts<Mask>([&](int i) { return Bits{4 * i, 4 * i + 1, 4 * i + 2, 4 * i + 3} < Bits{n, n, n, n}; });
}

inline Floats select(Bits m, Floats yes, Floats no) {
  return reinterpret_cast<Floats>((m & reinterpret_cast<Bits>(yes)) | (~m & reinterpret_cast<Bits>(no)));
}
inline Bits all_bits(int32_t x) { return Bits{x, x, x, x}; }
inline Floats magnitude(Floats x) { return reinterpret_cast<Floats>(reinterpret_cast<Bits>(x) & all_bits(0x7fffffff)); }
inline Floats with_sign(Floats x, Floats sign) {
  return reinterpret_cast<Floats>((reinterpret_cast<Bits>(x) & all_bits(0x7fffffff)) |
                                  (reinterpret_cast<Bits>(sign) & ~all_bits(0x7fffffff)));
}
inline bool any(Bits m) {
  struct Two {
    uint64_t low, high;
  };
  const auto [low, high] = std::bit_cast<Two>(m);
  return (low | high) != 0;
}

// a * b + c, rounded once. The product of two floats is exact in a double. The sum is rounded to a double and then to a
// float, which differs from one rounding only where the double lies midway between two floats, or where the result is
// below the normal numbers, whose spacing is another.
inline Floats fused(Floats a, Floats b, Floats c) {
  const Doubles sum =
      __builtin_convertvector(a, Doubles) * __builtin_convertvector(b, Doubles) + __builtin_convertvector(c, Doubles);
  Floats result = __builtin_convertvector(sum, Floats);
  const Longs bits = reinterpret_cast<Longs>(sum);
  const Bits low = __builtin_convertvector(bits, Bits), high = __builtin_convertvector(bits >> 32, Bits);
  const Bits midway = (low & all_bits(0x1fffffff)) == all_bits(0x10000000);
  const Bits small = (reinterpret_cast<Bits>(result) & all_bits(0x7f800000)) == all_bits(0);
  const Bits nonzero = (high & all_bits(0x7fffffff)) != all_bits(0);
  const Bits apart = midway | (small & nonzero);
  if (any(apart)) [[unlikely]] {
    for (int i = 0; i < 4; ++i) {
      if (apart[i] != 0) result[i] = __builtin_fmaf(a[i], b[i], c[i]);
    }
  }
  return result;
}

inline Vec operator+(Vec a, Vec b) {
  return parts<Vec>([&](int i) { return a.part[i] + b.part[i]; });
}
inline Vec operator-(Vec a, Vec b) {
  return parts<Vec>([&](int i) { return a.part[i] - b.part[i]; });
}
inline Vec operator*(Vec a, Vec b) {
  return parts<Vec>([&](int i) { return a.part[i] * b.part[i]; });
}
inline Vec operator/(Vec a, Vec b) {
  return parts<Vec>([&](int i) { return a.part[i] / b.part[i]; });
}
// (What tiles call many times over is not inlined: they would take minutes to compile.)
[[gnu::noinline]] inline Vec fused(const Vec& a, const Vec& b, const Vec& c) {
  Vec result;
  for (int i = 0; i < kQuads; ++i) result.part[i] = fused(a.part[i], b.part[i], c.part[i]);
  return result;
}
inline Vec fma(Vec a, Vec b, Vec c) { return fused(a, b, c); }
inline Vec fnma(Vec a, Vec b, Vec c) {
  return fused(parts<Vec>([&](int i) { return -a.part[i]; }), b, c);
}
inline Vec min(Vec a, Vec b) {
  return parts<Vec>([&](int i) { return select(a.part[i] < b.part[i], a.part[i], b.part[i]); });
}
inline Vec max(Vec a, Vec b) {
  return parts<Vec>([&](int i) { return select(a.part[i] > b.part[i], a.part[i], b.part[i]); });
}
inline Vec sqrt(Vec a) {
  return parts<Vec>([&](int i) {
    const Floats x = a.part[i];
    return Floats{__builtin_sqrtf(x[0]), __builtin_sqrtf(x[1]), __builtin_sqrtf(x[2]), __builtin_sqrtf(x[3])};
  });
}
inline Vec abs(Vec a) {
  return parts<Vec>([&](int i) { return magnitude(a.part[i]); });
}
// Adding 2^23 leaves no bits for a fraction. Numbers beyond it are whole.
inline Vec round(Vec a) {
  return parts<Vec>([&](int i) {
    const Floats x = a.part[i];
    const Floats most = Floats{0x1p23f, 0x1p23f, 0x1p23f, 0x1p23f};
    const Floats large = with_sign(most, x);
    return select(magnitude(x) < most, with_sign((x + large) - large, x), x);
  });
}
inline Vec copy_sign(Vec size, Vec sign) {
  return parts<Vec>([&](int i) { return with_sign(size.part[i], sign.part[i]); });
}
inline Mask less(Vec a, Vec b) {
  return parts<Mask>([&](int i) { return a.part[i] < b.part[i]; });
}
inline Vec select(Mask m, Vec yes, Vec no) {
  return parts<Vec>([&](int i) { return select(m.part[i], yes.part[i], no.part[i]); });
}
inline Vec scale_by_power(Vec x, Vec n) {
  return parts<Vec>([&](int i) {
    const Floats power = select(n.part[i] == n.part[i], n.part[i], Floats{});  // x is NaN too
    const Longs exponent = __builtin_convertvector(__builtin_convertvector(power, Bits), Longs) + 1023;
    const Doubles scale = reinterpret_cast<Doubles>(exponent << 52);
    return __builtin_convertvector(__builtin_convertvector(x.part[i], Doubles) * scale, Floats);
  });
}

// The tree of the instructions: halves are folded.
template <typename Value, typename Vector, typename Function>
inline Value reduce(const Vector& x, const Function& f) {
  Value lane[kLanes];
  std::memcpy(lane, &x, sizeof lane);
  for (int half = kLanes / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) lane[i] = f(lane[i], lane[i + half]);
  }
  return lane[0];
}
inline float reduce_add(Vec a) {
  return reduce<float>(a, [](float x, float y) { return x + y; });
}
inline float reduce_max(Vec a) {
  return reduce<float>(a, [](float x, float y) { return x > y ? x : y; });
}

inline Floats low_half(Bits words) { return reinterpret_cast<Floats>(reinterpret_cast<Words>(words) << 16); }
inline Floats high_half(Bits words) { return reinterpret_cast<Floats>(words & ~all_bits(0xffff)); }
inline void load_bf16(const void* p, Vec& low, Vec& high) {
  Ints words;
  std::memcpy(&words, p, sizeof words);
  low = parts<Vec>([&](int i) { return low_half(words.part[i]); });
  high = parts<Vec>([&](int i) { return high_half(words.part[i]); });
}

inline void transpose(Vec (&m)[kLanes]) {
  float before[kLanes][kLanes], after[kLanes][kLanes];
  std::memcpy(before, m, sizeof before);
  for (int r = 0; r < kLanes; ++r) {
    for (int c = 0; c < kLanes; ++c) after[c][r] = before[r][c];
  }
  std::memcpy(m, after, sizeof after);
}

// ---- Integers -----------------------------------------------------------------------------------------------------------------

inline Ints load_ints(const int32_t* p) {
  Ints x;
  std::memcpy(&x, p, sizeof x);
  return x;
}
inline void store_ints(int32_t* p, Ints x) { std::memcpy(p, &x, sizeof x); }
inline Vec to_float(Ints x) {
  return parts<Vec>([&](int i) { return __builtin_convertvector(x.part[i], Floats); });
}
inline int32_t largest_bits(Vec x) {
  return reduce<int32_t>(abs(x), [](int32_t a, int32_t b) { return a > b ? a : b; });
}
inline Vec max_magnitude(Vec a, Vec b) {
  return parts<Vec>([&](int i) {
    const Bits x = reinterpret_cast<Bits>(a.part[i]), y = reinterpret_cast<Bits>(magnitude(b.part[i]));
    return select(x > y, a.part[i], magnitude(b.part[i]));
  });
}

// Sums wrap around, as those of the instructions do.
inline Bits add(Bits a, Bits b) {
  return reinterpret_cast<Bits>(reinterpret_cast<Words>(a) + reinterpret_cast<Words>(b));
}
inline Bits low_short(Bits x) { return reinterpret_cast<Bits>(reinterpret_cast<Words>(x) << 16) >> 16; }
inline Bits high_short(Bits x) { return x >> 16; }

// A value of vcvtps2dq, kept within a range.
inline int32_t to_integer(float rounded, int32_t least, int32_t most) {
  const int32_t whole = __builtin_fabsf(rounded) < 0x1p31f ? static_cast<int32_t>(rounded) : INT32_MIN;
  return whole < least ? least : whole > most ? most : whole;
}

// ---- Products of 16-bit integers ------------------------------------------------------------------------------------------

inline Ints rounded(Vec x) {
  float value[kLanes];
  int32_t whole[kLanes];
  store(value, round(x));
  for (int i = 0; i < kLanes; ++i) whole[i] = to_integer(value[i], INT32_MIN, INT32_MAX);
  return load_ints(whole);
}
inline Ints consecutive_words(Ints first, Ints second) {
  int32_t x[2 * kLanes];
  int16_t half[2 * kLanes];
  store_ints(x, first), store_ints(x + kLanes, second);
  for (int i = 0; i < 2 * kLanes; ++i)
    half[i] = static_cast<int16_t>(x[i] < INT16_MIN ? INT16_MIN : x[i] > INT16_MAX ? INT16_MAX : x[i]);
  Ints words;
  std::memcpy(&words, half, sizeof words);
  return words;
}
inline Ints interleaved_words(Ints low, Ints high) {
  return parts<Ints>([&](int i) {
    const Words upper = reinterpret_cast<Words>(high.part[i]) << 16;
    return (low.part[i] & all_bits(0xffff)) | reinterpret_cast<Bits>(upper);
  });
}
[[gnu::noinline]] inline Ints dot_words(const Ints& sum, const Ints& x, const Ints& y) {
  return parts<Ints>([&](int i) {
    const Bits a = x.part[i], b = y.part[i];
    return add(sum.part[i], add(low_short(a) * low_short(b), high_short(a) * high_short(b)));
  });
}
inline Vec as_lanes(Ints x) {
  return parts<Vec>([&](int i) { return reinterpret_cast<Floats>(x.part[i]); });
}
inline Ints as_ints(Vec x) {
  return parts<Ints>([&](int i) { return reinterpret_cast<Bits>(x.part[i]); });
}

// ---- Sums of 8-bit products -------------------------------------------------------------------------------------------------

using Word = uint32_t;
inline Ints set1_word(const Word* word) {
  return parts<Ints>([&](int) { return all_bits(static_cast<int32_t>(*word)); });
}

#if MOME_EMULATED_VNNI
inline constexpr int kDotDepth = 4;
inline constexpr int32_t kQuantOffset = 128;
inline Ints load_weights(const std::byte* step, int v) {
  Ints x;
  std::memcpy(&x, step + v * kLanes * kDotDepth, sizeof x);
  return x;
}
// An unsigned byte times a signed one fits 16 bits.
[[gnu::noinline]] inline Ints sum_of_products(const Ints& sum, const Ints& activations, const Ints& weights) {
  return parts<Ints>([&](int i) {
    const Halves a = reinterpret_cast<Halves>(activations.part[i]), b = reinterpret_cast<Halves>(weights.part[i]);
    const Shorts even = reinterpret_cast<Shorts>(a & 0xff) * (reinterpret_cast<Shorts>(b << 8) >> 8);
    const Shorts odd = reinterpret_cast<Shorts>(a >> 8) * (reinterpret_cast<Shorts>(b) >> 8);
    const Bits x = reinterpret_cast<Bits>(even), y = reinterpret_cast<Bits>(odd);
    return add(add(sum.part[i], add(low_short(x), high_short(x))), add(low_short(y), high_short(y)));
  });
}
inline void quantise_words(Vec x, Word* words) {
  float value[kLanes];
  uint8_t byte[kLanes];
  store(value, round(x));
  for (int i = 0; i < kLanes; ++i) byte[i] = static_cast<uint8_t>(to_integer(value[i], -128, 127) ^ 0x80);
  std::memcpy(words, byte, sizeof byte);
}
#else
inline constexpr int kDotDepth = 2;
inline constexpr int32_t kQuantOffset = 0;
inline Ints load_weights(const std::byte* step, int v) {
  const std::byte* p = step + v * kLanes * kDotDepth;
  int16_t wide[2 * kLanes];
  for (int i = 0; i < 2 * kLanes; ++i) wide[i] = static_cast<int8_t>(p[i]);
  Ints x;
  std::memcpy(&x, wide, sizeof x);
  return x;
}
inline Ints sum_of_products(const Ints& sum, const Ints& activations, const Ints& weights) {
  return dot_words(sum, activations, weights);
}
inline void quantise_words(Vec x, Word* words) {
  float value[kLanes];
  int16_t whole[kLanes];
  store(value, round(x));
  for (int i = 0; i < kLanes; ++i) whole[i] = static_cast<int16_t>(to_integer(value[i], INT16_MIN, INT16_MAX));
  std::memcpy(words, whole, sizeof whole);
}
#endif

inline Ints dot(Ints sum, Ints activations, Ints weights) { return sum_of_products(sum, activations, weights); }

// ---- Products of bfloat16 ---------------------------------------------------------------------------------------------------

#if MOME_EMULATED_BF16
struct Pairs {
  Bits part[kQuads];
};

inline Pairs load_pairs(const void* p) {
  Pairs x;
  std::memcpy(&x, p, sizeof x);
  return x;
}
inline void store_pairs(void* p, Pairs x) { std::memcpy(p, &x, sizeof x); }
inline Pairs set1_pairs(uint32_t word) {
  return parts<Pairs>([&](int) { return all_bits(static_cast<int32_t>(word)); });
}
// Numbers below the normal ones become zeros of their sign.
inline Floats flushed(Floats x) {
  const Bits normal = reinterpret_cast<Bits>(magnitude(x)) >= all_bits(0x00800000);
  return reinterpret_cast<Floats>(reinterpret_cast<Bits>(x) & (normal | ~all_bits(0x7fffffff)));
}
// The product of the high halves is added first.
[[gnu::noinline]] inline Vec sum_of_pairs(const Vec& sum, const Pairs& a, const Pairs& b) {
  return parts<Vec>([&](int i) {
    const Floats high =
        flushed(fused(flushed(high_half(a.part[i])), flushed(high_half(b.part[i])), flushed(sum.part[i])));
    return flushed(fused(flushed(low_half(a.part[i])), flushed(low_half(b.part[i])), high));
  });
}
inline Vec dot_pairs(Vec sum, Pairs a, Pairs b) { return sum_of_pairs(sum, a, b); }
// To nearest, ties to even.
inline uint16_t to_bf16(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x), size = bits & 0x7fffffffu;
  if (size > 0x7f800000u) return static_cast<uint16_t>(bits >> 16 | 0x40);
  if (size < 0x00800000u) return static_cast<uint16_t>(bits >> 16 & 0x8000u);
  return static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}
// Word i of (value(2 i), value(2 i + 1)).
template <typename Function>
inline Pairs rounded_pairs(const Function& value) {
  uint16_t half[2 * kLanes];
  for (int i = 0; i < 2 * kLanes; ++i) half[i] = to_bf16(value(i));
  return load_pairs(half);
}
inline Pairs consecutive_pairs(Vec first, Vec second) {
  float x[2 * kLanes];
  store(x, first), store(x + kLanes, second);
  return rounded_pairs([&](int i) { return x[i]; });
}
inline Pairs interleaved_pairs(Vec low, Vec high) {
  float x[2 * kLanes];
  store(x, low), store(x + kLanes, high);
  return rounded_pairs([&](int i) { return x[i / 2 + i % 2 * kLanes]; });
}
inline Vec as_lanes(Pairs x) {
  return parts<Vec>([&](int i) { return reinterpret_cast<Floats>(x.part[i]); });
}
inline Pairs as_pairs(Vec x) {
  return parts<Pairs>([&](int i) { return reinterpret_cast<Bits>(x.part[i]); });
}
#endif

}  // namespace
}  // namespace mome::MOME_ISA
