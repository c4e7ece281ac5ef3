// The innermost loop of every matrix product: a tile of C in registers, one fused multiply-add per element and step.
//
// C[R, NR] (+)= A[R, K] B[K, NR] with A packed as [K][R] and B as a panel [K][NR]. Each element of C is one chain of
// fused multiply-adds over ascending k that starts from 0 and may be carried from call to call through the float32 tile
// buffer, so its bits depend neither on R, nor on the neighbours, nor on where K was cut.
//
// Per step a 14 x 32 tile loads 2 vectors of B and 14 broadcasts of A for 28 multiply-adds: 16 loads in 14 cycles on a
// core with two load and two FMA ports. Each A element is broadcast into a register and used twice; as a memory operand
// of the multiply-add it would be loaded twice, and 30 loads in 14 cycles are more than the ports give.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cpu/vector/amx.h"
#include "cpu/vector/pairs.h"
#include "cpu/vector/simd.h"

#ifndef MOME_BASE_ISA
#error "define MOME_BASE_ISA, the set whose float32 tiles this one takes, and MOME_IS_BASE where it is the set itself"
#endif

namespace mome::MOME_BASE_ISA {

// `steps` steps of A at `a` [steps][R] and of kPanels panels [steps][kPanel], the first at `b`, the next `panel_stride`
// bytes on. `tile` is [kPanels][R][kPanel]; it is read first when `carry` is set.
using TileKernel = void (*)(int64_t steps, const float* a, const std::byte* b, int64_t panel_stride, float* tile,
                            bool carry);

// The tiles of either type of weights (tiles.cc); tile_kernel below is how products ask for one.
TileKernel f32_tile_kernel(int64_t rows, int64_t panels, bool stream);
TileKernel bf16_tile_kernel(int64_t rows, int64_t panels, bool stream);

}  // namespace mome::MOME_BASE_ISA

namespace mome::MOME_ISA {

using MOME_BASE_ISA::TileKernel;
#if MOME_HAS_PAIRS  // tiles of its own
TileKernel bf16_tile_kernel(int64_t rows, int64_t panels, bool stream);
#else
using MOME_BASE_ISA::bf16_tile_kernel;
#endif

namespace {

// Two vectors across, and as many rows as leave registers for the two of B and one broadcast: 28 + 3 of 32, 12 + 3
// of 16. The latency of 4 cycles on two ports needs 8 accumulators, so 4 rows and more run at the full rate.
inline constexpr int kPanelVectors = 2;
inline constexpr int kPanel = kPanelVectors * kLanes;
inline constexpr int kVectorTileRows = kLanes == 16 ? 14 : 6;
#if MOME_HAS_TILES
inline constexpr int kMaxTileRows = kAmxTileRows;
#else
inline constexpr int kMaxTileRows = kVectorTileRows;
#endif
// With so few rows (the weight stream bounds the speed), several panels are multiplied at once to hide the latency.
inline constexpr int kTwoPanelRows = kLanes == 16 ? 6 : 3;   // 6 x 64 or 3 x 32
inline constexpr int kFourPanelRows = kLanes == 16 ? 3 : 1;  // 3 x 128 or 1 x 64

inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
inline int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }
inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// The first tile of rows to read a panel, often the only one, gets it from memory, and the processor's own prefetchers,
// which stop at every page, are too slow: the tile kernels for that case ask for it this far ahead, over the end of an
// uncut panel into the next.
inline constexpr int64_t kStreamAhead = 8 << 10;

template <bool kStream, int64_t kBytes>
inline void prefetch_ahead(const std::byte* b) {
  if constexpr (kStream) {
    for (int64_t i = 0; i < kBytes; i += 64) __builtin_prefetch(b + kStreamAhead + i, 0, 2);
  }
}

// A panel of B by the weight's type: [steps][kPanel], where a step covers kStepDepth elements of the contraction. An
// element of A and step is a word of 4 bytes, whatever it means. A tile of A has up to kTileRows rows and is
// [steps / kStepGroup][R][kStepGroup]; steps are filled up to whole groups, with zeros in A and in B.
struct F32Panel {
  static constexpr auto* kTileKernel = MOME_BASE_ISA::f32_tile_kernel;
  static constexpr int64_t kTileRows = kVectorTileRows;
  static constexpr int64_t kStepGroup = 1;
  using Registers = NoTileRegisters;
  static int64_t panels_at_once(int64_t rows) { return rows <= kFourPanelRows ? 4 : rows <= kTwoPanelRows ? 2 : 1; }
  static constexpr int64_t kStepDepth = 1;
  static constexpr int64_t kStepBytes = kPanel * sizeof(float);
  static void load_step(const std::byte* b, Vec* step) {
    for (int v = 0; v < kPanelVectors; ++v) step[v] = load(reinterpret_cast<const float*>(b) + v * kLanes);
  }
  static Vec multiply(Vec row, Vec column, Vec sum) { return fma(row, column, sum); }
};
#if MOME_HAS_PAIRS
// Rows are rounded to bfloat16 as well while they are packed, two elements to a word.
struct Bf16Panel : F32Panel {
  static constexpr auto* kTileKernel = bf16_tile_kernel;
  static constexpr int64_t kStepDepth = 2;
  static constexpr int64_t kStepBytes = kPanel * sizeof(uint32_t);
  static Vec multiply(Vec row, Vec column, Vec sum) { return dot_pairs(sum, as_pairs(row), as_pairs(column)); }
};
#else
// Word j of a step holds column j in its low half and column kLanes + j in its high half: a shift and a mask widen
// both. The two operations cost little beside 28 multiply-adds, and half the bytes are read.
struct Bf16Panel : F32Panel {
  static constexpr auto* kTileKernel = bf16_tile_kernel;
  static constexpr int64_t kStepBytes = kPanel * sizeof(uint16_t);
  static void load_step(const std::byte* b, Vec* step) { load_bf16(b, step[0], step[1]); }
};
#endif

// What weights of bfloat16 are multiplied with: tile registers where there are any, whose tiles ask for steps as a row
// of a register holds them, else the above.
#if MOME_HAS_TILES
struct Bf16WeightPanel : Bf16Panel {
  static constexpr int64_t kTileRows = kAmxTileRows;
  static constexpr int64_t kStepGroup = kAmxWords;
  using Registers = TileRegisters;
  static int64_t panels_at_once(int64_t) { return 1; }
};
#else
using Bf16WeightPanel = Bf16Panel;
#endif

template <typename Panel>
inline int64_t steps_of(int64_t depth) {
  return ceil_div(depth, Panel::kStepDepth * Panel::kStepGroup) * Panel::kStepGroup;
}
// The most steps that a product of this depth has, whatever its weights.
inline int64_t most_steps(int64_t depth) { return larger(depth, steps_of<Bf16WeightPanel>(depth)); }

// Where a word lies in a packed tile of A.
template <int64_t kStepGroup>
inline int64_t word_place(int64_t rows, int64_t row, int64_t step) {
  return (step / kStepGroup * rows + row) * kStepGroup + step % kStepGroup;
}

template <typename Panel, int kRows, int kPanels, bool kStream>
[[gnu::noinline]] void multiply_tile(int64_t steps, const float* a, const std::byte* b, int64_t panel_stride,
                                     float* tile, bool carry) {
  constexpr int kVectors = kPanels * kPanelVectors;
  Vec sum[kRows][kVectors];
  if (carry) {
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) {
        sum[r][v] = load(tile + ((v / kPanelVectors) * kRows + r) * kPanel + (v % kPanelVectors) * kLanes);
      }
    }
  } else {
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) sum[r][v] = zero();
    }
  }
#pragma GCC unroll 1
  for (int64_t k = 0; k < steps; ++k) {
    Vec column[kVectors];
#pragma GCC unroll 8
    for (int p = 0; p < kPanels; ++p) {
      Panel::load_step(b + p * panel_stride, column + p * kPanelVectors);
      prefetch_ahead<kStream, Panel::kStepBytes>(b + p * panel_stride);
    }
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      const Vec row = set1(a[r]);
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) sum[r][v] = Panel::multiply(row, column[v], sum[r][v]);
    }
    a += kRows;
    b += Panel::kStepBytes;
  }
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      store(tile + ((v / kPanelVectors) * kRows + r) * kPanel + (v % kPanelVectors) * kLanes, sum[r][v]);
    }
  }
}

template <typename Panel, bool kStream, int kRows>
TileKernel select_tile_kernel(int rows, int panels) {
  if (rows != kRows) {
    if constexpr (kRows > 1) return select_tile_kernel<Panel, kStream, kRows - 1>(rows, panels);
    return nullptr;
  }
  if constexpr (kRows <= kFourPanelRows) {
    if (panels == 4) return multiply_tile<Panel, kRows, 4, kStream>;
  }
  if constexpr (kRows <= kTwoPanelRows) {
    if (panels == 2) return multiply_tile<Panel, kRows, 2, kStream>;
  }
  return multiply_tile<Panel, kRows, 1, kStream>;
}

template <typename Panel>
TileKernel select_tile_kernel(int64_t rows, int64_t panels, bool stream) {
  const int r = static_cast<int>(rows), p = static_cast<int>(panels);
  return stream ? select_tile_kernel<Panel, true, kVectorTileRows>(r, p)
                : select_tile_kernel<Panel, false, kVectorTileRows>(r, p);
}

// The kernel for `rows` in [1, Panel::kTileRows] and `panels` in {1, 2, 4}, where Panel::panels_at_once(rows) is the
// most it may be. `stream`: the tile is the first to read these panels.
template <typename Panel>
TileKernel tile_kernel(int64_t rows, int64_t panels, bool stream) {
  return Panel::kTileKernel(rows, panels, stream);
}

}  // namespace
}  // namespace mome::MOME_ISA
