// Bicubic resize of 8-bit RGB images, to the rule the published checkpoints were trained with (Pillow's BICUBIC).
#pragma once

#include <cstdint>
#include <memory>

namespace mome {

// Resizes the whole image `source` [height, width, 3] to `target` [target_height, target_width, 3]; both are
// interleaved RGB bytes, row-major, without row padding, and must not overlap.
//
// The filter is the cubic with a = -0.5, widened by the scale when shrinking (antialiasing). Two passes, horizontal
// then vertical; each rounds to 8 bits after a fixed-point sum with 22 fraction bits, so the bytes do not depend on the
// machine. One thread; working memory is one filter height of target rows plus the coefficients.
//
// Returns false, with `target` in an unspecified state, when a pointer is null, a side is outside [1, 2^24], the
// coefficients would exceed 2^26, or memory is short. Never throws.
bool resize_bicubic_rgb(const uint8_t* source, int64_t width, int64_t height, uint8_t* target, int64_t target_width,
                        int64_t target_height);

// The same in parts. The pixels need to stay valid only during each call of `run`, not in between.
class BicubicResize {
 public:
  // One axis: each target position reads source samples [first, first + count) with their weights.
  struct Axis {
    int64_t stride = 0;     // weights per target position, even; unused ones are zero
    int64_t most_taps = 0;  // largest count
    std::unique_ptr<int32_t[]> first;
    std::unique_ptr<int32_t[]> count;
    std::unique_ptr<int16_t[]> high;  // [target, stride]
    std::unique_ptr<int16_t[]> low;   // [target, stride]
  };

  // False where `resize_bicubic_rgb` would be.
  bool prepare(int64_t width, int64_t height, int64_t target_width, int64_t target_height);
  // Writes the next `count` rows of `target`, or fewer at the end. Every call takes the same two whole arrays.
  void run(const uint8_t* source, uint8_t* target, int64_t count);

 private:
  int64_t width_ = 0, target_width_ = 0, target_height_ = 0;
  bool copied_ = false;
  Axis across_, down_;
  std::unique_ptr<uint8_t[]> ring_, padded_;
  std::unique_ptr<const uint8_t*[]> rows_;
  int64_t next_row_ = 0;    // first source row that is not in the ring yet
  int64_t target_row_ = 0;  // first target row that is not written yet
};

}  // namespace mome
