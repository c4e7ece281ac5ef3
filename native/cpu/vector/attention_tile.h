// The register tile of attention's five products, and how one (sequence, head) unit is laid out in scratch.
#pragma once

#include <cstring>

#include "core/ops/attention.h"
#include "cpu/vector/gemm_pack.h"
#include "cpu/vector/simd.h"

namespace mome::MOME_ISA {
namespace {

// 12 x 2 vectors = 24 accumulators of 32 registers (AVX-512), 6 x 2 = 12 of 16 (AVX2): with 2 loads of B and a
// broadcast of A per row the multiply units stay busy. Columns are filled up to one vector, so the last tile of a row
// may be a single vector wide.
inline constexpr int kTileRows = kLanes == 16 ? 12 : 6;
inline constexpr int kTileVectors = 2;

inline int64_t round_up(int64_t value, int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

// C[r, 0..kVectors lanes) (+)= sum over steps d ascending of A[r row_stride + d depth_stride] B[d ldb ...], where a
// step is a number or a pair of bfloat16, as Panel multiplies (gemm_kernel.h). With `add` the chain starts from C.
using ProductTile = void (*)(const float* a, int64_t row_stride, int64_t depth_stride, const float* b, int64_t ldb,
                             int64_t depth, float* c, int64_t ldc, bool add);

template <typename Panel, int kRows, int kVectors>
[[gnu::noinline]] void product_tile(const float* a, int64_t row_stride, int64_t depth_stride, const float* b,
                                    int64_t ldb, int64_t depth, float* c, int64_t ldc, bool add) {
  Vec sum[kRows][kVectors];
#pragma GCC unroll 12
  for (int r = 0; r < kRows; r++) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; v++) sum[r][v] = add ? load(c + r * ldc + v * kLanes) : zero();
  }
#pragma GCC unroll 1
  for (int64_t d = 0; d < depth; d++) {
    Vec column[kVectors];
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; v++) column[v] = load(b + d * ldb + v * kLanes);
#pragma GCC unroll 12
    for (int r = 0; r < kRows; r++) {
      const Vec value = set1(a[r * row_stride + d * depth_stride]);
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; v++) sum[r][v] = Panel::multiply(value, column[v], sum[r][v]);
    }
  }
#pragma GCC unroll 12
  for (int r = 0; r < kRows; r++) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; v++) store(c + r * ldc + v * kLanes, sum[r][v]);
  }
}

// The tile of `rows` in [1, kTileRows].
template <typename Panel, int kVectors, int kRows = kTileRows>
ProductTile select_product_tile(int64_t rows) {
  if constexpr (kRows > 1) {
    if (rows != kRows) return select_product_tile<Panel, kVectors, kRows - 1>(rows);
  }
  return product_tile<Panel, kRows, kVectors>;
}

// C[rows, columns] (+)= A B for any rows and `depth` steps; `columns` is a multiple of kLanes, B and C have that many
// readable columns. Returns early, with rows missing, once the pool is stopped: the products of one head of a large
// picture take long.
template <typename Panel>
inline void product(const ThreadPool& pool, const float* a, int64_t row_stride, int64_t depth_stride, const float* b,
                    int64_t ldb, int64_t depth, float* c, int64_t ldc, int64_t rows, int64_t columns, bool add) {
  constexpr int64_t kWide = kTileVectors * kLanes;
  for (int64_t row = 0; row < rows && !pool.stopped(); row += kTileRows) {
    const int64_t count = rows - row < kTileRows ? rows - row : kTileRows;
    const ProductTile wide = select_product_tile<Panel, kTileVectors>(count);
    const float* a_row = a + row * row_stride;
    float* out = c + row * ldc;
    int64_t column = 0;
    for (; column + kWide <= columns; column += kWide)
      wide(a_row, row_stride, depth_stride, b + column, ldb, depth, out + column, ldc, add);
    if (column < columns)
      select_product_tile<Panel, 1>(count)(a_row, row_stride, depth_stride, b + column, ldb, depth, out + column, ldc,
                                           add);
  }
}

// Tokens of one sequence: text, then image.
struct Unit {
  Sequence sequence;
  int64_t tokens() const { return sequence.text_length + sequence.image_length; }
  int64_t row(int64_t token) const {
    return token < sequence.text_length ? sequence.text_begin + token
                                        : sequence.image_begin + token - sequence.text_length;
  }
};

// Asks for one head's q, k and v of the tokens [first, end): lines 3 width apart, which no prefetcher of the processor
// foresees.
inline void prefetch_head(const Unit& unit, const float* qkv, int64_t width, int64_t column, int64_t head_width,
                          int64_t first, int64_t end) {
  constexpr int64_t kLine = 64 / sizeof(float);
  for (int64_t token = first; token < end; token++) {
    const float* row = qkv + unit.row(token) * 3 * width + column;
    for (int64_t part = 0; part < 3; part++, row += width) {
      for (int64_t d = 0; d < head_width; d += kLine) __builtin_prefetch(row + d, 0, 2);
    }
  }
}

// Of a row of scores.
struct RowSoftmax {
  float sum, max;  // of e^(score - max)
  float inverse;   // what results of the row are multiplied with
};

// Some tokens of a unit, in ascending order; null = all.
struct Tokens {
  const int32_t* chosen;
  int64_t count;
  int64_t operator[](int64_t i) const { return chosen == nullptr ? i : chosen[i]; }
};

// One head's columns of a unit's tokens, times `scale`.
struct HeadSource {
  const Unit& unit;
  const float* rows;  // at the head's first column
  int64_t row_width;
  float scale;
  Vec load(int64_t token, int64_t d, int64_t count) const {
    return load_part(rows + unit.row(token) * row_width + d, count) * set1(scale);
  }
};

// The head's columns of some tokens, [count, padded], padding with zeros.
inline void gather_head(const HeadSource& source, const Tokens& tokens, int64_t head_width, int64_t padded,
                        float* out) {
  for (int64_t i = 0; i < tokens.count; i++) {
    for (int64_t d = 0; d < padded; d += kLanes)
      store(out + i * padded + d, source.load(tokens[i], d, smaller(kLanes, head_width - d)));
  }
}

// The head transposed, [steps, padded tokens], padding with zeros. A step is kStepDepth columns of the head.
template <int64_t kStepDepth>
inline void gather_head_transposed(const HeadSource& source, int64_t head_width, int64_t padded, float* out) {
  const int64_t tokens = source.unit.tokens(), steps = ceil_div(head_width, kStepDepth);
  for (int64_t token = 0; token < tokens; token += kLanes) {
    for (int64_t step = 0; step < steps; step += kLanes) {
      Vec block[kLanes];
#pragma GCC unroll 16
      for (int t = 0; t < kLanes; t++) {
        block[t] = token + t < tokens ? words_of<kStepDepth>(source, token + t, step, head_width) : zero();
      }
      transpose(block);
      for (int64_t i = 0; i < smaller(kLanes, steps - step); i++) store(out + (step + i) * padded + token, block[i]);
    }
  }
}

#if MOME_HAS_PAIRS
// The head's columns of pairs of tokens, [ceil(tokens / 2), padded], padding with zeros.
inline void gather_head_pairs(const HeadSource& source, int64_t head_width, int64_t padded, float* out) {
  const int64_t tokens = source.unit.tokens();
  for (int64_t token = 0; token < tokens; token += 2) {
    for (int64_t d = 0; d < padded; d += kLanes) {
      const int64_t count = smaller(kLanes, head_width - d);
      const Vec low = source.load(token, d, count);
      const Vec high = token + 1 < tokens ? source.load(token + 1, d, count) : zero();
      store_pairs(out + token / 2 * padded + d, interleaved_pairs(low, high));
    }
  }
}
#endif

// One head's relative biases as the score rows want them: the image part reversed, so that a run of keys is a run of
// memory.
struct HeadBias {
  const float* image_reversed;  // [image offsets], entry i is the table's image_offsets - 1 - i
  const float* text;            // [2 * text_init_length]
  float image_cls_query, image_cls_key, image_cls_cls, text_image, image_text;
};

// Floats HeadBias needs.
inline int64_t head_bias_floats(const RelativePosition& position) {
  return round_up(position.image_offsets() + 2 * position.text_init_length, 16);
}

// Copies one head's columns of the table to `memory` in that order: the rows of the text part that texts of up to
// `longest_text` tokens use, and the image part if there are `images`. (Copying everything for a short text would take
// as long as its attention.)
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
  return {memory,          memory + offsets,   at(offsets),       at(offsets + 1),
          at(offsets + 2), at(p.text_image()), at(p.image_text())};
}

// Copies `count` floats.
inline void copy_run(const float* from, float* to, int64_t count) {
  if (count < kLanes) {
    store(to, load(from, count), count);
    return;
  }
  for (int64_t i = 0; i + kLanes <= count; i += kLanes) store(to + i, load(from + i));
  store(to + count - kLanes, load(from + count - kLanes));
}

// The bias of query `token` against all keys; entries past the keys are -infinity, so that they vanish in the softmax.
inline void bias_row(const HeadBias* bias, const RelativePosition& p, const Unit& unit, int64_t token, int64_t padded,
                     float* out) {
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
    // Text part of the table: offsets from -(length - 2) on, then CLS query, CLS key, CLS-CLS in its last three
    // entries.
    out[0] = bias->text[2 * length - (token == 0 ? 1 : 2)];
    for (int64_t key = 1; key < texts; key++)
      out[key] = token == 0 ? bias->text[2 * length - 3] : bias->text[key - token + length - 2];
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
    copy_run(bias->image_reversed + first, keys + 1 + key_y * grid, grid);
  }
}

inline float sum_of(const float* values, int64_t count) {
  Vec sum = zero();
  for (int64_t i = 0; i < count; i += kLanes) sum = sum + load_part(values + i, smaller(kLanes, count - i));
  return reduce_add(sum);
}

// Adds the gradient of one score row to the head's partial table (image part reversed, then the table's rows as they
// are).
inline void add_bias_gradient(const RelativePosition& p, const Unit& unit, int64_t token, const float* dscore,
                              float* partial) {
  const int64_t texts = unit.sequence.text_length;
  const int64_t images = unit.sequence.image_length;
  const int64_t offsets = p.image_offsets();
  if (token < texts) {
    for (int64_t key = 0; key < texts; key++) partial[p.text_text(token, key)] += dscore[key];
    partial[p.text_image()] += sum_of(dscore + texts, images);
    return;
  }
  partial[p.image_text()] += sum_of(dscore, texts);
  const float* keys = dscore + texts;
  const int64_t query = token - texts;
  partial[p.image_image(query, 0)] += keys[0];  // a CLS entry, past the reversed part
  if (query == 0) {
    partial[offsets] += sum_of(keys + 1, images - 1);
    return;
  }
  const int64_t grid = p.grid;
  const int64_t y = (query - 1) / grid, x = (query - 1) % grid;
  for (int64_t key_y = 0; key_y < grid; key_y++) {
    float* run = partial + offsets - 1 - ((y - key_y + grid - 1) * (2 * grid - 1) + x + grid - 1);
    for (int64_t key_x = 0; key_x < grid; key_x += kLanes) {
      const int64_t count = smaller(kLanes, grid - key_x);
      store_part(run + key_x, load_part(run + key_x, count) + load_part(keys + 1 + key_y * grid + key_x, count), count);
    }
  }
}

}  // namespace
}  // namespace mome::MOME_ISA
