// Attention in 16-bit integers, for 8-bit weights on targets that do not multiply bfloat16: half the steps of float32,
// and sums that are exact. core/quantise.h says how numbers are rounded and proves that no sum leaves 32 bits.
//
// A query and a key have one step each, a column of the values has one over the tokens of its sequence. Steps and
// everything between the two products are float32.
#pragma once

#include "core/quantise.h"
#include "cpu/vector/attention_tile.h"
#include "cpu/vector/math.h"
#include "cpu/vector/words.h"

namespace mome::MOME_ISA {
namespace {

// Operands and sums are 32-bit integers in float32 lanes that only carry their bits.
struct Int16Panel : F32Panel {
  static constexpr int64_t kStepDepth = 2;
  static Vec multiply(Vec row, Vec column, Vec sum) {
    return as_lanes(dot_words(as_ints(sum), as_ints(row), as_ints(column)));
  }
};
template <typename Panel>
inline constexpr bool kInt16 = false;
template <>
inline constexpr bool kInt16<Int16Panel> = true;

// ---- Quantising: the twin of quantise_int16 -------------------------------------------------------------------------

struct Steps {
  Vec step, inverse;
};
// Of the largest magnitudes of kLanes rows or columns, as max_magnitude makes them.
inline Steps int16_steps(Vec largest, int limit) {
  const Mask finite = less(largest, set1(__builtin_inff())), negligible = less(largest, set1(kInt16Negligible));
  const Vec most = set1(static_cast<float>(limit));
  return {select(finite, select(negligible, zero(), largest / most), set1(__builtin_nanf(""))),
          select(finite, select(negligible, zero(), most / largest), zero())};
}

// `steps` and `inverses` [kLanes] of `count` <= kLanes tokens from `token` on.
inline void token_steps(const HeadSource& source, int64_t token, int64_t count, int64_t head_width, int limit,
                        float* steps, float* inverses) {
  Vec block[kLanes];
  for (int t = 0; t < kLanes; t++) {
    block[t] = zero();
    for (int64_t d = 0; t < count && d < head_width; d += kLanes)
      block[t] = max_magnitude(block[t], source.load(token + t, d, smaller(kLanes, head_width - d)));
  }
  transpose(block);
  Vec largest = block[0];
#pragma GCC unroll 16
  for (int i = 1; i < kLanes; i++) largest = max_magnitude(largest, block[i]);
  const Steps made = int16_steps(largest, limit);
  store(steps, made.step);
  store(inverses, made.inverse);
}

// kLanes words of one token's columns from 2 `step` on.
inline Vec int16_words(const HeadSource& source, int64_t token, int64_t step, int64_t head_width, Vec inverse) {
  const int64_t column = 2 * step, rest = head_width - column - kLanes;
  const Vec first = source.load(token, column, smaller(kLanes, head_width - column)) * inverse;
  const Vec second = rest > 0 ? source.load(token, column + kLanes, smaller(kLanes, rest)) * inverse : zero();
  return as_lanes(consecutive_words(rounded(first), rounded(second)));
}

// ---- Operands of an item ------------------------------------------------------------------------------------------

// The keys transposed, [ceil(head width / 2), padded tokens], padding with zeros, and their steps [padded tokens].
inline void gather_int16_keys(const HeadSource& source, int64_t head_width, int64_t padded, float* out, float* steps) {
  const int limit = int16_score_limit(head_width);
  const int64_t tokens = source.unit.tokens();
  for (int64_t token = 0; token < tokens; token += kLanes) {
    const int64_t count = smaller(kLanes, tokens - token);
    float inverses[kLanes];
    token_steps(source, token, count, head_width, limit, steps + token, inverses);
    transpose_words(
        [&](int64_t t, int64_t step) { return int16_words(source, token + t, step, head_width, set1(inverses[t])); },
        count, ceil_div(head_width, 2), out + token, padded);
  }
}

// The values of pairs of tokens, [ceil(tokens / 2), padded head width], padding with zeros, and their steps [padded
// head width].
inline void gather_int16_values(const HeadSource& source, int64_t head_width, int64_t padded, float* out,
                                float* steps) {
  const int64_t tokens = source.unit.tokens();
  for (int64_t d = 0; d < padded; d += kLanes) {
    const int64_t count = smaller(kLanes, head_width - d);
    Vec largest = zero();
    for (int64_t token = 0; token < tokens; token++) largest = max_magnitude(largest, source.load(token, d, count));
    const Steps made = int16_steps(largest, kInt16ValueLimit);
    store(steps + d, made.step);
    for (int64_t token = 0; token < tokens; token += 2) {
      const Vec low = source.load(token, d, count) * made.inverse;
      const Vec high = token + 1 < tokens ? source.load(token + 1, d, count) * made.inverse : zero();
      store(out + token / 2 * padded + d, as_lanes(interleaved_words(rounded(low), rounded(high))));
    }
  }
}

// The queries of `count` <= kTileRows tokens, [count, padded], and their steps [kLanes], times `scale`.
inline void gather_int16_queries(const HeadSource& source, int64_t token, int64_t count, int64_t head_width,
                                 int64_t padded, float scale, float* out, float* steps) {
  static_assert(kTileRows <= kLanes);
  float inverses[kLanes];
  token_steps(source, token, count, head_width, int16_score_limit(head_width), steps, inverses);
  store(steps, load(steps) * set1(scale));
  for (int64_t r = 0; r < count; r++) {
    for (int64_t step = 0; step < ceil_div(head_width, 2); step += kLanes)
      store(out + r * padded + step, int16_words(source, token + r, step, head_width, set1(inverses[r])));
  }
}

// ---- Softmax ------------------------------------------------------------------------------------------------------

// Turns a row of sums into probabilities: words in its first half. `bias` [padded] ends in -infinity for padding keys,
// whose sums and steps are 0. The inverse is that of the sum of the probabilities, or NaN where a score is.
inline RowSoftmax int16_softmax(float* row, float query_step, const float* key_steps, const float* bias,
                                int64_t padded) {
  const Vec query = set1(query_step);
  Vec top = set1(-__builtin_inff());
  for (int64_t i = 0; i < padded; i += kLanes) {
    const Vec score = fma(to_float(as_ints(load(row + i))) * query, load(key_steps + i), load(bias + i));
    store(row + i, score);
    top = max(score, top);
  }
  const float highest = reduce_max(top);
  Vec sum = zero();
  for (int64_t i = 0; i < padded; i += kLanes) {
    const Vec e = exp(load(row + i) - set1(highest));
    store(row + i, e);
    sum = sum + e;
  }
  const float total = reduce_add(sum);
  const float most = static_cast<float>(kInt16ProbabilityLimit), factor = kInt16ProbabilitySum / total;
  const Vec scale = set1(factor < most ? factor : most);
  const Ints ones = consecutive_words(rounded(set1(1)), rounded(set1(1)));
  Ints weight = as_ints(zero());
  for (int64_t i = 0; i < padded; i += 2 * kLanes) {
    const Vec first = load(row + i) * scale;
    const Vec second = i + kLanes < padded ? load(row + i + kLanes) * scale : zero();
    const Ints words = consecutive_words(rounded(first), rounded(second));
    store(row + i / 2, as_lanes(words));
    weight = dot_words(weight, words, ones);
  }
  // (Whole numbers below 2^24: this sum is exact.)
  const float inverse = 1.0f / reduce_add(to_float(weight));
  return {total, highest, total == total ? inverse : total};
}

}  // namespace
}  // namespace mome::MOME_ISA
