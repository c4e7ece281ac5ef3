// Rounding of weights and activations to fewer bits, one definition for every target. (Not inline: a file compiled for
// one instruction set must not lend its copy to the others.)
//
// int8 is symmetric: x ~ scale * q with q in [-127, 127], and a weight smaller where a target's products take less. A
// weight has one scale per output; an activation one per row, or one per row and block of kQuantBlock columns where its
// producer finishes a block at a time (the hidden activations of an expert).
#pragma once

#include <cstdint>

namespace mome {

inline constexpr int64_t kQuantBlock = 256;  // columns under one scale of a hidden activation
inline constexpr int kQuantLimit = 127;      // the largest magnitude of 8 bits
// Activations whose largest magnitude is below this count as 0: kQuantLimit / largest leaves float32 below 3.8e-37.
inline constexpr float kQuantNegligible = 0x1p-100f;

// Some targets add four products in 16 bits: of the elements {0, 1, 4, 5} and {2, 3, 6, 7} of each 8. Weights of one
// sign among such four must then add up to a limit at most (weight_sum_limit in core/kernel.h), or to this where there
// is none.
inline constexpr int kNoSumLimit = 4 * kQuantLimit;

// to[i] = the nearest bfloat16 of from[i], as a float; ties to even. NaN stays NaN. `to` may be `from`.
void round_to_bf16(const float* from, int64_t count, float* to);

// The scale of a weight row [count]: its largest magnitude / 127, rounded up to 16 significant bits. 127 * scale is
// then exact, so quantising the dequantised row gives the same numbers again. NaN for a row with an element that is not
// finite.
float weight_row_scale(const float* row, int64_t count);

// q[i] = row[i] / scale, rounded, 0 where the scale is 0 or NaN; and that times `factor`, rounded again.
void quantise_weights(const float* row, int64_t count, float scale, double factor, int8_t* q);

// The factor that makes a row [count] with this scale fit the limit: 1 where it does anyway. Its scale is then
// narrowed_scale. The factor is one of the 8 bits, not of the original numbers: a file of 8-bit weights gives the bits
// of one that is rounded at load.
double weight_row_factor(const float* row, int64_t count, float scale, int sum_limit);
float narrowed_scale(float scale, double factor);

// Replaces a weight [rows, columns] by the numbers that products with this limit see.
void round_weights(int64_t rows, int64_t columns, int sum_limit, float* values);

// What the kernels make of an activation row [count]: every element replaced by scale * q with scale = largest
// magnitude / 127 over each `block` of columns. The plain truth that vector kernels are held to.
void quantise_activation_row(const float* row, int64_t count, int64_t block, float* dequantised);

// ---- 16 bits, in attention ------------------------------------------------------------------------------------------
//
// x ~ step * q with |q| <= limit, step = largest magnitude / limit. One step for each query and key over the width of
// their head, and one for each column of a head's values over the tokens of their sequence, so that a sequence's result
// depends on nothing else in its batch. Limits are such that no sum of products leaves 32 bits.
//
// Scores: at most head width products of limit^2 each.
//
// Results: with e = e^(score - highest score) and S their sum over the keys, both in float32, probabilities are e times
// min(kInt16ProbabilityLimit, kInt16ProbabilitySum / S), rounded. Every e is at most 1. Of n keys their sum is at most
// kInt16ProbabilitySum (1 + r) + n / 2, where n / 2 comes of the rounding to integers and r of the rounding of S (a
// chain of n / 8 + 3 additions at most) and of the two products: below 2^-14 for n = kInt16Tokens. That times
// kInt16ValueLimit fits. Flat rows of many keys get few steps each: above kInt16Tokens attention is float32.
//
// Results are divided by the sum of the rounded probabilities and not by S. Both are exact. By the former, weights add
// up to 1: what rounding adds to all probabilities of a row alike cancels (in a flat row that is everything), and
// a column of equal values keeps its value.
inline constexpr int kInt16ValueLimit = 4095;
inline constexpr int kInt16ProbabilityLimit = 32767;
inline constexpr int kInt16ProbabilitySum = 520000;
inline constexpr int kInt16Tokens = 4096;
inline constexpr int kInt16LeastTokens = 96;  // making integers of fewer takes longer than multiplying them saves
inline constexpr int kInt16HeadWidth = 2048;
static_assert(int64_t{kInt16ValueLimit} *
                  (kInt16ProbabilitySum + kInt16ProbabilitySum / (1 << 14) + 1 + kInt16Tokens / 2) <=
              INT32_MAX);
// Magnitudes below count as 0: their inverse steps could leave float32.
inline constexpr float kInt16Negligible = 0x1p-100f;

// Whether a sequence of this many tokens attends in 16 bits in heads of this width.
bool fits_int16(int64_t head_width, int64_t tokens);

// The limit of queries and keys: the largest with head_width * limit^2 < 2^31, and at most 32,767.
int int16_score_limit(int64_t head_width);

// Makes integers of `count` numbers that lie `stride` apart, in x and in q, and returns their step: NaN, beside zeros,
// where a number is not finite.
float quantise_int16(const float* x, int64_t count, int64_t stride, int limit, float* q);

}  // namespace mome
