// patch_embed: pictures to token rows. Each image sequence i reads picture `picture[i]`; its rows are
//   row 0     = cls + position[0] + type[type_index[i]]
//   row 1 + p = weight * patch_p + bias + position[1 + p] + type[type_index[i]]
// with patches in row-major grid order and a patch flattened as (channel, y, x). A masked patch has mask_token in place
// of weight * patch_p + bias. Pixels come either as float32 already
// normalised, [pictures, 3, S, S], or as bytes, [pictures, S, S, 3], normalised here: (b / 255 - 0.5) / 0.5.
#pragma once

#include "core/ops/common.h"

namespace mome {

struct PatchEmbedForward {
  static constexpr const char* kOp = "patch_embed";
  static constexpr Direction kDirection = Direction::forward;
  int64_t images;  // image sequences; output rows = images * (1 + grid^2)
  int64_t image_size, patch_size, width;
  const float* pixels;        // [pictures, 3, image_size, image_size] or null
  const uint8_t* bytes;       // [pictures, image_size, image_size, 3] or null; exactly one is given
  const int32_t* picture;     // [images] in [0, pictures)
  const int32_t* type_index;  // [images] in [0, type_rows)
  Matrix weight;              // [width, 3 * patch_size^2]
  const float* bias;          // [width]
  const float* cls;           // [width]
  const float* position;      // [1 + grid^2, width] or null (relative positions)
  const float* type;          // [type_rows, width]
  int64_t type_rows;
  const int32_t* mask;      // [images, grid^2] 1 where a patch is masked, else 0; or null: none is
  const float* mask_token;  // [width], or null without `mask`
  float* out;               // [images * (1 + grid^2), width]
};

struct PatchEmbedBackward {
  static constexpr const char* kOp = PatchEmbedForward::kOp;
  static constexpr Direction kDirection = Direction::backward;
  int64_t images, image_size, patch_size, width;
  const float* pixels;
  const uint8_t* bytes;
  const int32_t* picture;
  const int32_t* type_index;
  int64_t type_rows;
  const int32_t* mask;  // [images, grid^2] or null
  const float* dout;    // [images * (1 + grid^2), width]
  float* dweight;       // [width, 3 * patch_size^2] +=, or null
  float* dbias;         // [width] +=, or null
  float* dcls;          // [width] +=, or null
  float* dposition;     // [1 + grid^2, width] +=, or null
  float* dtype;         // [type_rows, width] +=, or null
  float* dmask_token;   // [width] +=, or null
};

extern const OpSpec patch_embed_op;

}  // namespace mome
