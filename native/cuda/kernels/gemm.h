// The one product of all layers: y = epilogue(x W^T), on the kernels that suit the type of its rows and the device.
#pragma once

#include "cuda/kernels/gemm_sm80.h"
#include "cuda/kernels/gemm_sm90.h"

namespace mome::cuda {

template <int kRows, int kColumns, int kWarpRows, int kWarpColumns, bool kAligned, typename Epilogue>
Status launch_tile(const Queue& queue, const GemmOperands<bf16>& g, int64_t tiles, const Epilogue& epilogue) {
  constexpr int kThreads = kTileWarps<kRows, kColumns, kWarpRows, kWarpColumns> * kWarp;
  return launch(gemm_forward_bf16_sm80<kRows, kColumns, kWarpRows, kWarpColumns, kAligned, Epilogue>,
                {static_cast<unsigned>(tiles), 1, 1}, kThreads, gemm_shared_bytes<kRows, kColumns>(), queue.stream, g,
                epilogue);
}

template <typename Epilogue>
Status launch_gemm(const Queue& queue, const GemmOperands<bf16>& g, const Epilogue& epilogue) {
  constexpr int kUnaligned = 2;  // the tile of rows that cannot be read in 16-byte pieces
  const GemmShape shape{g.rows.rows, g.columns, g.depth, g.rows.groups};
  const GemmFamily family = g.aligned && epilogue.aligned ? gemm_family(queue.capability) : GemmFamily::sm80;
  const GemmChoice choice = g.aligned ? choose_gemm_tile(family, shape, queue.multiprocessors,
                                                         family == GemmFamily::sm90 && !Epilogue::kLight ? 1 : 0)
                                      : model_gemm_tile(family, shape, kUnaligned, queue.multiprocessors);
  if (family == GemmFamily::sm90) {
    switch (choice.tile) {
      case 0:
        if constexpr (Epilogue::kLight) return launch_sm90<128, 192>(queue, g, choice.tiles, epilogue);
        break;
      case 1: return launch_sm90<128, 128>(queue, g, choice.tiles, epilogue);
      case 2: return launch_sm90<64, 192>(queue, g, choice.tiles, epilogue);
      case 3: return launch_sm90<64, 64>(queue, g, choice.tiles, epilogue);
    }
    return error(Code::internal, "gemm: no kernel of tile %d", choice.tile);
  }
  if (!g.aligned) return launch_tile<64, 64, 32, 32, false>(queue, g, choice.tiles, epilogue);
  switch (choice.tile) {
    case 0: return launch_tile<128, 128, 64, 32, true>(queue, g, choice.tiles, epilogue);
    case 1: return launch_tile<128, 64, 64, 32, true>(queue, g, choice.tiles, epilogue);
    case 2: return launch_tile<64, 64, 32, 32, true>(queue, g, choice.tiles, epilogue);
  }
  return error(Code::internal, "gemm: no kernel of tile %d", choice.tile);
}

template <typename Epilogue>
Status launch_gemm(const Queue& queue, const GemmOperands<float>& g, const Epilogue& epilogue) {
  const int64_t tiles =
      most_row_tiles(g.rows.rows, g.rows.groups, kPlainRows) * ((g.columns + kPlainColumns - 1) / kPlainColumns);
  constexpr size_t kShared = size_t{kPlainDepth} * (kPlainRows + 4 + kPlainColumns + 4) * sizeof(float);
  return launch(gemm_forward_f32<Epilogue>, {static_cast<unsigned>(tiles), 1, 1}, kPlainThreads, kShared, queue.stream,
                g, epilogue);
}

// Operands over `depth` columns of x and outputs of `weight`'s shape, one group that covers all rows; others are filled
// in by the caller.
template <typename T>
Status gemm_operands(const T* x, int64_t rows, const Matrix& weight, GemmOperands<T>& g) {
  if (rows > INT32_MAX || weight.rows > INT32_MAX || weight.columns > INT32_MAX)
    return error(Code::too_large, "gemm: expected sizes below 2^31");
  g.x = x;
  g.depth = static_cast<int>(weight.columns);
  g.columns = static_cast<int>(weight.rows);
  g.pitch = static_cast<int>(weight_pitch(weight.columns));
  g.rows = {static_cast<int>(rows), 1, nullptr};
  g.weight[0] = static_cast<const T*>(weight.packed);
  g.aligned = reinterpret_cast<uintptr_t>(x) % 16 == 0 && weight.columns % kRun == 0;
  g.without_epilogue = gemm_without_epilogue();
  return {};
}

// One group that covers all rows.
template <typename T, typename Epilogue>
Status gemm(const Queue& queue, const T* x, int64_t rows, const Matrix& weight, const Epilogue& epilogue) {
  if (rows == 0 || weight.rows == 0) return {};
  GemmOperands<T> g{};
  MOME_RETURN_IF_ERROR(gemm_operands(x, rows, weight, g));
  return launch_gemm(queue, g, epilogue);
}

}  // namespace mome::cuda
