// Bicubic resize of 8-bit RGB images, to the rule the published checkpoints were trained with (Pillow's BICUBIC).
#pragma once

#include <cstdint>

namespace mome {

// Resizes the whole image `source` [height, width, 3] to `target` [target_height, target_width, 3]; both are interleaved
// RGB bytes, row-major, without row padding, and must not overlap.
//
// The filter is the cubic with a = -0.5, widened by the scale when shrinking (antialiasing). Two passes, horizontal then
// vertical; each rounds to 8 bits after a fixed-point sum with 22 fraction bits, so the bytes do not depend on the
// machine. One thread; working memory is one filter height of target rows plus the coefficients.
//
// Returns false, with `target` in an unspecified state, when a pointer is null, a side is outside [1, 2^24], the
// coefficients would exceed 2^26, or memory is short. Never throws.
bool resize_bicubic_rgb(const uint8_t* source, int64_t width, int64_t height, uint8_t* target, int64_t target_width,
                        int64_t target_height);

}  // namespace mome
