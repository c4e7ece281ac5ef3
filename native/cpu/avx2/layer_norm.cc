// layer_norm for the avx2 target; the kernels are in cpu/vector.
#define MOME_ISA avx2
#include "cpu/vector/layer_norm.inl.h"

namespace mome::avx2 {

void register_layer_norm(KernelTable& table) { register_layer_norm_kernels(table); }

}  // namespace mome::avx2
