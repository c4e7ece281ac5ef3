// layer_norm for the avx512 target; the kernels are in cpu/vector.
#define MOME_ISA avx512
#include "cpu/vector/layer_norm.inl.h"

namespace mome::avx512 {

void register_layer_norm(KernelTable& table) { register_layer_norm_kernels(table); }

}  // namespace mome::avx512
