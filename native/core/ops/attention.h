// attention: softmax(scale * q k^T + bias) v per sequence and head, over ragged rows. A sequence is up to two row
// ranges (text, then image) read as one key list; its queries are the same rows. Scores and softmax in float32. With
// `type` bf16, scale * q, k, v and e^(score - highest score) are rounded to bfloat16 before they are multiplied; with
// int16 they become integers (core/quantise.h), but for sequences and heads of sizes for which fits_int16 says no.
#pragma once

#include "core/matrix.h"
#include "core/ops/common.h"
#include "core/relative_position.h"

namespace mome {

// Row ranges of one sequence; a length of 0 means it lacks that modality. The text range starts with CLS and so does
// the image range (position inside the range = token index).
struct Sequence {
  int32_t text_begin, text_length;
  int32_t image_begin, image_length;
};

struct AttentionForward {
  static constexpr const char* kOp = "attention";
  static constexpr Direction kDirection = Direction::forward;
  int64_t rows, width, heads;  // head width = width / heads
  int64_t sequence_count;
  const Sequence* sequences;  // [sequence_count]; disjoint ranges inside [0, rows)
  const float* qkv;           // [rows, 3 * width]: q heads, k heads, v heads
  const float* table;         // [position.rows(), table_columns] or null (no relative bias)
  int64_t table_columns;      // heads * layers
  int64_t table_column;       // layer * heads: column of head 0
  RelativePosition position;
  float scale;       // head width ^ -0.5
  float* out;        // [rows, width]; rows of no sequence are set to 0
  float* lse;        // [rows, heads] natural log-sum-exp of the scores, or null when no backward follows
  int64_t longest;   // tokens of the longest sequence, rounded up to kLongestStep: devices size their launch by it
  bool covers_rows;  // every row belongs to a sequence: nothing has to be set to 0
  ProductType type = ProductType::f32;  // of both products on a processor
};
inline constexpr int64_t kLongestStep = 64;

// Fills `longest` and `covers_rows` from sequences that this processor can read.
inline void summarise_sequences(const Sequence* sequences, AttentionForward& a) {
  int64_t longest = 0, covered = 0;
  for (int64_t i = 0; i < a.sequence_count; i++) {
    const int64_t tokens = int64_t{sequences[i].text_length} + sequences[i].image_length;
    covered += tokens;
    longest = tokens > longest ? tokens : longest;
  }
  a.longest = (longest + kLongestStep - 1) / kLongestStep * kLongestStep;
  a.covers_rows = covered == a.rows;
}

struct AttentionBackward {
  static constexpr const char* kOp = AttentionForward::kOp;
  static constexpr Direction kDirection = Direction::backward;
  int64_t rows, width, heads;
  int64_t sequence_count;
  const Sequence* sequences;
  const float* qkv;
  const float* table;
  int64_t table_columns;
  int64_t table_column;
  RelativePosition position;
  float scale;
  const float* out;   // saved by forward
  const float* lse;   // saved by forward
  const float* dout;  // [rows, width]
  float* dqkv;        // [rows, 3 * width]; rows of no sequence are set to 0
  float* dtable;      // [position.rows(), table_columns] += in this layer's columns, or null
};

extern const OpSpec attention_op;

}  // namespace mome
