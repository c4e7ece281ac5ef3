// Which tile a product takes on a device: plain host code, tested without one.
//
// A kernel call cuts its output into tiles. The device works them off in waves of one per multiprocessor (on Hopper a block stays and takes
// one after the other). Large tiles read less per product, small ones waste less of the last wave and of the last rows. The choice is the
// tile of least modelled time. MOME_TRACE=config prints it; MOME_GEMM_TILE=<index> takes one tile for all products
// and MOME_GEMM_FAMILY=sm80 the older family on Hopper, to measure and test them.
#pragma once

#include <cstdint>
#include <span>

namespace mome::cuda {

struct GemmTile {
  int rows, columns;
  double efficiency;  // share of the tensor cores' rate its main loop is taken to reach
};

// bfloat16 on tensor cores; index i of a family is what its kernel variant i computes.
//   sm80  mma.sync, any device from Ampere on
//   sm90  wgmma with a warpgroup that fetches, Hopper
enum class GemmFamily { sm80, sm90 };
std::span<const GemmTile> gemm_tiles(GemmFamily family);
// The family of a device, by its compute capability (10 * major + minor).
GemmFamily gemm_family(int capability);

struct GemmShape {
  std::span<const int64_t> group_rows;  // rows of each expert, tiled apart
  int64_t columns = 0, depth = 0;
};

struct GemmChoice {
  GemmFamily family = GemmFamily::sm80;
  int tile = 0;            // index into gemm_tiles(family)
  int64_t tiles = 0;       // of the launch
  double waves = 0;        // tiles / multiprocessors, not rounded
  double utilisation = 0;  // products wanted / products computed, counting multiprocessors that idle in the last wave
  double cycles = 0;       // modelled time
};

// `first`: tiles before it are left out.
GemmChoice choose_gemm_tile(GemmFamily family, const GemmShape& shape, int multiprocessors, int first = 0);
// The figures of one tile, whether it is the best or not.
GemmChoice model_gemm_tile(GemmFamily family, const GemmShape& shape, int tile, int multiprocessors);

}  // namespace mome::cuda
