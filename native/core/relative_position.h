// Row of `relative_position_bias_table` for each (query, key) pair; the one place that knows the table's layout.
//
//   [0, (2g-1)^2)        image-image, 2-D offset query - key on the g x g grid
//   + 0, 1, 2            image: CLS query -> any, any -> CLS key, CLS -> CLS
//   + 3, 4               text query -> image key, image query -> text key
//   + 5 ...              text-text by 1-D offset key - query, then 3 CLS entries as for images at the table's end
// Source: the original VLMo code's index construction, pinned by the golden cases. The functions are always inlined:
// files compiled for one instruction set must not lend their copy to others.
#pragma once

#include <cstdint>

namespace mome {

struct RelativePosition {
  int32_t grid = 0;              // patches along a side of the picture
  int32_t text_init_length = 0;  // text length for which the text part was sized (196 in the official checkpoints)

  [[gnu::always_inline]] constexpr int64_t image_offsets() const { return int64_t{2 * grid - 1} * (2 * grid - 1); }
  [[gnu::always_inline]] constexpr int64_t rows() const {
    return image_offsets() + 3 + 2 + 2 * int64_t{text_init_length};
  }

  // Tokens: 0 is CLS, 1 + y * grid + x a patch.
  [[gnu::always_inline]] int64_t image_image(int64_t query, int64_t key) const {
    if (query == 0 && key == 0) return image_offsets() + 2;
    if (query == 0) return image_offsets();
    if (key == 0) return image_offsets() + 1;
    const int64_t dy = (query - 1) / grid - (key - 1) / grid + grid - 1;
    const int64_t dx = (query - 1) % grid - (key - 1) % grid + grid - 1;
    return dy * (2 * grid - 1) + dx;
  }
  [[gnu::always_inline]] constexpr int64_t text_image() const { return image_offsets() + 3; }
  [[gnu::always_inline]] constexpr int64_t image_text() const { return image_offsets() + 4; }
  [[gnu::always_inline]] int64_t text_text(int64_t query, int64_t key) const {
    if (query == 0 && key == 0) return rows() - 1;
    if (query == 0) return rows() - 3;
    if (key == 0) return rows() - 2;
    return image_offsets() + 5 + (key - query) + (text_init_length - 2);
  }
};

}  // namespace mome
