// The register tiles of every matrix product, once per instruction set: other files get them by address. A set takes
// those that its base set has too from there.
#include "cpu/vector/gemm_i8.h"
#include "cpu/vector/gemm_kernel.h"
#if MOME_HAS_TILES
#include "cpu/vector/amx_kernel.h"
#endif

namespace mome::MOME_ISA {

#if MOME_IS_BASE
TileKernel f32_tile_kernel(int64_t rows, int64_t panels, bool stream) {
  return select_tile_kernel<F32Panel>(rows, panels, stream);
}
#endif

#if MOME_HAS_TILES

TileKernel bf16_tile_kernel(int64_t rows, int64_t, bool stream) {
  return stream ? select_amx_bf16_tile<true>(rows) : select_amx_bf16_tile<false>(rows);
}
DotKernel dot_kernel(int64_t rows, bool stream) {
  return stream ? select_amx_dot_tile<true>(rows) : select_amx_dot_tile<false>(rows);
}
void shape_tile_registers(int64_t rows) { shape_for_rows(rows); }
void release_tile_registers() { release_registers(); }

#else

#if MOME_IS_BASE || MOME_HAS_PAIRS
TileKernel bf16_tile_kernel(int64_t rows, int64_t panels, bool stream) {
  return select_tile_kernel<Bf16Panel>(rows, panels, stream);
}
#endif

DotKernel dot_kernel(int64_t rows, bool stream) {
  const int r = static_cast<int>(rows);
  return stream ? select_dot_kernel<kMaxDotRows, true>(r) : select_dot_kernel<kMaxDotRows, false>(r);
}

#endif

}  // namespace mome::MOME_ISA
