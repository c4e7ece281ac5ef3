// y = epilogue(x W^T) for rows that are dense or fall into groups with a weight of their own (experts): the kernels for
// any device. gemm_sm90.h has Hopper's, gemm.h chooses.
//
// bfloat16: tiles on tensor cores (mma.sync, float32 accumulation). A block computes kRows x kColumns outputs; slices
// of 64 along the depth travel through a ring of three shared-memory stages (cp.async), 16-byte chunks xor-ed with the
// row so that ldmatrix meets no bank twice. Sums run over the depth in steps of 16 in ascending order, whatever the
// tile, so a row's result depends neither on its neighbours nor on the tile chosen. float32: plain fused multiply-adds,
// 64 x 128 outputs per block, 4 x 8 per thread, depth ascending.
//
// An epilogue is called with 8 neighbouring columns of a row: epilogue(row, column, group, count, whole, values), count
// < 8 at the last columns. `whole`: all 8 are there and its own operands may be read as vectors, which its member
// `aligned` says. `kLight`: it needs few registers, so that it may end a tile that leaves few. Here sums pass through
// shared memory first, so that a thread has 8 of a row.
#pragma once

#include "core/matrix.h"
#include "cuda/config/gemm_tile.h"
#include "cuda/kernels/row_groups.h"
#include "cuda/primitives/mma.h"
#include "cuda/primitives/queue.h"

namespace mome::cuda {

template <typename T>
struct GemmOperands {
  const T* x;  // [rows, depth]
  int depth, columns;
  int pitch;  // elements from one output's weights to the next
  RowGroups rows;
  const T* weight[kMaxGroups];  // [columns, pitch]
  bool aligned;                 // rows of x may be read in 16-byte pieces
  bool without_epilogue;        // nothing is written: to measure the products alone
};

// Pitch of a packed weight: rows begin on 16 bytes.
inline int64_t weight_pitch(int64_t columns) { return (columns + kRun - 1) / kRun * kRun; }

struct TilePlace {
  int group;
  int row, end;  // first row of the tile, end of its group
  int column;
};

// The tiles of a product, cut where groups begin. A launch has as many as its rows can give (most_row_tiles); how many
// there are is known here.
struct TileGrid {
  GroupBounds bounds;
  int row_tiles, tiles;
};

template <typename T>
MOME_DEVICE TileGrid cut_tiles(const GemmOperands<T>& g, int rows, int columns) {
  TileGrid grid{read_bounds(g.rows), 0, 0};
#pragma unroll
  for (int group = 0; group < kMaxGroups; group++)
    grid.row_tiles += (grid.bounds.at[group + 1] - grid.bounds.at[group] + rows - 1) / rows;
  grid.tiles = grid.row_tiles * ((g.columns + columns - 1) / columns);
  return grid;
}

// Where tile `index` lies, one of grid.tiles. Row tiles go in bands of kBand with the columns inside, so that the
// blocks of a wave share weights and rows in the second-level cache.
MOME_DEVICE TilePlace place_tile(const TileGrid& grid, int all_columns, int index, int rows, int columns) {
  constexpr int kBand = 16;
  const int column_tiles = (all_columns + columns - 1) / columns;
  const int per_band = kBand * column_tiles;
  const int band = index / per_band, inside = index % per_band;
  const int height = grid.row_tiles - band * kBand < kBand ? grid.row_tiles - band * kBand : kBand;
  const int across = inside / height;
  int row_tile = band * kBand + inside - across * height;
  TilePlace place{0, 0, 0, across * columns};
#pragma unroll
  for (int group = 0; group < kMaxGroups; group++) {
    const int begin = grid.bounds.at[group], end = grid.bounds.at[group + 1], tiles = (end - begin + rows - 1) / rows;
    if (row_tile >= 0 && row_tile < tiles) place = {group, begin + row_tile * rows, end, place.column};
    row_tile -= tiles;  // below 0 once found
  }
  return place;
}

// The epilogue over the tile that lies in `staged` [kRows, kColumns + 4].
template <int kRows, int kColumns, int kThreads, typename Epilogue>
MOME_DEVICE void finish_tile(const float* staged, const TilePlace& place, int columns, const Epilogue& epilogue) {
  constexpr int kRuns = kColumns / kRun, kPitch = kColumns + 4;
  for (int i = static_cast<int>(threadIdx.x); i < kRows * kRuns; i += kThreads) {
    const int row = place.row + i / kRuns, column = place.column + i % kRuns * kRun;
    if (row >= place.end || column >= columns) continue;
    float values[kRun];
    load_run(staged + i / kRuns * kPitch + i % kRuns * kRun, kRun, true, values);
    const int left = columns - column;
    epilogue(row, column, place.group, left < kRun ? left : kRun, epilogue.aligned && left >= kRun, values);
  }
}

// ---- bfloat16 on tensor cores

inline constexpr int kGemmDepth = 64;  // 128 bytes of a row: one line, eight chunks of 16 bytes
inline constexpr int kGemmStages = 3;

template <int kRows, int kColumns>
constexpr size_t gemm_shared_bytes() {
  const size_t ring = size_t{kGemmStages} * (kRows + kColumns) * kGemmDepth * sizeof(bf16);
  const size_t staged = size_t{kRows} * (kColumns + 4) * sizeof(float);
  return ring > staged ? ring : staged;
}

// Elements from the start of a stage to chunk `chunk` of row `row`.
MOME_DEVICE int swizzled(int row, int chunk) { return row * kGemmDepth + ((chunk ^ (row & 7)) * 8); }

// Rows [first, first + kCount) of a matrix, depth slice beginning at `k`, into shared memory; zeros outside.
template <int kCount, int kThreads, bool kAligned>
MOME_DEVICE void load_slice(bf16* to, const bf16* matrix, int64_t pitch, int64_t first, int64_t end, int64_t k,
                            int64_t depth) {
#pragma unroll
  for (int i = static_cast<int>(threadIdx.x); i < kCount * 8; i += kThreads) {
    const int row = i / 8, chunk = i % 8;
    const int64_t column = k + chunk * 8;
    const int64_t left = first + row < end ? depth - column : 0;
    const int count = left < 0 ? 0 : left < 8 ? static_cast<int>(left) : 8;
    bf16* at = to + swizzled(row, chunk);
    if constexpr (kAligned) {
      copy_async16(at, count == 0 ? matrix : matrix + (first + row) * pitch + column, 2 * count);
    } else {
      for (int e = 0; e < 8; e++) at[e] = e < count ? matrix[(first + row) * pitch + column + e] : bf16{0};
    }
  }
}

// Warps of a block, and how many of them a multiprocessor is to hold: 12 leave a thread 170 registers, which the
// largest tile needs.
template <int kRows, int kColumns, int kWarpRows, int kWarpColumns>
inline constexpr int kTileWarps = (kRows / kWarpRows) * (kColumns / kWarpColumns);
inline constexpr int kResidentWarps = 12;

template <int kRows, int kColumns, int kWarpRows, int kWarpColumns, bool kAligned, typename Epilogue>
MOME_SHARED_KERNEL((kTileWarps<kRows, kColumns, kWarpRows, kWarpColumns> * 32),
                   (kResidentWarps / kTileWarps<kRows, kColumns, kWarpRows, kWarpColumns>))
gemm_forward_bf16_sm80(MOME_PARAMETER GemmOperands<bf16> g, MOME_PARAMETER Epilogue epilogue) {
  constexpr int kThreads = kTileWarps<kRows, kColumns, kWarpRows, kWarpColumns> * kWarp;
  constexpr int kTall = kWarpRows / 16, kWide = kWarpColumns / 16;
  constexpr int kStage = (kRows + kColumns) * kGemmDepth;
  bf16* ring = shared_memory<bf16>();
  const TileGrid grid = cut_tiles(g, kRows, kColumns);
  if (static_cast<int>(blockIdx.x) >= grid.tiles) return;
  const TilePlace place = place_tile(grid, g.columns, static_cast<int>(blockIdx.x), kRows, kColumns);
  const bf16* weight = g.weight[place.group];
  const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp;
  const int warp_row = warp / (kColumns / kWarpColumns) * kWarpRows,
            warp_column = warp % (kColumns / kWarpColumns) * kWarpColumns;

  const int slices = (g.depth + kGemmDepth - 1) / kGemmDepth;
  const auto load = [&](int slice) {
    if (slice < slices) {
      bf16* stage = ring + slice % kGemmStages * kStage;
      const int64_t k = int64_t{slice} * kGemmDepth;
      load_slice<kRows, kThreads, kAligned>(stage, g.x, g.depth, place.row, place.end, k, g.depth);
      load_slice<kColumns, kThreads, true>(stage + kRows * kGemmDepth, weight, g.pitch, place.column, g.columns, k,
                                           g.depth);
    }
    copy_commit();
  };
  for (int slice = 0; slice < kGemmStages - 1; slice++) load(slice);

  float sum[kTall][2 * kWide][4] = {};
  for (int slice = 0; slice < slices; slice++) {
    copy_wait<kGemmStages - 2>();
    block_barrier();  // the slice is there for all, and all are done with the one before
    load(slice + kGemmStages - 1);
    const bf16* rows = ring + slice % kGemmStages * kStage;
    const bf16* columns = rows + kRows * kGemmDepth;
#pragma unroll
    for (int step = 0; step < kGemmDepth / 16; step++) {
      uint32_t a[kTall][4], b[kWide][4];
#pragma unroll
      for (int i = 0; i < kTall; i++)
        load_matrices<false>(rows + swizzled(warp_row + 16 * i + lane % 16, 2 * step + lane / 16), a[i]);
#pragma unroll
      for (int j = 0; j < kWide; j++) {
        load_matrices<false>(
            columns + swizzled(warp_column + 16 * j + lane % 8 + lane / 16 * 8, 2 * step + lane / 8 % 2), b[j]);
      }
#pragma unroll
      for (int i = 0; i < kTall; i++) {
#pragma unroll
        for (int j = 0; j < 2 * kWide; j++) mma(sum[i][j], a[i], b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]);
      }
    }
  }

  copy_wait<0>();
  if (g.without_epilogue) return;
  block_barrier();
  constexpr int kPitch = kColumns + 4;
  float* staged = shared_memory<float>();
#pragma unroll
  for (int i = 0; i < kTall; i++) {
#pragma unroll
    for (int j = 0; j < 2 * kWide; j++) {
#pragma unroll
      for (int half = 0; half < 2; half++) {
        float* at = staged + (warp_row + 16 * i + 8 * half + lane / 4) * kPitch + warp_column + 8 * j + 2 * (lane % 4);
        at[0] = sum[i][j][2 * half];
        at[1] = sum[i][j][2 * half + 1];
      }
    }
  }
  block_barrier();
  finish_tile<kRows, kColumns, kThreads>(staged, place, g.columns, epilogue);
}

// ---- float32

inline constexpr int kPlainRows = 64, kPlainColumns = 128, kPlainDepth = 16, kPlainThreads = 256;

template <typename Epilogue>
MOME_SHARED_KERNEL(kPlainThreads, 2)
gemm_forward_f32(MOME_PARAMETER GemmOperands<float> g, MOME_PARAMETER Epilogue epilogue) {
  constexpr int kRowPitch = kPlainRows + 4, kColumnPitch = kPlainColumns + 4;
  float* rows = shared_memory<float>();             // [kPlainDepth, kRowPitch]
  float* columns = rows + kPlainDepth * kRowPitch;  // [kPlainDepth, kColumnPitch]
  const TileGrid grid = cut_tiles(g, kPlainRows, kPlainColumns);
  if (static_cast<int>(blockIdx.x) >= grid.tiles) return;
  const TilePlace place = place_tile(grid, g.columns, static_cast<int>(blockIdx.x), kPlainRows, kPlainColumns);
  const float* weight = g.weight[place.group];
  const int thread = static_cast<int>(threadIdx.x), down = thread / 16 * 4, across = thread % 16 * 8;

  float sum[4][kRun] = {};
  for (int k = 0; k < g.depth; k += kPlainDepth) {
    for (int i = thread; i < kPlainRows * kPlainDepth; i += kPlainThreads) {
      const int row = place.row + i / kPlainDepth, column = k + i % kPlainDepth;
      rows[i % kPlainDepth * kRowPitch + i / kPlainDepth] =
          row < place.end && column < g.depth ? g.x[int64_t{row} * g.depth + column] : 0;
    }
    for (int i = thread; i < kPlainColumns * kPlainDepth; i += kPlainThreads) {
      const int output = place.column + i / kPlainDepth, column = k + i % kPlainDepth;
      columns[i % kPlainDepth * kColumnPitch + i / kPlainDepth] =
          output < g.columns && column < g.depth ? weight[int64_t{output} * g.pitch + column] : 0;
    }
    block_barrier();
#pragma unroll
    for (int depth = 0; depth < kPlainDepth; depth++) {
      float b[kRun];
      load_run(columns + depth * kColumnPitch + across, kRun, true, b);
#pragma unroll
      for (int i = 0; i < 4; i++) {
        const float a = rows[depth * kRowPitch + down + i];
#pragma unroll
        for (int j = 0; j < kRun; j++) sum[i][j] = fmaf(a, b[j], sum[i][j]);
      }
    }
    block_barrier();
  }
  const int column = place.column + across, left = g.columns - column;
  if (left <= 0) return;
#pragma unroll
  for (int i = 0; i < 4; i++) {
    if (place.row + down + i < place.end)
      epilogue(place.row + down + i, column, place.group, left < kRun ? left : kRun, epilogue.aligned && left >= kRun,
               sum[i]);
  }
}

}  // namespace mome::cuda
