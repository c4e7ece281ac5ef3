// What both attention kernels share: where the tokens of a sequence lie, and the bias of a pair of tokens.
#pragma once

#include "core/ops/attention.h"
#include "cuda/config/attention_kernel.h"
#include "cuda/primitives/mma.h"
#include "cuda/primitives/queue.h"
#include "cuda/primitives/warp.h"

namespace mome::cuda {

MOME_DEVICE int64_t token_count(const Sequence& s) { return int64_t{s.text_length} + s.image_length; }

MOME_DEVICE int64_t token_row(const Sequence& s, int64_t token) {
  return token < s.text_length ? s.text_begin + token : s.image_begin + token - s.text_length;
}

// The row of the bias table for a pair of tokens (core/relative_position.h has the layout), split so that a pair costs
// two operations:
//   row = (base of the query & mask of the key) + add of the key
// where mask and add also depend on the kind of the query token. For two patches, or two words, the row is a difference
// of offsets. Pairs with CLS or with the other modality have rows of their own, so their mask is 0.
enum QueryKind : int { kTextQuery, kTextClsQuery, kImageQuery, kImageClsQuery };
inline constexpr int kQueryKinds = 4;

struct BiasTerm {
  int mask, add;
};

MOME_DEVICE int query_kind(const Sequence& s, int64_t token) {
  if (token < s.text_length) return token == 0 ? kTextClsQuery : kTextQuery;
  return token == s.text_length ? kImageClsQuery : kImageQuery;
}

// Of patch `patch` counted from the upper left, or of word `token`.
MOME_DEVICE int patch_offset(const RelativePosition& position, int patch) {
  return patch / position.grid * (2 * position.grid - 1) + patch % position.grid;
}

MOME_DEVICE int query_base(const RelativePosition& position, const Sequence& s, int64_t token) {
  const int images = static_cast<int>(position.image_offsets());
  if (token < s.text_length) return images + 5 + position.text_init_length - 2 - static_cast<int>(token);
  const int patch = static_cast<int>(token - s.text_length) - 1;
  if (patch < 0) return 0;
  return (position.grid - 1) * (2 * position.grid - 1) + position.grid - 1 + patch_offset(position, patch);
}

MOME_DEVICE BiasTerm bias_term(const RelativePosition& position, const Sequence& s, int kind, int64_t key) {
  const int images = static_cast<int>(position.image_offsets());
  const bool query_text = kind <= kTextClsQuery, key_text = key < s.text_length,
             query_cls = kind == kTextClsQuery || kind == kImageClsQuery;
  if (query_text != key_text) return {0, query_text ? images + 3 : images + 4};
  // Three rows: CLS -> any, any -> CLS, CLS -> CLS.
  const int specials = query_text ? static_cast<int>(position.rows()) - 3 : images;
  const int place = static_cast<int>(key_text ? key : key - s.text_length);
  if (place == 0) return {0, query_cls ? specials + 2 : specials + 1};
  if (query_cls) return {0, specials};
  return {-1, key_text ? place : -patch_offset(position, place - 1)};
}

MOME_DEVICE int bias_row(int base, const BiasTerm& term) { return (base & term.mask) + term.add; }

// What the kernels get: the op's arguments without pointers of the wrong type.
struct AttentionShape {
  int64_t width, heads;
  const Sequence* sequences;
  const float* table;  // or null
  int64_t table_columns, table_column;
  RelativePosition position;
  float scale;
  float* lse;  // or null
};

// This head's column of the table, into shared memory. The caller waits.
MOME_DEVICE void load_bias(const AttentionShape& a, int64_t head, float* bias) {
  if (a.table == nullptr) return;
  for (int64_t i = threadIdx.x; i < a.position.rows(); i += blockDim.x)
    bias[i] = a.table[i * a.table_columns + a.table_column + head];
}

// attention_bf16.cu: bfloat16 rows on tensor cores, where `choice` says so.
Status attention_bf16(const AttentionForward& a, const AttentionShape& shape, const AttentionChoice& choice,
                      const Queue& queue);

}  // namespace mome::cuda
