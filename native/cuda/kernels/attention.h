// What both attention kernels share: where the tokens of a sequence lie, and the bias of a pair of tokens.
#pragma once

#include "core/ops/attention.h"
#include "cuda/prim/mma.h"
#include "cuda/prim/queue.h"
#include "cuda/prim/warp.h"

namespace mome::cuda {

MOME_DEVICE int64_t token_count(const Sequence& s) { return int64_t{s.text_length} + s.image_length; }

MOME_DEVICE int64_t token_row(const Sequence& s, int64_t token) {
  return token < s.text_length ? s.text_begin + token : s.image_begin + token - s.text_length;
}

// A token as the bias sees it. Two tokens of one kind differ by `offset`, which is a subtraction away from their row of the table
// (core/relative_position.h has the table's layout); CLS and the other kind have rows of their own.
struct BiasPlace {
  enum Kind : int { text_cls, text, image_cls, image };
  int kind;
  int offset;
};

MOME_DEVICE BiasPlace bias_place(const RelativePosition& position, const Sequence& s, int64_t token) {
  if (token < s.text_length) return {token == 0 ? BiasPlace::text_cls : BiasPlace::text, static_cast<int>(-token)};
  const int patch = static_cast<int>(token - s.text_length) - 1;
  if (patch < 0) return {BiasPlace::image_cls, 0};
  return {BiasPlace::image, patch / position.grid * (2 * position.grid - 1) + patch % position.grid};
}

MOME_DEVICE int bias_row(const RelativePosition& position, const BiasPlace& query, const BiasPlace& key) {
  const int images = static_cast<int>(position.image_offsets()), rows = static_cast<int>(position.rows());
  const bool query_text = query.kind <= BiasPlace::text, key_text = key.kind <= BiasPlace::text;
  const bool query_cls = query.kind % 2 == 0, key_cls = key.kind % 2 == 0;
  if (query_text != key_text) return query_text ? images + 3 : images + 4;
  const int specials = query_text ? rows - 3 : images;  // CLS -> any, any -> CLS, CLS -> CLS
  if (query_cls) return key_cls ? specials + 2 : specials;
  if (key_cls) return specials + 1;
  const int centre = query_text ? images + 5 + position.text_init_length - 2 : (position.grid - 1) * (2 * position.grid - 1) + position.grid - 1;
  return centre + query.offset - key.offset;
}

// What the kernels get: the op's arguments without pointers of the wrong type.
struct AttentionShape {
  int64_t width, heads;
  const Sequence* sequences;
  const float* table;  // or null
  int64_t table_columns, table_column;
  RelativePosition position;
  float scale;
  float* lse;          // or null
};

// This head's column of the table, into shared memory. The caller waits.
MOME_DEVICE void load_bias(const AttentionShape& a, int64_t head, float* bias) {
  if (a.table == nullptr) return;
  for (int64_t i = threadIdx.x; i < a.position.rows(); i += blockDim.x) bias[i] = a.table[i * a.table_columns + a.table_column + head];
}

inline size_t bias_bytes(const AttentionShape& a) { return a.table == nullptr ? 0 : (static_cast<size_t>(a.position.rows()) * sizeof(float) + 15) / 16 * 16; }

// attention_bf16.cu: bfloat16 rows on tensor cores; heads of up to kMaxTensorHeadWidth.
inline constexpr int kMaxTensorHeadWidth = 128;
Status attention_bf16(const AttentionForward& a, const AttentionShape& shape, const Queue& queue);

}  // namespace mome::cuda
