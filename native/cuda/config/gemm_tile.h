// Which tile a product takes on a device: plain host code, tested without one.
//
// A kernel call cuts its output into tiles, one block of threads each; the device works them off in waves of as many blocks as it
// holds. Large tiles read less per product, small ones waste less of the last wave and of the last rows. The choice is the tile of
// least modelled time.
#pragma once

#include <cstdint>
#include <span>

namespace mome::cuda {

struct GemmTile {
  int rows, columns;
  double efficiency;  // share of the tensor cores' rate its main loop reaches
};

// bfloat16 on tensor cores; kGemmTiles[i] is what kernel variant i computes.
inline constexpr GemmTile kGemmTiles[] = {{128, 128, 1.0}, {128, 64, 0.85}, {64, 64, 0.7}};

struct GemmShape {
  std::span<const int64_t> group_rows;  // rows of each expert, tiled apart
  int64_t columns = 0, depth = 0;
};

struct GemmChoice {
  int tile = 0;          // index into kGemmTiles
  int64_t tiles = 0;     // blocks of the launch
  double waves = 0;      // tiles / multiprocessors, not rounded
  double utilisation = 0;  // products wanted / products computed, counting idle multiprocessors of the last wave
};

GemmChoice choose_gemm_tile(const GemmShape& shape, int multiprocessors);
// The figures of one tile, whether it is the best or not.
GemmChoice model_gemm_tile(const GemmShape& shape, int tile, int multiprocessors);

}  // namespace mome::cuda
