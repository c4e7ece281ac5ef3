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

}  // namespace mome
