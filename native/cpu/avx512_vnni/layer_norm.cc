// layer_norm for the avx512_vnni target; the kernels are in cpu/vector.
#define MOME_ISA avx512_vnni
#include "cpu/vector/layer_norm.inl.h"

namespace mome::avx512_vnni {

void register_layer_norm(KernelTable& table) { register_layer_norm_kernels(table); }

}  // namespace mome::avx512_vnni
