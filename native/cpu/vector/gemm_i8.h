// Products with 8-bit weights: C[rows, columns] = epilogue((scale_a q_a) (scale_b q_b)), sums exact in 32 bits,
// everything around them in float32.
//
// Rows of A are quantised while they are packed, or by their producer; a row has one scale, or one per block of
// kQuantBlock columns, and then the sums turn into float32 at the end of every block. 2 rows columns depth operations;
// with VNNI a 14 x 32 tile does 28 instructions of 64 products per step of 4, for 2 loads of B and 14 broadcasts: bound
// by the multiply ports like the float32 tile. (dot.h has the other instruction sets.)
//
// A panel of B: scale f32 [kPanel], compensation of the whole depth i32 [kPanel], compensation of each block i32
// [blocks][kPanel], then the weights, [steps][kDotDepth / kLaneDepth][kPanel][kLaneDepth] signed bytes, zeros past the
// depth.
#pragma once

#include "core/blocking.h"
#include "core/quantise.h"
#include "core/thread_pool.h"
#include "cpu/vector/dot.h"
#include "cpu/vector/gemm_pack.h"

namespace mome::MOME_ISA {

// One block of the depth: `a` [steps][R] words, `b` the weights of these steps, sums starting from `start` [kPanel].
// `tile` [R][kPanel] becomes (carry ? tile : 0) + row_scale * sum, and that times `column_scale` unless it is null: the
// block is the last.
using DotKernel = void (*)(int64_t steps, const Word* a, const std::byte* b, const int32_t* start,
                           const float* row_scale, const float* column_scale, float* tile, bool carry);

// The tile of `rows` in [1, kMaxDotRows] (tiles.cc), for which tile registers are shaped where they are used. `stream`:
// the tile is the first to read its weights.
DotKernel dot_kernel(int64_t rows, bool stream);

namespace {

// 6 rows and more leave registers as in the float32 tile; steps of two words take 4 of weights, 1 of ones and 4 while
// they are summed.
inline constexpr int kMaxDotRows = kDotDepth == 8 ? 4 : kMaxTileRows;
#if MOME_HAS_TILES
inline constexpr int64_t kDotGroup = kAmxWords;  // steps of a tile of A that lie together, as in gemm_kernel.h
using DotRegisters = TileRegisters;
#else
inline constexpr int64_t kDotGroup = 1;
using DotRegisters = NoTileRegisters;
#endif
inline Tiles dot_tiles(int64_t rows) { return Tiles(rows, kMaxDotRows); }

inline int64_t quant_blocks(int64_t depth) { return ceil_div(depth, kQuantBlock); }
inline int64_t dot_words(int64_t depth) { return ceil_div(depth, kDotDepth); }
// Steps are filled up to whole groups. What a row has there does not matter: the weights are 0.
inline int64_t dot_steps(int64_t depth) { return ceil_div(depth, kDotDepth * kDotGroup) * kDotGroup; }
// The floats that a row takes, packed in float32 or quantised.
inline int64_t packed_row_floats(int64_t depth) {
  return larger(most_steps(depth), dot_steps(depth) * static_cast<int64_t>(sizeof(Word) / sizeof(float)));
}

struct I8Panel {
  const std::byte* p;
  int64_t depth;
  const float* scale() const { return reinterpret_cast<const float*>(p); }
  const int32_t* whole() const { return reinterpret_cast<const int32_t*>(p) + kPanel; }
  const int32_t* block(int64_t b) const { return whole() + (1 + b) * kPanel; }
  const std::byte* weights() const { return reinterpret_cast<const std::byte*>(block(quant_blocks(depth))); }
  static int64_t bytes(int64_t depth) {
    return kPanel * ((2 + quant_blocks(depth)) * int64_t{sizeof(float)} + dot_steps(depth) * kDotDepth);
  }
};

// ---- Quantising rows --------------------------------------------------------------------------------------------------------

struct RowScale {
  float scale, inverse;
  // `bits` of the largest magnitude. A row that is not finite gets a scale that is NaN, and so does all that is made of
  // it. One that is negligible counts as zeros.
  explicit RowScale(int32_t bits) {
    const float largest = __builtin_bit_cast(float, bits);
    const bool finite = bits < 0x7f800000;
    const bool counts = finite && largest >= kQuantNegligible;
    scale = finite ? (counts ? largest / kQuantLimit : 0) : __builtin_nanf("");
    inverse = counts ? kQuantLimit / largest : 0;
  }
};

// Quantises kLanes columns of row r of a tile, of which `columns` count, from column k on.
inline void quantise_part(Vec scaled, int64_t columns, int64_t rows, int64_t r, int64_t k, Word* words) {
  Word quantised[kWordsPerVector];
  quantise_words(scaled, quantised);
  const int64_t count = smaller(kWordsPerVector, dot_words(columns));
  Word* to = words + word_place<kDotGroup>(rows, r, k / kDotDepth);
  const int64_t apart = kDotGroup == 1 ? rows : 1;
  for (int64_t w = 0; w < count; ++w) to[w * apart] = quantised[w];
}

// One tile of A as words [steps][R], or in groups of steps, and scales [blocks][R], `block` columns a block.
// `row_buffer` holds depth + kLanes floats.
template <typename Source>
inline void quantise_tile(const Source& source, int64_t row, int64_t rows, int64_t depth, int64_t block, Word* words,
                          float* scales, float* row_buffer) {
  for (int64_t r = 0; r < rows; ++r) {
    source.prepare(row + r);
    for (int64_t first = 0, b = 0; first < depth; first += block, ++b) {
      const int64_t end = smaller(depth, first + block);
      Vec most = zero();
      for (int64_t k = first; k < end; k += kLanes) {
        const Vec value = source.load(row + r, k, smaller(kLanes, end - k));
        store(row_buffer + k, value);
        most = max_magnitude(most, value);
      }
      const RowScale scale(largest_bits(most));
      scales[b * rows + r] = scale.scale;
      for (int64_t k = first; k < end; k += kLanes) {
        quantise_part(load(row_buffer + k) * set1(scale.inverse), end - k, rows, r, k, words);
      }
    }
  }
}

// ---- The tile ---------------------------------------------------------------------------------------------------------------

// The tile of float32 that `sums` [R][kPanel] make, as a DotKernel gives it.
[[gnu::always_inline]] inline void scale_sums(int rows, const int32_t* sums, const float* row_scale,
                                              const float* column_scale, float* tile, bool carry) {
#pragma GCC unroll 1
  for (int r = 0; r < rows; ++r) {
    const Vec scale = set1(row_scale[r]);
#pragma GCC unroll 2
    for (int v = 0; v < kPanelVectors; ++v) {
      float* at = tile + r * kPanel + v * kLanes;
      Vec value = to_float(load_ints(sums + r * kPanel + v * kLanes)) * scale;
      if (carry) value = value + load(at);
      if (column_scale != nullptr) value = value * load(column_scale + v * kLanes);
      store(at, value);
    }
  }
}

template <int kRows, bool kStream>
[[gnu::noinline]] void dot_tile(int64_t steps, const Word* a, const std::byte* b, const int32_t* start,
                                const float* row_scale, const float* column_scale, float* tile, bool carry) {
  Ints sum[kRows][kPanelVectors];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
    for (int v = 0; v < kPanelVectors; ++v) sum[r][v] = load_ints(start + v * kLanes);
  }
#pragma GCC unroll 1
  for (int64_t k = 0; k < steps; ++k) {
    const auto left = load_weights(b, 0), right = load_weights(b, 1);
    prefetch_ahead<kStream, kStepBytes>(b);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      const auto word = set1_word(a + r);
      sum[r][0] = dot(sum[r][0], word, left);
      sum[r][1] = dot(sum[r][1], word, right);
    }
    a += kRows;
    b += kStepBytes;
  }
  // By way of memory: converting from registers here makes g++ 12 spill every sum in every step of the loop above.
  alignas(64) int32_t raw[kRows * kPanel];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
    for (int v = 0; v < kPanelVectors; ++v) store_ints(raw + r * kPanel + v * kLanes, sum[r][v]);
  }
  scale_sums(kRows, raw, row_scale, column_scale, tile, carry);
}

template <int kRows, bool kStream>
DotKernel select_dot_kernel(int rows) {
  if constexpr (kRows > 1) {
    if (rows != kRows) return select_dot_kernel<kRows - 1, kStream>(rows);
  }
  return dot_tile<kRows, kStream>;
}

// A tile over the whole depth, a block of `block_steps` after the other. `scales` [blocks][R].
inline void dot_panel(DotKernel kernel, int64_t rows, int64_t steps, int64_t block_steps, const Word* a,
                      const float* scales, I8Panel panel, float* tile) {
  const std::byte* b = panel.weights();
  for (int64_t first = 0, block = 0; first < steps; first += block_steps, ++block) {
    const int64_t count = smaller(block_steps, steps - first);
    const int32_t* start = count == steps ? panel.whole() : panel.block(block);
    kernel(count, a + first * rows, b + first * kStepBytes, start, scales + block * rows,
           first + count == steps ? panel.scale() : nullptr, tile, block > 0);
  }
}

// ---- The product ------------------------------------------------------------------------------------------------------------

// Quantised rows: tile t at words + first_row(t) * steps, its scales at scales + first_row(t) * blocks.
struct QuantisedRows {
  Word* words;
  float* scales;
  int64_t depth;
  int64_t block;  // columns under one scale
  Word* tile_words(int64_t first_row) const { return words + first_row * dot_steps(depth); }
  float* tile_scales(int64_t first_row) const { return scales + first_row * ceil_div(depth, block); }
};

inline constexpr int64_t kBlockPanels = kQuantBlock / kPanel;

// Calls done(row, tile rows, first panel, last panel, tiles, worker) with the finished tiles [panels][R][kPanel] of
// each group. `scratch` holds `scratch_stride` >= kMaxDotRows * panels of a group * kPanel floats per thread.
template <typename Done>
void multiply_i8_groups(ThreadPool& pool, int64_t rows, const PanelGroups& groups, const QuantisedRows& a,
                        const std::byte* packed_b, float* scratch, int64_t scratch_stride, const Done& done) {
  const Tiles tiles = dot_tiles(rows);
  if (tiles.count == 0 || groups.panels == 0) return;
  const Blocking& cut = blocking();
  // Enough items to even out threads of different speeds, but no more row blocks than needed: each reads the weights
  // again.
  const int64_t row_blocks = smaller(
      tiles.count,
      larger(ceil_div(tiles.count, cut.block_tiles), ceil_div(cut.items_per_thread * pool.threads(), groups.count)));
  const int64_t steps = dot_steps(a.depth), block_steps = dot_steps(smaller(a.block, a.depth));
  const int64_t panel_bytes = I8Panel::bytes(a.depth);
  pool.parallel_for(row_blocks * groups.count, [&](int64_t item, int worker) {
    const int64_t row_block = item / groups.count;
    const int64_t first_panel = groups.first(item % groups.count), last_panel = groups.first(item % groups.count + 1);
    float* finished = scratch + worker * scratch_stride;
    const int64_t first_tile = tiles.count * row_block / row_blocks,
                  last_tile = tiles.count * (row_block + 1) / row_blocks;
    DotRegisters registers;
    for (int64_t t = first_tile; t < last_tile; ++t) {
      const int64_t row = tiles.first_row(t), tile_rows = tiles.rows(t);
      registers.shape(tile_rows);
      const DotKernel kernel = dot_kernel(tile_rows, t == first_tile);
      for (int64_t panel = first_panel; panel < last_panel; ++panel) {
        dot_panel(kernel, tile_rows, steps, block_steps, a.tile_words(row), a.tile_scales(row),
                  I8Panel{packed_b + panel * panel_bytes, a.depth},
                  finished + (panel - first_panel) * tile_rows * kPanel);
      }
      done(row, tile_rows, first_panel, last_panel, finished, worker);
    }
  });
}

// The same, handing each panel's tile to an epilogue as gemm.h defines it.
template <typename Epilogue>
void multiply_i8(ThreadPool& pool, int64_t first_row, int64_t rows, int64_t columns, const QuantisedRows& a,
                 const std::byte* packed_b, float* scratch, int64_t scratch_stride, const Epilogue& epilogue) {
  if (rows == 0 || columns == 0) return;
  const Blocking& cut = blocking();
  const int64_t most = larger(1, smaller(kBlockPanels, cut.group_bytes / larger(1, I8Panel::bytes(a.depth))));
  const PanelGroups groups(panels_of(columns), 1, most, ceil_div(dot_tiles(rows).count, cut.block_tiles),
                           cut.items_per_thread, pool.threads());
  multiply_i8_groups(
      pool, rows, groups, a, packed_b, scratch, scratch_stride,
      [&](int64_t row, int64_t tile_rows, int64_t first_panel, int64_t last_panel, const float* finished, int) {
        for (int64_t panel = first_panel; panel < last_panel; ++panel) {
          const int64_t column = panel * kPanel;
          epilogue(first_row + row, tile_rows, column, smaller(kPanel, columns - column),
                   finished + (panel - first_panel) * tile_rows * kPanel);
        }
      });
}

}  // namespace
}  // namespace mome::MOME_ISA
