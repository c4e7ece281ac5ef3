// The register tile of attention's five products, and how one (sequence, head) unit is laid out in scratch.
#pragma once

#include <cstring>

#include "core/ops/attention.h"
#include "cpu/vector/simd.h"

namespace mome::MOME_ISA {

// 12 x 2 vectors = 24 accumulators of 32 registers (AVX-512), 6 x 2 = 12 of 16 (AVX2): with 2 loads of B and a broadcast of A per
// row the multiply units stay busy.
inline constexpr int kTileRows = kLanes == 16 ? 12 : 6;
inline constexpr int64_t kTileColumns = 2 * kLanes;

inline int64_t round_up(int64_t value, int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

// C[r, 0..2 lanes) (+)= sum over d ascending of A[r row_stride + d depth_stride] B[d ldb ...]. With `add` the chain starts from C.
template <int kRows>
inline void tile(const float* a, int64_t row_stride, int64_t depth_stride, const float* b, int64_t ldb, int64_t depth, float* c, int64_t ldc,
                 bool add) {
  Vec sum[kRows][2];
  for (int r = 0; r < kRows; r++) {
    sum[r][0] = add ? load(c + r * ldc) : zero();
    sum[r][1] = add ? load(c + r * ldc + kLanes) : zero();
  }
  for (int64_t d = 0; d < depth; d++) {
    const Vec b0 = load(b + d * ldb);
    const Vec b1 = load(b + d * ldb + kLanes);
#pragma GCC unroll 12
    for (int r = 0; r < kRows; r++) {
      const Vec value = set1(a[r * row_stride + d * depth_stride]);
      sum[r][0] = fma(value, b0, sum[r][0]);
      sum[r][1] = fma(value, b1, sum[r][1]);
    }
  }
  for (int r = 0; r < kRows; r++) {
    store(c + r * ldc, sum[r][0]);
    store(c + r * ldc + kLanes, sum[r][1]);
  }
}

// C[rows, columns] (+)= A B for any rows; `columns` is a multiple of kTileColumns, B and C have that many readable columns.
inline void product(const float* a, int64_t row_stride, int64_t depth_stride, const float* b, int64_t ldb, int64_t depth, float* c, int64_t ldc,
                    int64_t rows, int64_t columns, bool add) {
  for (int64_t row = 0; row < rows; row += kTileRows) {
    const int64_t count = rows - row < kTileRows ? rows - row : kTileRows;
    for (int64_t column = 0; column < columns; column += kTileColumns) {
      const float* a_row = a + row * row_stride;
      float* out = c + row * ldc + column;
      switch (count) {
#define MOME_TILE(n) \
  case n:            \
    tile<n>(a_row, row_stride, depth_stride, b + column, ldb, depth, out, ldc, add); \
    break;
        MOME_TILE(1)
        MOME_TILE(2)
        MOME_TILE(3)
        MOME_TILE(4)
        MOME_TILE(5)
        MOME_TILE(6)
#if defined(__AVX512F__)
        MOME_TILE(7)
        MOME_TILE(8)
        MOME_TILE(9)
        MOME_TILE(10)
        MOME_TILE(11)
        MOME_TILE(12)
#endif
#undef MOME_TILE
        default:
          break;
      }
    }
  }
}

// Tokens of one sequence: text, then image.
struct Unit {
  Sequence sequence;
  int64_t tokens() const { return sequence.text_length + sequence.image_length; }
  int64_t row(int64_t token) const {
    return token < sequence.text_length ? sequence.text_begin + token : sequence.image_begin + token - sequence.text_length;
  }
};

// Copies one head's columns of all tokens to [tokens, padded], padding with zeros, times `scale`.
inline void gather_head(const Unit& unit, const float* rows, int64_t row_width, int64_t column, int64_t head_width, int64_t padded, float scale,
                        float* out) {
  const int64_t tokens = unit.tokens();
  for (int64_t token = 0; token < tokens; token++) {
    const float* from = rows + unit.row(token) * row_width + column;
    float* to = out + token * padded;
    int64_t i = 0;
    for (; i + kLanes <= head_width; i += kLanes) store(to + i, load(from + i) * set1(scale));
    for (; i < head_width; i++) to[i] = from[i] * scale;
    for (; i < padded; i++) to[i] = 0;
  }
}

// The same transposed: [head_width, padded tokens], padding with zeros.
inline void gather_head_transposed(const Unit& unit, const float* rows, int64_t row_width, int64_t column, int64_t head_width, int64_t padded,
                                   float* out) {
  const int64_t tokens = unit.tokens();
  for (int64_t d = 0; d < head_width; d++) std::memset(out + d * padded + tokens, 0, static_cast<size_t>(padded - tokens) * sizeof(float));
  for (int64_t token = 0; token < tokens; token++) {
    const float* from = rows + unit.row(token) * row_width + column;
    for (int64_t d = 0; d < head_width; d++) out[d * padded + token] = from[d];
  }
}

// One head's relative biases as the score rows want them: the image part reversed, so that a run of keys is a run of memory.
struct HeadBias {
  const float* image_reversed;  // [image offsets], entry i is the table's image_offsets - 1 - i
  const float* text;            // [2 * text_init_length]
  float image_cls_query, image_cls_key, image_cls_cls, text_image, image_text;
};

// Floats HeadBias needs.
inline int64_t head_bias_floats(const RelativePosition& position) {
  return round_up(position.image_offsets() + 2 * position.text_init_length, 16);
}

// Copies one head's columns of the table to `memory` in that order: of the text part what texts of at most
// `longest_text` tokens use, and the image part where there are `images`. (For a short text all of it would take as long as the
// attention itself.)
template <typename Args>
inline void read_head_bias(const Args& a, int64_t head, int64_t longest_text, bool images, float* memory) {
  const RelativePosition& p = a.position;
  const auto at = [&](int64_t row) { return a.table[row * a.table_columns + a.table_column + head]; };
  const int64_t offsets = p.image_offsets();
  for (int64_t i = 0; images && i < offsets; i++) memory[i] = at(offsets - 1 - i);
  if (longest_text == 0) return;
  const int64_t entries = 2 * p.text_init_length, middle = p.text_init_length - 2;  // offset 0
  const auto copy = [&](int64_t first, int64_t end) {
    for (int64_t i = first < 0 ? 0 : first; i < end && i < entries; i++) memory[offsets + i] = at(offsets + 5 + i);
  };
  copy(middle - longest_text + 1, middle + longest_text);
  copy(entries - 3, entries);  // CLS
}

// What read_head_bias left in `memory`, and the five single entries.
template <typename Args>
inline HeadBias head_bias_view(const Args& a, int64_t head, const float* memory) {
  const RelativePosition& p = a.position;
  const auto at = [&](int64_t row) { return a.table[row * a.table_columns + a.table_column + head]; };
  const int64_t offsets = p.image_offsets();
  return {memory, memory + offsets, at(offsets), at(offsets + 1), at(offsets + 2), at(p.text_image()), at(p.image_text())};
}

// The bias of query `token` against all keys; entries past the keys are -infinity, so that they vanish in the softmax.
inline void bias_row(const HeadBias* bias, const RelativePosition& p, const Unit& unit, int64_t token, int64_t padded, float* out) {
  const int64_t texts = unit.sequence.text_length;
  const int64_t images = unit.sequence.image_length;
  const int64_t tokens = texts + images;
  for (int64_t i = tokens; i < padded; i++) out[i] = -__builtin_inff();
  if (bias == nullptr) {
    std::memset(out, 0, static_cast<size_t>(tokens) * sizeof(float));
    return;
  }
  const int64_t length = p.text_init_length;
  if (token < texts) {
    // Text part of the table: offsets from -(length - 2) on, then CLS query, CLS key, CLS-CLS in its last three entries.
    out[0] = bias->text[2 * length - (token == 0 ? 1 : 2)];
    for (int64_t key = 1; key < texts; key++) out[key] = token == 0 ? bias->text[2 * length - 3] : bias->text[key - token + length - 2];
    for (int64_t i = 0; i < images; i++) out[texts + i] = bias->text_image;
    return;
  }
  for (int64_t i = 0; i < texts; i++) out[i] = bias->image_text;
  float* keys = out + texts;
  const int64_t query = token - texts;
  if (query == 0) {
    keys[0] = bias->image_cls_cls;
    for (int64_t i = 1; i < images; i++) keys[i] = bias->image_cls_query;
    return;
  }
  keys[0] = bias->image_cls_key;
  const int64_t grid = p.grid;
  const int64_t side = 2 * grid - 1;
  const int64_t y = (query - 1) / grid, x = (query - 1) % grid;
  for (int64_t key_y = 0; key_y < grid; key_y++) {
    // Reversed index of (query, key (key_y, 0)); it grows by one with each key of the row.
    const int64_t first = p.image_offsets() - 1 - ((y - key_y + grid - 1) * side + x + grid - 1);
    std::memcpy(keys + 1 + key_y * grid, bias->image_reversed + first, static_cast<size_t>(grid) * sizeof(float));
  }
}

// Adds the gradient of one score row to the head's partial table (image part reversed, then the table's rows as they are).
inline void add_bias_gradient(const RelativePosition& p, const Unit& unit, int64_t token, const float* dscore, float* partial) {
  const int64_t texts = unit.sequence.text_length;
  const int64_t images = unit.sequence.image_length;
  const int64_t offsets = p.image_offsets();
  if (token < texts) {
    for (int64_t key = 0; key < texts; key++) partial[p.text_text(token, key)] += dscore[key];
    float sum = 0;
    for (int64_t i = 0; i < images; i++) sum += dscore[texts + i];
    partial[p.text_image()] += sum;
    return;
  }
  float sum = 0;
  for (int64_t i = 0; i < texts; i++) sum += dscore[i];
  partial[p.image_text()] += sum;
  const float* keys = dscore + texts;
  const int64_t query = token - texts;
  partial[p.image_image(query, 0)] += keys[0];  // a CLS entry, past the reversed part
  if (query == 0) {
    sum = 0;
    for (int64_t i = 1; i < images; i++) sum += keys[i];
    partial[offsets] += sum;
    return;
  }
  const int64_t grid = p.grid;
  const int64_t y = (query - 1) / grid, x = (query - 1) % grid;
  for (int64_t key_y = 0; key_y < grid; key_y++) {
    float* run = partial + offsets - 1 - ((y - key_y + grid - 1) * (2 * grid - 1) + x + grid - 1);
    for (int64_t key_x = 0; key_x < grid; key_x++) run[key_x] += keys[1 + key_y * grid + key_x];
  }
}

}  // namespace mome::MOME_ISA
