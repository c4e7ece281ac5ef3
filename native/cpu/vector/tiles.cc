// The register tiles of every matrix product, once per instruction set: other files get them by address.
#include "cpu/vector/gemm_i8.h"
#include "cpu/vector/gemm_kernel.h"

namespace mome::MOME_ISA {

TileKernel f32_tile_kernel(int64_t rows, int64_t panels, bool stream) {
  return select_tile_kernel<F32Panel>(rows, panels, stream);
}

TileKernel bf16_tile_kernel(int64_t rows, int64_t panels, bool stream) {
  return select_tile_kernel<Bf16Panel>(rows, panels, stream);
}

DotKernel dot_kernel(int64_t rows, bool stream) {
  const int r = static_cast<int>(rows);
  return stream ? select_dot_kernel<kMaxDotRows, true>(r) : select_dot_kernel<kMaxDotRows, false>(r);
}

}  // namespace mome::MOME_ISA
