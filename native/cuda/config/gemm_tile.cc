#include "cuda/config/gemm_tile.h"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace mome::cuda {
namespace {

constexpr GemmTile kSm80Tiles[] = {{128, 128, 1.0}, {128, 64, 0.85}, {64, 64, 0.7}};
constexpr GemmTile kSm90Tiles[] = {{128, 192, 1.0}, {128, 128, 0.95}, {64, 192, 0.9}, {64, 64, 0.6}};

// Multiply-adds a multiprocessor does per cycle, and cycles a tile of 128 x 128 takes for its epilogue: added to every
// tile of sm80, hidden behind the next tile's products on sm90 except at the end. Filling the pipeline costs every
// block some cycles.
struct Rates {
  double products_per_cycle, epilogue_cycles, fill_cycles;
  bool hides_epilogue;
};
constexpr Rates kRates[] = {{1024, 2500, 1500, false}, {2048, 3500, 1500, true}};

int64_t ceil_divide(int64_t a, int64_t b) { return (a + b - 1) / b; }

bool traced() {
  const char* trace = std::getenv("MOME_TRACE");
  return trace != nullptr && std::strcmp(trace, "config") == 0;
}

}  // namespace

std::span<const GemmTile> gemm_tiles(GemmFamily family) {
  return family == GemmFamily::sm80 ? std::span<const GemmTile>(kSm80Tiles) : std::span<const GemmTile>(kSm90Tiles);
}

GemmFamily gemm_family(int capability) {
  const char* forced = std::getenv("MOME_GEMM_FAMILY");
  const bool older = forced != nullptr && std::strcmp(forced, "sm80") == 0;
  return capability == 90 && !older ? GemmFamily::sm90 : GemmFamily::sm80;
}

bool gemm_without_epilogue() {
  const char* epilogue = std::getenv("MOME_GEMM_EPILOGUE");
  return epilogue != nullptr && std::strcmp(epilogue, "none") == 0;
}

int usable_multiprocessors(int multiprocessors) {
  const char* most = std::getenv("MOME_MULTIPROCESSORS");
  const int wanted = most == nullptr ? 0 : std::atoi(most);
  return wanted > 0 && wanted < multiprocessors ? wanted : multiprocessors;
}

int64_t most_row_tiles(int64_t rows, int groups, int tile_rows) {
  if (rows <= groups) return rows;
  // All groups but one have a single row: a tile each.
  return groups - 1 + ceil_divide(rows - (groups - 1), tile_rows);
}

GemmChoice model_gemm_tile(GemmFamily family, const GemmShape& shape, int tile, int multiprocessors) {
  const GemmTile& t = gemm_tiles(family)[static_cast<size_t>(tile)];
  const Rates& rates = kRates[static_cast<int>(family)];
  GemmChoice choice;
  choice.family = family;
  choice.tile = tile;
  const int64_t column_tiles = ceil_divide(shape.columns, t.columns);
  choice.tiles = most_row_tiles(shape.rows, shape.groups, t.rows) * column_tiles;
  choice.waves = static_cast<double>(ceil_divide(shape.rows, t.rows) * column_tiles) / multiprocessors;
  const double area = static_cast<double>(t.rows) * t.columns, full_waves = std::ceil(choice.waves);
  const double computed = full_waves * multiprocessors * area;
  choice.utilisation =
      computed == 0 ? 0 : static_cast<double>(shape.rows) * static_cast<double>(shape.columns) / computed;
  const double products = area * static_cast<double>(shape.depth) / (rates.products_per_cycle * t.efficiency);
  const double epilogue = rates.epilogue_cycles * area / (128 * 128);
  choice.cycles = rates.hides_epilogue
                      ? rates.fill_cycles + full_waves * (products > epilogue / 2 ? products : epilogue / 2) + epilogue
                      : full_waves * (rates.fill_cycles + products + epilogue);
  return choice;
}

GemmChoice choose_gemm_tile(GemmFamily family, const GemmShape& shape, int multiprocessors, int first) {
  GemmChoice best = model_gemm_tile(family, shape, first, multiprocessors);
  for (int tile = first + 1; tile < static_cast<int>(gemm_tiles(family).size()); tile++) {
    const GemmChoice choice = model_gemm_tile(family, shape, tile, multiprocessors);
    if (choice.cycles < best.cycles) best = choice;
  }
  if (const char* forced = std::getenv("MOME_GEMM_TILE"); forced != nullptr) {
    const int tile = std::atoi(forced);
    if (tile >= first && tile < static_cast<int>(gemm_tiles(family).size()))
      best = model_gemm_tile(family, shape, tile, multiprocessors);
  }
  if (traced()) {
    const GemmTile& tile = gemm_tiles(family)[static_cast<size_t>(best.tile)];
    std::fprintf(stderr,
                 "gemm %lld x %lld x %lld in %d groups: %s %d x %d, at most %lld tiles, %.2f waves, %.0f %% used\n",
                 static_cast<long long>(shape.rows), static_cast<long long>(shape.columns),
                 static_cast<long long>(shape.depth), shape.groups, family == GemmFamily::sm80 ? "sm80" : "sm90",
                 tile.rows, tile.columns, static_cast<long long>(best.tiles), best.waves, 100 * best.utilisation);
  }
  return best;
}

}  // namespace mome::cuda
