// Matrix products on packed operands, over the threads of the pool.
//
// gemm: C[rows, columns] = epilogue(A B) with B packed before (a weight) and A packed here, a block of rows at a time.
// gemm_over_rows: C[outputs, columns] = epilogue(A^T B) summed over rows, both packed here (a weight gradient).
//
// 2 rows columns depth FLOPs. Work is handed out as (block of row tiles) x (group of panels). Inside an item the depth
// is cut into blocks; for each, panels run outside and row tiles inside: the block's A
// stays in the second-level cache while every panel of B passes by once (core/blocking.h has the numbers). The
// unfinished sums of C wait in the thread's scratch, in float32, so cutting the depth does not change the bits of the
// result. An epilogue gets a finished tile while it is in the first-level cache:
//   epilogue(row, rows, column, columns, tile)   tile is [rows][kPanel], of which `columns` are real.
// An epilogue may also have prefetch(row, rows, column, columns), which is called before a tile is multiplied.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/blocking.h"
#include "core/kernel.h"
#include "core/thread_pool.h"
#include "cpu/vector/carver.h"
#include "cpu/vector/gemm_i8.h"
#include "cpu/vector/gemm_pack.h"

namespace mome::MOME_ISA {
namespace {

// Rows packed at a time where rows are summed over: every block adds to all of the result.
inline constexpr int64_t kSumRowBlock = 2048;
inline constexpr int64_t kRowBlockFloats = 4 << 20;  // packed at a time in very deep products: 16 MiB
inline constexpr int64_t kOutputBlock = 4096;        // outputs packed at a time in gemm_over_rows

// The most rows packed at a time in a product of this depth.
inline int64_t most_rows(int64_t depth) {
  return larger(kMaxTileRows, smaller(blocking().row_block, kRowBlockFloats / larger(1, depth)));
}
// Rows per block when `rows` are cut into as few blocks of at most `most` as possible, evenly.
inline int64_t even_step(int64_t rows, int64_t most) { return rows == 0 ? 0 : ceil_div(rows, ceil_div(rows, most)); }

// Floats of scratch one thread needs; grows with each argument.
inline int64_t tile_scratch(int64_t rows, int64_t columns, int64_t depth) {
  const int64_t one_tile = 4 * kMaxTileRows * kPanel;
  const Blocking& cut = blocking();
  if (depth <= cut.depth_steps) return one_tile;
  return larger(one_tile,
                smaller(rows, cut.block_tiles * kMaxTileRows) * smaller(panels_of(columns), cut.item_panels) * kPanel);
}
// The same with 8-bit weights: finished tiles of a group, and before that the row that is being quantised.
inline int64_t i8_scratch(int64_t depth) {
  return larger(kMaxTileRows * kQuantBlock, ceil_div(depth, kLanes) * kLanes + kLanes);
}

// Calls body(row, column, count, value) for each vector of a finished tile.
template <typename Body>
inline void for_each_vector(int64_t row, int64_t rows, int64_t column, int64_t columns, const float* tile,
                            const Body& body) {
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < columns; c += kLanes) {
      body(row + r, column + c, smaller(kLanes, columns - c), load(tile + r * kPanel + c));
    }
  }
}

// The product of packed operands. `scratch` holds tile_scratch(...) floats per thread.
template <typename Panel, typename Epilogue>
void multiply(ThreadPool& pool, int64_t first_row, int64_t rows, int64_t columns, int64_t depth, const float* packed_a,
              const std::byte* packed_b, float* scratch, const Epilogue& epilogue) {
  // Cut the work.
  const Tiles tiles = tiles_of<Panel>(rows);
  const int64_t panels = panels_of(columns);
  if (tiles.count == 0 || panels == 0) return;
  const Blocking& cut = blocking();
  const int64_t row_blocks = ceil_div(tiles.count, cut.block_tiles);
  const int64_t at_once = tiles.count == 1 ? Panel::panels_at_once(rows) : 1;
  const PanelGroups groups(panels, at_once, cut.item_panels, row_blocks, cut.items_per_thread, pool.threads());
  // A single tile reads every panel once: uncut, so that the weights come in one stream.
  const int64_t steps = steps_of<Panel>(depth);
  const int64_t most_blocks = tiles.count == 1 ? 1 : larger(1, ceil_div(steps, cut.depth_steps));
  const int64_t block_steps = ceil_div(steps, most_blocks * Panel::kStepGroup) * Panel::kStepGroup;
  const int64_t depth_blocks = steps == 0 ? 1 : ceil_div(steps, block_steps);
  const int64_t panel_stride = steps * Panel::kStepBytes;
  const int64_t scratch_stride = tile_scratch(rows, columns, steps);

  pool.parallel_for(row_blocks * groups.count, [&](int64_t item, int worker) {
    // Locate the item.
    const int64_t block = item / groups.count;
    const int64_t first_tile = tiles.count * block / row_blocks, last_tile = tiles.count * (block + 1) / row_blocks;
    const int64_t first_panel = groups.first(item % groups.count), last_panel = groups.first(item % groups.count + 1);
    const int64_t origin = tiles.first_row(first_tile);
    const int64_t block_rows = tiles.first_row(last_tile) - origin;
    float* partial = scratch + worker * scratch_stride;
    typename Panel::Registers registers;

    for (int64_t depth_block = 0; depth_block < depth_blocks; ++depth_block) {
      const int64_t k = depth_block * block_steps;
      const int64_t k_count = smaller(block_steps, steps - k);
      for (int64_t panel = first_panel, wide; panel < last_panel; panel += wide) {
        wide = at_once;
        while (wide > last_panel - panel) wide /= 2;
        const std::byte* b = packed_b + panel * panel_stride + k * Panel::kStepBytes;
        for (int64_t t = first_tile; t < last_tile; ++t) {
          const int64_t row = tiles.first_row(t), tile_rows = tiles.rows(t);
          float* tile = partial;
          if (depth_blocks > 1) tile += ((panel - first_panel) * block_rows + (row - origin)) * kPanel;
          if constexpr (requires { epilogue.prefetch(row, row, row, row); }) {
            const int64_t column = panel * kPanel;
            if (depth_block + 1 == depth_blocks)
              epilogue.prefetch(first_row + row, tile_rows, column, smaller(kPanel, columns - column));
          }
          registers.shape(tile_rows);
          tile_kernel<Panel>(tile_rows, wide, t == first_tile)(k_count, packed_a + row * steps + k * tile_rows, b,
                                                               panel_stride, tile, depth_block > 0);
          if (depth_block + 1 < depth_blocks) continue;
          for (int64_t w = 0; w < wide; ++w) {
            const int64_t column = (panel + w) * kPanel;
            epilogue(first_row + row, tile_rows, column, smaller(kPanel, columns - column),
                     tile + w * tile_rows * kPanel);
          }
        }
      }
    }
  });
}

struct GemmWorkspace {
  float* packed_a;    // float32, or quantised words; null when rows come packed
  float* row_scales;  // of quantised rows
  int64_t scratch_stride;
  float* scratch;
  GemmWorkspace(Carver& carver, int64_t rows, int64_t columns, int64_t depth, int threads, bool packs = true)
      : packed_a(packs ? carver.take<float>(smaller(rows, most_rows(depth)) * packed_row_floats(depth)) : nullptr),
        row_scales(carver.take<float>(smaller(rows, most_rows(depth)))),
        scratch_stride(
            larger(tile_scratch(smaller(rows, most_rows(depth)), columns, most_steps(depth)), i8_scratch(depth))),
        scratch(carver.take<float>(scratch_stride * threads)) {}
};

// The B operand of a product: a weight, its transpose, or a matrix packed for this call.
struct PackedOperand {
  const std::byte* data;
  WeightType type;
  PackedOperand(const void* packed, WeightType type) : data(static_cast<const std::byte*>(packed)), type(type) {}
  PackedOperand(const Matrix& weight) : PackedOperand(weight.packed, weight.type) {}
  PackedOperand(const float* packed) : PackedOperand(packed, WeightType::f32) {}
};
inline PackedOperand transposed(const Matrix& weight) { return {weight.packed_transposed, weight.type}; }

// The product of rows, packed for the weight's type, with a weight in float32 or bfloat16.
template <typename Epilogue>
void multiply_packed(ThreadPool& pool, int64_t first_row, int64_t rows, int64_t columns, int64_t depth,
                     const float* packed_a, const PackedOperand& b, float* scratch, const Epilogue& epilogue) {
  if (b.type == WeightType::bf16) {
    multiply<Bf16WeightPanel>(pool, first_row, rows, columns, depth, packed_a, b.data, scratch, epilogue);
  } else {
    multiply<F32Panel>(pool, first_row, rows, columns, depth, packed_a, b.data, scratch, epilogue);
  }
}

template <typename Panel, typename Source>
void pack_rows(ThreadPool& pool, const Source& source, int64_t first, int64_t rows, int64_t depth, float* packed_a) {
  const Tiles tiles = tiles_of<Panel>(rows);
  const int64_t steps = steps_of<Panel>(depth);
  pool.parallel_for(tiles.count, [&](int64_t t, int) {
    const int64_t row = tiles.first_row(t);
    pack_tile<Panel>(source, first + row, tiles.rows(t), depth, packed_a + row * steps);
  });
}

template <typename Source>
void quantise_rows(ThreadPool& pool, const Source& source, int64_t first, int64_t rows, const QuantisedRows& a,
                   const GemmWorkspace& workspace) {
  const Tiles tiles = dot_tiles(rows);
  pool.parallel_for(tiles.count, [&](int64_t t, int worker) {
    const int64_t row = tiles.first_row(t);
    quantise_tile(source, first + row, tiles.rows(t), a.depth, a.block, a.tile_words(row), a.tile_scales(row),
                  workspace.scratch + worker * workspace.scratch_stride);
  });
}

// Rows [begin, begin + rows) of the source times the packed B. The workspace is of a shape at least as large in each
// dimension.
template <typename Source, typename Epilogue>
void gemm(ThreadPool& pool, int64_t begin, int64_t rows, int64_t columns, int64_t depth, const Source& source,
          const PackedOperand& b, const GemmWorkspace& workspace, const Epilogue& epilogue) {
  const int64_t step = even_step(rows, most_rows(depth));
  for (int64_t done = 0; done < rows; done += step) {
    const int64_t first = begin + done, count = smaller(step, rows - done);
    if (b.type == WeightType::i8) {
      const QuantisedRows a{reinterpret_cast<Word*>(workspace.packed_a), workspace.row_scales, depth, larger(1, depth)};
      quantise_rows(pool, source, first, count, a, workspace);
      multiply_i8(pool, first, count, columns, a, b.data, workspace.scratch, workspace.scratch_stride, epilogue);
      continue;
    }
    if (b.type == WeightType::bf16) {
      pack_rows<Bf16WeightPanel>(pool, source, first, count, depth, workspace.packed_a);
    } else {
      pack_rows<F32Panel>(pool, source, first, count, depth, workspace.packed_a);
    }
    multiply_packed(pool, first, count, columns, depth, workspace.packed_a, b, workspace.scratch, epilogue);
  }
}

struct OverRowsWorkspace {
  float* packed_a;
  float* packed_b;
  float* scratch;
  OverRowsWorkspace(Carver& carver, int64_t rows, int64_t outputs, int64_t columns, int threads)
      : packed_a(carver.take<float>(smaller(outputs, kOutputBlock) * most_steps(smaller(rows, kSumRowBlock)))),
        packed_b(carver.take<float>(packed_columns_size(smaller(rows, kSumRowBlock), columns))),
        scratch(carver.take<float>(
            tile_scratch(smaller(outputs, kOutputBlock), columns, most_steps(smaller(rows, kSumRowBlock))) * threads)) {
  }
};

template <typename Panel, typename SourceA, typename SourceB, typename Epilogue>
void multiply_over_rows(ThreadPool& pool, int64_t begin, int64_t rows, int64_t outputs, int64_t columns,
                        const SourceA& a, const SourceB& b, float* sums, const OverRowsWorkspace& workspace,
                        const Epilogue& epilogue) {
  const int64_t step = even_step(rows, kSumRowBlock);
  for (int64_t done = 0; done < rows; done += step) {
    const int64_t first = begin + done, depth = smaller(step, rows - done), steps = steps_of<Panel>(depth);
    pool.parallel_for(panels_of(columns), [&](int64_t panel, int) {
      const int64_t column = panel * kPanel;
      pack_straight<Panel>(b, first, depth, column, smaller(kPanel, columns - column),
                           workspace.packed_b + column * steps, kPanel, nullptr);
    });
    for (int64_t output = 0; output < outputs; output += kOutputBlock) {
      const int64_t count = smaller(kOutputBlock, outputs - output);
      const Tiles tiles = tiles_of<Panel>(count);
      pool.parallel_for(tiles.count, [&](int64_t t, int) {
        const int64_t row = tiles.first_row(t), tile_rows = tiles.rows(t);
        pack_straight_tile<Panel>(a, first, depth, output + row, tile_rows, workspace.packed_a + row * steps, sums);
      });
      multiply<Panel>(pool, output, count, columns, depth, workspace.packed_a,
                      reinterpret_cast<const std::byte*>(workspace.packed_b), workspace.scratch, epilogue);
    }
  }
}

// Sums over the rows [begin, begin + rows) of both sources, a fixed block of rows at a time: the epilogue is called
// once per block and must accumulate. `sums` (or null) [outputs] += the column sums of A. Independent of the number of
// threads. `type`: in which both are multiplied, bf16 where the target multiplies it.
template <typename SourceA, typename SourceB, typename Epilogue>
void gemm_over_rows(ThreadPool& pool, [[maybe_unused]] WeightType type, int64_t begin, int64_t rows, int64_t outputs,
                    int64_t columns, const SourceA& a, const SourceB& b, float* sums,
                    const OverRowsWorkspace& workspace, const Epilogue& epilogue) {
  if (rows == 0 || outputs == 0) return;
#if MOME_HAS_PAIRS
  if (type == WeightType::bf16) {
    multiply_over_rows<Bf16WeightPanel>(pool, begin, rows, outputs, columns, a, b, sums, workspace, epilogue);
    return;
  }
#endif
  multiply_over_rows<F32Panel>(pool, begin, rows, outputs, columns, a, b, sums, workspace, epilogue);
}

// ---- Epilogues --------------------------------------------------------------------------------------------------------------

// y = acc (+ bias).
struct StoreEpilogue {
  float* y;
  int64_t stride;
  const float* bias;
  void operator()(int64_t row, int64_t rows, int64_t column, int64_t columns, const float* tile) const {
    for_each_vector(row, rows, column, columns, tile, [&](int64_t r, int64_t c, int64_t count, Vec value) {
      if (bias != nullptr) value = value + load_part(bias + c, count);
      store_part(y + r * stride + c, value, count);
    });
  }
};

// y += acc.
struct AddEpilogue {
  float* y;
  int64_t stride;
  void prefetch(int64_t row, int64_t rows, int64_t column, int64_t columns) const {
    constexpr int64_t kLine = 64 / sizeof(float);
    for (int64_t r = row; r < row + rows; ++r) {
      for (int64_t c = column; c < column + columns; c += kLine) __builtin_prefetch(y + r * stride + c, 1);
    }
  }
  void operator()(int64_t row, int64_t rows, int64_t column, int64_t columns, const float* tile) const {
    for_each_vector(row, rows, column, columns, tile, [&](int64_t r, int64_t c, int64_t count, Vec value) {
      float* p = y + r * stride + c;
      store_part(p, load_part(p, count) + value, count);
    });
  }
};

// out = x + row_scale * gamma * (acc + bias); out may be x.
struct ResidualEpilogue {
  const float* x;
  float* out;
  int64_t stride;
  const float* bias;
  const float* gamma;
  const float* row_scale;
  void operator()(int64_t row, int64_t rows, int64_t column, int64_t columns, const float* tile) const {
    for_each_vector(row, rows, column, columns, tile, [&](int64_t r, int64_t c, int64_t count, Vec value) {
      value = value + load_part(bias + c, count);
      if (gamma != nullptr) value = value * load_part(gamma + c, count);
      if (row_scale != nullptr) value = value * set1(row_scale[r]);
      store_part(out + r * stride + c, load_part(x + r * stride + c, count) + value, count);
    });
  }
};

}  // namespace
}  // namespace mome::MOME_ISA
