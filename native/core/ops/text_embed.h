// text_embed: word pieces to token rows, as in BERT and then VLMo's token type:
//   e = word[id] + segment (+ position[index]);  out = layer_norm(e) * gamma + beta, dropped out, + type
// `segment` is row 0 of BERT's own type table, `type` row 0 of VLMo's. Dropout (training only) keeps element (row,
// column) when uniform(seed, row, column) >= dropout and scales by 1 / (1 - dropout); uniform() is core/random.h's
// counter-based hash.
#pragma once

#include "core/ops/common.h"

namespace mome {

struct TextEmbedForward {
  static constexpr const char* kOp = "text_embed";
  static constexpr Direction kDirection = Direction::forward;
  int64_t rows, width, vocabulary, max_length;
  const int32_t* ids;     // [rows] in [0, vocabulary)
  const int32_t* index;   // [rows] position of the token in its text, in [0, max_length)
  const float* word;      // [vocabulary, width]
  const float* segment;   // [width]
  const float* position;  // [max_length, width] or null
  const float* gamma;     // [width]
  const float* beta;      // [width]
  float eps;              // 1e-12
  const float* type;      // [width]
  float dropout;          // 0 in inference
  uint64_t seed;
  float* out;  // [rows, width]
};

// The word gradient of id 0 ([PAD]) stays untouched, as in the original (padding_idx = 0).
struct TextEmbedBackward {
  static constexpr const char* kOp = TextEmbedForward::kOp;
  static constexpr Direction kDirection = Direction::backward;
  int64_t rows, width, vocabulary, max_length;
  const int32_t* ids;
  const int32_t* index;
  const float* word;
  const float* segment;
  const float* position;
  const float* gamma;
  float eps;
  float dropout;
  uint64_t seed;
  const float* dout;  // [rows, width]
  float* dword;       // [vocabulary, width] +=, or null
  float* dsegment;    // [width] +=, or null
  float* dposition;   // [max_length, width] +=, or null
  float* dgamma;      // [width] +=, or null
  float* dbeta;       // [width] +=, or null
  float* dtype;       // [width] +=, or null
};

extern const OpSpec text_embed_op;

}  // namespace mome
