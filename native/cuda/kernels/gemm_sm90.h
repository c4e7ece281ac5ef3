// The bfloat16 product on Hopper: y = epilogue(x W^T), dense or by groups, as gemm_sm80.h says.
//
// One block per multiprocessor works through tiles of kRows x kColumns. A warpgroup of its own fetches slices of 64
// along the depth into a ring of shared memory (TMA); two others take turns: while one multiplies its tile (wgmma,
// operands in shared memory, sums in registers), the other ends the tile before with its epilogue. With a depth of 768
// an epilogue takes a third of the products' time, and none of it is seen.
//
// Sums run over the depth in steps of 16, ascending, whatever the tile: a row's result depends neither on its
// neighbours nor on the tile. The epilogue gets 8 neighbouring columns at a time: the four lanes that hold a row's
// columns swap them among themselves.
#pragma once

#include "cuda/kernels/gemm_sm80.h"
#include "cuda/primitives/hopper.h"
#include "cuda/primitives/warp.h"

namespace mome::cuda {

// Tensor maps of a product's operands; the shapes are in GemmOperands.
struct GemmMaps {
  TensorMap x;
  TensorMap weight[kMaxGroups];
  uint64_t* report;  // of trap_report
};

inline constexpr int kSm90Threads = 3 * kWarpgroup;
// 64 K registers: 128 x 24 for the warpgroup that fetches, 256 x 240 for the two that multiply.
inline constexpr int kFetchRegisters = 24, kMultiplyRegisters = 240;

template <int kRows, int kColumns>
struct Sm90Tile {
  static constexpr int kStageBytes = (kRows + kColumns) * kGemmDepth * static_cast<int>(sizeof(bf16));
  static constexpr int kStages = 200 * 1024 / kStageBytes < 8 ? 200 * 1024 / kStageBytes : 8;  // of 227 KiB
  static constexpr size_t kSharedBytes = size_t{kStages} * kStageBytes + 2 * kStages * sizeof(uint64_t) +
                                         sizeof(TileGrid) + kSm90Threads / kWarp * sizeof(TilePlace);
};

// The barriers of the ring: a slice is full when its bytes have come, empty when the warps that read it are done.
template <int kStages>
struct Ring {
  uint64_t* full;
  uint64_t* empty;
  // Slice `n` of all the block's slices, counted over its tiles.
  MOME_DEVICE static int stage(int n) { return n % kStages; }
  MOME_DEVICE static int parity(int n) { return n / kStages & 1; }
};

// Waits until the slice whose phases have this parity was read. Gives up where that does not happen, and says whether
// its bytes had come: the warpgroups that wait for them have no registers for a limit of their own, and cannot read a
// slice that never comes.
template <int kStages>
MOME_DEVICE void wait_for_readers(const Ring<kStages>& ring, int stage, int parity, uint64_t* report) {
  if (phase_wait_limited(&ring.empty[stage], parity)) return;
  give_up(report, trap_word(phase_passed(&ring.full[stage], parity) ? Trap::readers_never_left : Trap::bytes_never_came,
                            blockIdx.x, stage, parity));
}

// The warpgroup that fetches: one thread of it. It stays until all it fetched was read, and so watches over every wait
// of the block.
template <int kRows, int kColumns>
MOME_DEVICE void fetch_tiles(const GemmOperands<bf16>& g, const GemmMaps& maps, std::byte* stages,
                             Ring<Sm90Tile<kRows, kColumns>::kStages> ring, const TileGrid& grid, int slices) {
  using Tile = Sm90Tile<kRows, kColumns>;
  int n = 0;
  for (int tile = static_cast<int>(blockIdx.x); tile < grid.tiles; tile += static_cast<int>(gridDim.x)) {
    const TilePlace place = place_tile(grid, g.columns, tile, kRows, kColumns);
#pragma unroll 1
    for (int slice = 0; slice < slices; slice++, n++) {
      const int stage = ring.stage(n);
      wait_for_readers(ring, stage, ring.parity(n) ^ 1, maps.report);
      phase_arrive_expecting(&ring.full[stage], Tile::kStageBytes);
      std::byte* to = stages + stage * Tile::kStageBytes;
      copy_box(to, &maps.x, place.row, slice * kGemmDepth, &ring.full[stage]);
      copy_box(to + kRows * kGemmDepth * sizeof(bf16), &maps.weight[place.group], place.column, slice * kGemmDepth,
               &ring.full[stage]);
    }
  }
#pragma unroll 1
  for (int last = n > Tile::kStages ? n - Tile::kStages : 0; last < n; last++)
    wait_for_readers(ring, ring.stage(last), ring.parity(last), maps.report);
}

// One tile's products. `n`: number of its first slice among all the block's.
template <int kRows, int kColumns>
MOME_DEVICE void multiply_tile(float (&sum)[kRows / 64][kColumns / 2], const std::byte* stages,
                               Ring<Sm90Tile<kRows, kColumns>::kStages> ring, int n, int slices) {
  using Tile = Sm90Tile<kRows, kColumns>;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
#pragma unroll 1
  for (int slice = 0; slice < slices; slice++, n++) {
    const int stage = ring.stage(n);
    phase_wait(&ring.full[stage], ring.parity(n));
    const std::byte* at = stages + stage * Tile::kStageBytes;
    const uint64_t rows = operand_descriptor(at), columns = operand_descriptor(at + kRows * kGemmDepth * sizeof(bf16));
    constexpr uint64_t kNextRows = 64 * kGemmDepth * sizeof(bf16) >> 4;
    wgmma_fence();
#pragma unroll
    for (int step = 0; step < kGemmDepth / 16; step++) {
#pragma unroll
      for (int i = 0; i < kRows / 64; i++)
        wgmma_bf16(sum[i], rows + i * kNextRows + step * kDescriptorStep, columns + step * kDescriptorStep,
                   slice > 0 || step > 0);
    }
    wgmma_commit();
    // The slice before is done with once its products are; this one's go on.
    wgmma_wait<1>();
    if (slice > 0 && lane == 0) phase_arrive(&ring.empty[ring.stage(n - 1)]);
  }
  wgmma_wait<0>();
  // The sums are there now and not before: the compiler sees them as results of the products, which are still under way
  // when they return.
#pragma unroll
  for (int i = 0; i < kRows / 64; i++) {
#pragma unroll
    for (int j = 0; j < kColumns / 2; j++) keep_here(sum[i][j]);
  }
  if (lane == 0) phase_arrive(&ring.empty[ring.stage(n - 1)]);
}

// Swaps columns among the four lanes of a row: lane t, which has columns 2 t and 2 t + 1 of four blocks of 8, gets all
// 8 of block t.
MOME_DEVICE void gather_columns(const float* pairs, float (&values)[kRun]) {
  const int t = static_cast<int>(threadIdx.x) % 4;
  // In round r lanes t and t ^ r swap: each gives the other's block and keeps its own.
#pragma unroll
  for (int round = 0; round < 4; round++) {
    const int other = t ^ round;
    float give[2];
#pragma unroll
    for (int i = 0; i < 2; i++) {
      // Chosen without indexing registers by a variable.
      const float low = other & 1 ? pairs[4 + i] : pairs[i], high = other & 1 ? pairs[12 + i] : pairs[8 + i];
      give[i] = other & 2 ? high : low;
      if (round > 0) give[i] = shuffle_xor(give[i], round);
    }
#pragma unroll
    for (int place = 0; place < 4; place++) {
      if (place == other) {
        values[2 * place] = give[0];
        values[2 * place + 1] = give[1];
      }
    }
  }
}

template <int kRows, int kColumns, typename Epilogue>
MOME_DEVICE void finish_sums(const float (&sum)[kRows / 64][kColumns / 2], const TilePlace& place, int columns,
                             const Epilogue& epilogue) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp % 4;
#pragma unroll
  for (int i = 0; i < kRows / 64; i++) {
#pragma unroll
    for (int four = 0; four < kColumns / 32; four++) {
#pragma unroll
      for (int half = 0; half < 2; half++) {
        // 192 sums leave few registers: nothing is computed or loaded ahead for later columns.
        int row = place.row + 64 * i + 16 * warp + 8 * half + lane / 4,
            column = place.column + 32 * four + 8 * (lane % 4);
        keep_here(row);
        keep_here(column);
        keep_order();
        float values[kRun] = {};
        gather_columns(&sum[i][16 * four + 2 * half], values);
        if (row < place.end && column < columns) epilogue(row, column, place.group, kRun, true, values);
      }
    }
  }
}

template <int kRows, int kColumns, typename Epilogue>
MOME_SHARED_KERNEL(kSm90Threads, 1)
gemm_forward_bf16_sm90(MOME_PARAMETER GemmOperands<bf16> g, MOME_PARAMETER GemmMaps maps,
                       MOME_PARAMETER Epilogue epilogue) {
#if defined(MOME_EMULATION) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
  using Tile = Sm90Tile<kRows, kColumns>;
  std::byte* stages = shared_memory<std::byte>();
  uint64_t* barriers = reinterpret_cast<uint64_t*>(stages + size_t{Tile::kStages} * Tile::kStageBytes);
  const Ring<Tile::kStages> ring{barriers, barriers + Tile::kStages};
  // In shared memory: a register for each of their numbers would be one too many where a tile has 192 sums.
  TileGrid& grid = *reinterpret_cast<TileGrid*>(barriers + 2 * Tile::kStages);
  TilePlace* places = reinterpret_cast<TilePlace*>(&grid + 1);  // of each warp
  const int warpgroup = static_cast<int>(threadIdx.x) / kWarpgroup;
  if (threadIdx.x == 0) {
    expect_aligned(stages, maps.report);
    for (int stage = 0; stage < Tile::kStages; stage++) {
      phase_init(&ring.full[stage], 1);
      phase_init(&ring.empty[stage], kWarpgroup / kWarp);
    }
    phase_init_done();
    grid = cut_tiles(g, kRows, kColumns);
  }
  block_barrier();

  if (warpgroup == 0) {
    release_registers<kFetchRegisters>();
    if (threadIdx.x == 0)
      fetch_tiles<kRows, kColumns>(g, maps, stages, ring, grid, (g.depth + kGemmDepth - 1) / kGemmDepth);
    return;
  }
  take_registers<kMultiplyRegisters>();
  const int mine = warpgroup - 1;
  const auto tile_of = [](int turn) { return static_cast<int>(blockIdx.x) + turn * static_cast<int>(gridDim.x); };
  for (int turn = mine; tile_of(turn) < grid.tiles; turn += 2) {
    // Found while the other warpgroup multiplies, and before there are sums, whose registers leave no room for it.
    warp_barrier();  // all have read the one before
    if (threadIdx.x % kWarp == 0)
      places[threadIdx.x / kWarp] = place_tile(grid, g.columns, tile_of(turn), kRows, kColumns);
    warp_barrier();
    // A turn begins when the other warpgroup has multiplied its tile: slices come in the order of tiles.
    if (turn > 0) named_barrier_wait(1 + mine, 2 * kWarpgroup);
    float sum[kRows / 64][kColumns / 2];
    int depth = g.depth;
    keep_here(depth);  // not kept in a register over the epilogue
    const int slices = (depth + kGemmDepth - 1) / kGemmDepth;
    multiply_tile<kRows, kColumns>(sum, stages, ring, turn * slices, slices);
    if (tile_of(turn + 1) < grid.tiles) named_barrier_arrive(1 + (1 - mine), 2 * kWarpgroup);
    if (!g.without_epilogue)
      finish_sums<kRows, kColumns>(sum, TilePlace(places[threadIdx.x / kWarp]), g.columns, epilogue);
  }
#endif
}

template <int kRows, int kColumns, typename Epilogue>
Status launch_sm90(const Queue& queue, const GemmOperands<bf16>& g, int64_t tiles, const Epilogue& epilogue) {
  using Tile = Sm90Tile<kRows, kColumns>;
  GemmMaps maps{};
  maps.report = trap_report();
  MOME_RETURN_IF_ERROR(make_tensor_map(g.x, g.rows.rows, g.depth, g.depth, kRows, maps.x));
  for (int group = 0; group < g.rows.groups; group++)
    MOME_RETURN_IF_ERROR(make_tensor_map(g.weight[group], g.columns, g.depth, g.pitch, kColumns, maps.weight[group]));
  const unsigned blocks = static_cast<unsigned>(tiles < queue.multiprocessors ? tiles : queue.multiprocessors);
  return launch(gemm_forward_bf16_sm90<kRows, kColumns, Epilogue>, {blocks, 1, 1}, kSm90Threads, Tile::kSharedBytes,
                queue.stream, g, maps, epilogue);
}

}  // namespace mome::cuda
