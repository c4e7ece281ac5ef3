// Two-pass antialiased bicubic resize in fixed point.
//
// Idea: a target sample is a weighted sum of `count` neighbouring source samples. Weights carry 22 fraction bits and
// are split as 4096 * high + low so that both halves fit 16 bits: one multiply-add instruction of the baseline (SSE2,
// pmaddwd) then does two taps of four samples, where a 32-bit multiply would have to be emulated. NEON has one. The
// sums are exact modulo 2^32 and the final value fits, so this equals the plain 32-bit sum bit for bit.
//
// Work: 6 * taps operations per target pixel and pass, taps = 4 * max(scale, 1) + 1. Source rows are read once, in
// order, and the horizontally resized rows live in a ring of one filter height, which stays in cache.
#include "image/resize_bicubic.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <new>

#if defined(__SSE2__) && !defined(MOME_PLAIN_RESIZE)
#define MOME_RESIZE_SSE2 1
#include <emmintrin.h>
#else
#define MOME_RESIZE_SSE2 0
#endif
#if defined(__aarch64__) && !defined(MOME_PLAIN_RESIZE)
#define MOME_RESIZE_NEON 1
#include <arm_neon.h>
#else
#define MOME_RESIZE_NEON 0
#endif

namespace mome {
namespace {

constexpr int64_t kChannels = 3;
constexpr int64_t kLargestSide = int64_t{1} << 24;  // a side stays exact in float32, which the original rule uses
constexpr int64_t kLargestCoefficients = int64_t{1} << 26;
constexpr int kFractionBits = 32 - 8 - 2;  // 8 bits of sample, 2 of headroom for the filter's over- and undershoot
constexpr int32_t kHalf = int32_t{1} << (kFractionBits - 1);
constexpr int kLowBits = 12;       // |weight| < 2^23, so the high part needs 12 bits and the low part 12
constexpr int64_t kRowSlack = 16;  // bytes a vector load may read past the last sample

template <typename T>
std::unique_ptr<T[]> allocate(int64_t count) {
  return std::unique_ptr<T[]>(new (std::nothrow) T[static_cast<size_t>(count)]());
}

double cubic(double x) {
  constexpr double a = -0.5;
  x = std::fabs(x);
  if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0;
  if (x < 2.0) return (((x - 5.0) * x + 8.0) * x - 4.0) * a;
  return 0.0;
}

bool make_axis(int64_t source, int64_t target, BicubicResize::Axis* axis) {
  const double scale = static_cast<double>(source) / static_cast<double>(target);
  const double filter_scale = std::max(scale, 1.0);
  const double support = 2.0 * filter_scale;
  const int64_t widest = std::min(static_cast<int64_t>(std::ceil(support)) * 2 + 1, source);
  axis->stride = (widest + 1) & ~int64_t{1};
  if (axis->stride > kLargestCoefficients / target) return false;
  axis->first = allocate<int32_t>(target);
  axis->count = allocate<int32_t>(target);
  axis->high = allocate<int16_t>(target * axis->stride);
  axis->low = allocate<int16_t>(target * axis->stride);
  const std::unique_ptr<double[]> weights = allocate<double>(axis->stride);
  if (!axis->first || !axis->count || !axis->high || !axis->low || !weights) return false;

  const double inverse = 1.0 / filter_scale;
  for (int64_t t = 0; t < target; ++t) {
    const double center = (static_cast<double>(t) + 0.5) * scale;
    const int64_t first = std::max(static_cast<int64_t>(center - support + 0.5), int64_t{0});
    const int64_t last = std::min(static_cast<int64_t>(center + support + 0.5), source);
    const int64_t count = std::min(last - first, widest);
    double sum = 0.0;
    for (int64_t i = 0; i < count; ++i) {
      weights[i] = cubic((static_cast<double>(i + first) - center + 0.5) * inverse);
      sum += weights[i];
    }
    int16_t* high = axis->high.get() + t * axis->stride;
    int16_t* low = axis->low.get() + t * axis->stride;
    for (int64_t i = 0; i < count; ++i) {
      const double normalised = sum != 0.0 ? weights[i] / sum : weights[i];
      const double fixed = normalised * (int32_t{1} << kFractionBits);
      const auto weight = static_cast<int32_t>(fixed < 0.0 ? fixed - 0.5 : fixed + 0.5);
      constexpr int32_t half_low = int32_t{1} << (kLowBits - 1);
      const int32_t low_part = ((weight + half_low) & ((int32_t{1} << kLowBits) - 1)) - half_low;
      low[i] = static_cast<int16_t>(low_part);
      high[i] = static_cast<int16_t>((weight - low_part) >> kLowBits);
    }
    axis->first[t] = static_cast<int32_t>(first);
    axis->count[t] = static_cast<int32_t>(count);
    axis->most_taps = std::max(axis->most_taps, count);
  }
  return true;
}

#if MOME_RESIZE_SSE2

// Two neighbouring weights in every 32-bit lane.
__m128i broadcast_pair(const int16_t* weights) {
  int32_t pair;
  std::memcpy(&pair, weights, sizeof(pair));
  return _mm_set1_epi32(pair);
}

// Rounded and shifted to samples, still 32-bit.
__m128i finish(__m128i sum_high, __m128i sum_low) {
  const __m128i sum = _mm_add_epi32(_mm_slli_epi32(sum_high, kLowBits), sum_low);
  return _mm_srai_epi32(_mm_add_epi32(sum, _mm_set1_epi32(kHalf)), kFractionBits);
}

// `source` is one row with kRowSlack readable bytes behind it; `target` has kRowSlack writable bytes behind it.
void resize_row(const uint8_t* source, const BicubicResize::Axis& axis, int64_t target_width, uint8_t* target) {
  const __m128i zero = _mm_setzero_si128();
  for (int64_t x = 0; x < target_width; ++x) {
    const uint8_t* pixel = source + axis.first[x] * kChannels;
    const int16_t* high = axis.high.get() + x * axis.stride;
    const int16_t* low = axis.low.get() + x * axis.stride;
    __m128i sum_high = zero;
    __m128i sum_low = zero;
    for (int64_t i = 0; i < axis.count[x]; i += 2, pixel += 2 * kChannels) {
      // r0 g0 b0 r1 g1 b1 .. interleaved with itself one pixel on: r0 r1 g0 g1 b0 b1 .., then widened to 16 bits.
      const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(pixel));
      const __m128i pairs = _mm_unpacklo_epi8(_mm_unpacklo_epi8(bytes, _mm_srli_si128(bytes, kChannels)), zero);
      sum_high = _mm_add_epi32(sum_high, _mm_madd_epi16(pairs, broadcast_pair(high + i)));
      sum_low = _mm_add_epi32(sum_low, _mm_madd_epi16(pairs, broadcast_pair(low + i)));
    }
    const __m128i samples = _mm_packs_epi32(finish(sum_high, sum_low), zero);
    const int32_t packed = _mm_cvtsi128_si32(_mm_packus_epi16(samples, zero));
    std::memcpy(target + x * kChannels, &packed, sizeof(packed));  // the fourth byte is overwritten by the next pixel
  }
}

// One target row from `count` rows, rows[i] holding `samples` bytes plus kRowSlack.
void combine_rows(const uint8_t* const* rows, const int16_t* high, const int16_t* low, int64_t count, int64_t samples,
                  uint8_t* target) {
  const __m128i zero = _mm_setzero_si128();
  for (int64_t x = 0; x < samples; x += 16) {
    __m128i sum_high[4] = {zero, zero, zero, zero};
    __m128i sum_low[4] = {zero, zero, zero, zero};
    for (int64_t i = 0; i < count; i += 2) {
      const uint8_t* next = i + 1 < count ? rows[i + 1] : rows[i];  // its weight is zero when there is none
      const __m128i first_row = _mm_loadu_si128(reinterpret_cast<const __m128i*>(rows[i] + x));
      const __m128i second_row = _mm_loadu_si128(reinterpret_cast<const __m128i*>(next + x));
      const __m128i lower = _mm_unpacklo_epi8(first_row, second_row);
      const __m128i upper = _mm_unpackhi_epi8(first_row, second_row);
      const __m128i pairs[4] = {_mm_unpacklo_epi8(lower, zero), _mm_unpackhi_epi8(lower, zero),
                                _mm_unpacklo_epi8(upper, zero), _mm_unpackhi_epi8(upper, zero)};
      const __m128i weight_high = broadcast_pair(high + i);
      const __m128i weight_low = broadcast_pair(low + i);
      for (int part = 0; part < 4; ++part) {
        sum_high[part] = _mm_add_epi32(sum_high[part], _mm_madd_epi16(pairs[part], weight_high));
        sum_low[part] = _mm_add_epi32(sum_low[part], _mm_madd_epi16(pairs[part], weight_low));
      }
    }
    const __m128i left = _mm_packs_epi32(finish(sum_high[0], sum_low[0]), finish(sum_high[1], sum_low[1]));
    const __m128i right = _mm_packs_epi32(finish(sum_high[2], sum_low[2]), finish(sum_high[3], sum_low[3]));
    alignas(16) uint8_t block[16];
    _mm_store_si128(reinterpret_cast<__m128i*>(block), _mm_packus_epi16(left, right));
    std::memcpy(target + x, block, static_cast<size_t>(std::min<int64_t>(16, samples - x)));
  }
}

#else

int32_t weight_at(const int16_t* high, const int16_t* low, int64_t i) {
  return int32_t{high[i]} * (int32_t{1} << kLowBits) + low[i];
}

#if MOME_RESIZE_NEON

// As with SSE2, rows have kRowSlack bytes behind them.
void resize_row(const uint8_t* source, const BicubicResize::Axis& axis, int64_t target_width, uint8_t* target) {
  for (int64_t x = 0; x < target_width; ++x) {
    const uint8_t* pixel = source + axis.first[x] * kChannels;
    const int16_t* high = axis.high.get() + x * axis.stride;
    const int16_t* low = axis.low.get() + x * axis.stride;
    int32x4_t sum = vdupq_n_s32(kHalf);
    for (int64_t i = 0; i < axis.count[x]; ++i, pixel += kChannels) {
      const uint32x4_t samples = vmovl_u16(vget_low_u16(vmovl_u8(vld1_u8(pixel))));
      sum = vmlaq_n_s32(sum, vreinterpretq_s32_u32(samples), weight_at(high, low, i));
    }
    const uint16x4_t samples = vqmovun_s32(vshrq_n_s32(sum, kFractionBits));
    const uint8x8_t bytes = vqmovn_u16(vcombine_u16(samples, samples));
    std::memcpy(target + x * kChannels, &bytes, 4);  // the fourth byte is overwritten by the next pixel
  }
}

void combine_rows(const uint8_t* const* rows, const int16_t* high, const int16_t* low, int64_t count, int64_t samples,
                  uint8_t* target) {
  for (int64_t x = 0; x < samples; x += 16) {
    int32x4_t sum[4] = {vdupq_n_s32(kHalf), vdupq_n_s32(kHalf), vdupq_n_s32(kHalf), vdupq_n_s32(kHalf)};
    for (int64_t i = 0; i < count; ++i) {
      const uint8x16_t bytes = vld1q_u8(rows[i] + x);
      const uint16x8_t left = vmovl_u8(vget_low_u8(bytes)), right = vmovl_high_u8(bytes);
      const uint32x4_t parts[4] = {vmovl_u16(vget_low_u16(left)), vmovl_high_u16(left), vmovl_u16(vget_low_u16(right)),
                                   vmovl_high_u16(right)};
      const int32x4_t weight = vdupq_n_s32(weight_at(high, low, i));
      for (int part = 0; part < 4; ++part) sum[part] = vmlaq_s32(sum[part], vreinterpretq_s32_u32(parts[part]), weight);
    }
    uint16x4_t narrow[4];
    for (int part = 0; part < 4; ++part) narrow[part] = vqmovun_s32(vshrq_n_s32(sum[part], kFractionBits));
    const uint8x16_t block =
        vcombine_u8(vqmovn_u16(vcombine_u16(narrow[0], narrow[1])), vqmovn_u16(vcombine_u16(narrow[2], narrow[3])));
    std::memcpy(target + x, &block, static_cast<size_t>(std::min<int64_t>(16, samples - x)));
  }
}

#else

uint8_t finish(int32_t sum) { return static_cast<uint8_t>(std::clamp(sum >> kFractionBits, 0, 255)); }

void resize_row(const uint8_t* source, const BicubicResize::Axis& axis, int64_t target_width, uint8_t* target) {
  for (int64_t x = 0; x < target_width; ++x) {
    const int16_t* high = axis.high.get() + x * axis.stride;
    const int16_t* low = axis.low.get() + x * axis.stride;
    for (int64_t c = 0; c < kChannels; ++c) {
      const uint8_t* sample = source + axis.first[x] * kChannels + c;
      int32_t sum = kHalf;
      for (int64_t i = 0; i < axis.count[x]; ++i) sum += sample[i * kChannels] * weight_at(high, low, i);
      target[x * kChannels + c] = finish(sum);
    }
  }
}

void combine_rows(const uint8_t* const* rows, const int16_t* high, const int16_t* low, int64_t count, int64_t samples,
                  uint8_t* target) {
  for (int64_t x = 0; x < samples; ++x) {
    int32_t sum = kHalf;
    for (int64_t i = 0; i < count; ++i) sum += rows[i][x] * weight_at(high, low, i);
    target[x] = finish(sum);
  }
}

#endif
#endif

bool side_ok(int64_t side) { return side >= 1 && side <= kLargestSide; }

}  // namespace

bool BicubicResize::prepare(int64_t width, int64_t height, int64_t target_width, int64_t target_height) {
  if (!side_ok(width) || !side_ok(height) || !side_ok(target_width) || !side_ok(target_height)) return false;
  width_ = width;
  target_width_ = target_width;
  target_height_ = target_height;
  next_row_ = 0;
  target_row_ = 0;
  // At equal sides the filter is the identity, so both passes may be skipped without changing a byte.
  copied_ = width == target_width && height == target_height;
  if (copied_) return true;
  if (width != target_width && !make_axis(width, target_width, &across_)) return false;
  if (!make_axis(height, target_height, &down_)) return false;
  ring_ = allocate<uint8_t>(down_.most_taps * (target_width * kChannels + kRowSlack));
  padded_ = allocate<uint8_t>(width * kChannels + kRowSlack);
  rows_ = allocate<const uint8_t*>(down_.most_taps);
  return ring_ != nullptr && padded_ != nullptr && rows_ != nullptr;
}

void BicubicResize::run(const uint8_t* source, uint8_t* target, int64_t count) {
  const int64_t source_samples = width_ * kChannels;
  const int64_t target_samples = target_width_ * kChannels;
  const size_t target_bytes = static_cast<size_t>(target_samples);
  const int64_t end_row = std::min(target_height_, target_row_ + count);
  if (copied_) {
    std::memcpy(target + target_row_ * target_samples, source + target_row_ * target_samples,
                target_bytes * static_cast<size_t>(end_row - target_row_));
    target_row_ = end_row;
    return;
  }
  // A row of the ring is kept at `row % ring_rows`; a filter never needs more than ring_rows of them at once.
  const int64_t ring_rows = down_.most_taps;
  const int64_t ring_stride = target_samples + kRowSlack;
  for (; target_row_ < end_row; ++target_row_) {
    const int64_t first = down_.first[target_row_];
    const int64_t taps = down_.count[target_row_];
    next_row_ = std::max(next_row_, first);
    for (; next_row_ < first + taps; ++next_row_) {
      const uint8_t* source_row = source + next_row_ * source_samples;
      uint8_t* ring_row = ring_.get() + next_row_ % ring_rows * ring_stride;
      if (width_ == target_width_) {
        std::memcpy(ring_row, source_row, target_bytes);
        continue;
      }
      std::memcpy(padded_.get(), source_row, static_cast<size_t>(source_samples));
      resize_row(padded_.get(), across_, target_width_, ring_row);
    }
    for (int64_t i = 0; i < taps; ++i) rows_[i] = ring_.get() + (first + i) % ring_rows * ring_stride;
    const int64_t weights = target_row_ * down_.stride;
    combine_rows(rows_.get(), down_.high.get() + weights, down_.low.get() + weights, taps, target_samples,
                 target + target_row_ * target_samples);
  }
}

bool resize_bicubic_rgb(const uint8_t* source, int64_t width, int64_t height, uint8_t* target, int64_t target_width,
                        int64_t target_height) {
  BicubicResize resize;
  if (!source || !target || !resize.prepare(width, height, target_width, target_height)) return false;
  resize.run(source, target, target_height);
  return true;
}

}  // namespace mome
