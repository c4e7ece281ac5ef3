// The Packer of this instruction set.
#include "cpu/vector/kernels.h"
#include "cpu/vector/pack_weight.h"

namespace mome::MOME_ISA {

constinit const Packer packer = {packed_weight_size, pack_weight};

}  // namespace mome::MOME_ISA
