#include "cuda/config/gemm_tile.h"

#include <cmath>

namespace mome::cuda {
namespace {

// What a block costs besides its products, in products of one multiprocessor's time: filling the pipeline and the epilogue, about
// 3,000 cycles of 2,048 products (2 x 1,024 of mma.sync per cycle).
constexpr double kProductsPerCycle = 1024;
constexpr double kBlockCycles = 3000;

int64_t ceil_divide(int64_t a, int64_t b) { return (a + b - 1) / b; }

double cycles_of(const GemmShape& shape, const GemmTile& tile, int64_t tiles, int multiprocessors) {
  const double products = static_cast<double>(tile.rows) * tile.columns * static_cast<double>(shape.depth);
  return static_cast<double>(ceil_divide(tiles, multiprocessors)) * (products / (kProductsPerCycle * tile.efficiency) + kBlockCycles * tile.rows * tile.columns / (128 * 128));
}

}  // namespace

GemmChoice model_gemm_tile(const GemmShape& shape, int tile, int multiprocessors) {
  const GemmTile& t = kGemmTiles[tile];
  GemmChoice choice;
  choice.tile = tile;
  int64_t row_tiles = 0, rows = 0;
  for (const int64_t count : shape.group_rows) {
    row_tiles += ceil_divide(count, t.rows);
    rows += count;
  }
  choice.tiles = row_tiles * ceil_divide(shape.columns, t.columns);
  choice.waves = static_cast<double>(choice.tiles) / multiprocessors;
  const double computed = std::ceil(choice.waves) * multiprocessors * t.rows * t.columns;
  choice.utilisation = computed == 0 ? 0 : static_cast<double>(rows) * static_cast<double>(shape.columns) / computed;
  return choice;
}

GemmChoice choose_gemm_tile(const GemmShape& shape, int multiprocessors) {
  GemmChoice best = model_gemm_tile(shape, 0, multiprocessors);
  double least = cycles_of(shape, kGemmTiles[0], best.tiles, multiprocessors);
  for (int tile = 1; tile < static_cast<int>(std::size(kGemmTiles)); tile++) {
    const GemmChoice choice = model_gemm_tile(shape, tile, multiprocessors);
    const double cycles = cycles_of(shape, kGemmTiles[tile], choice.tiles, multiprocessors);
    if (cycles >= least) continue;
    least = cycles;
    best = choice;
  }
  return best;
}

}  // namespace mome::cuda
