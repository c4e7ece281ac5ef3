// Which tile a product takes on a device: plain host code, tested without one.
//
// A kernel call cuts its output into tiles. The device works them off in waves of one per multiprocessor (on Hopper a
// block stays and takes one after the other). Large tiles read less per product, small ones waste less of the last wave
// and of the last rows. The choice is the tile of least modelled time, for one group that has all rows: each further
// one adds at most one row of tiles, and which do is not known where the choice is made. MOME_TRACE=config prints it;
// MOME_GEMM_TILE=<index> takes one tile for all products and MOME_GEMM_FAMILY=sm80 the older family on Hopper, to
// measure and test them.
#pragma once

#include <cstdint>
#include <span>

namespace mome::cuda {

struct GemmTile {
  int rows, columns;
  double efficiency;  // share of the tensor cores' rate its main loop is taken to reach
};

// bfloat16 on tensor cores; tile i of a family belongs to its kernel variant i.
//   sm80  mma.sync, any device from Ampere on
//   sm90  wgmma with a warpgroup that fetches, Hopper
enum class GemmFamily { sm80, sm90 };
std::span<const GemmTile> gemm_tiles(GemmFamily family);
// The family of a device, by its compute capability (10 * major + minor).
GemmFamily gemm_family(int capability);
// Whether bfloat16 products leave their epilogue out and write nothing (MOME_GEMM_EPILOGUE=none), so that the products
// alone can be measured.
bool gemm_without_epilogue();
// What launches are sized for on a device of so many multiprocessors: no more than MOME_MULTIPROCESSORS, where that is
// set. With few, blocks take several tiles in turn even in small cases.
int usable_multiprocessors(int multiprocessors);

struct GemmShape {
  int64_t rows = 0, columns = 0, depth = 0;
  int groups = 1;  // of rows with a weight of their own, tiled apart; where they end is known to the device alone
};

// Row tiles of a launch: as many as `rows` rows can give in so many groups. Blocks that find no tile end at once.
int64_t most_row_tiles(int64_t rows, int groups, int tile_rows);

struct GemmChoice {
  GemmFamily family = GemmFamily::sm80;
  int tile = 0;            // index into gemm_tiles(family)
  int64_t tiles = 0;       // of the launch: the most there can be
  double waves = 0;        // tiles of one group that has all rows / multiprocessors, not rounded
  double utilisation = 0;  // products wanted / products computed, counting multiprocessors that idle in the last wave
  double cycles = 0;       // modelled time
};

// `first`: tiles before it are left out.
GemmChoice choose_gemm_tile(GemmFamily family, const GemmShape& shape, int multiprocessors, int first = 0);
// The figures of one tile, whether it is the best or not.
GemmChoice model_gemm_tile(GemmFamily family, const GemmShape& shape, int tile, int multiprocessors);

}  // namespace mome::cuda
