// The Packer of this instruction set.
#pragma once

#include "cpu/vector/pack_weight.h"

namespace mome::MOME_ISA {

void register_packer(KernelTable& table) { table.set_packer(Target::MOME_ISA, {packed_weight_size, pack_weight}); }

}  // namespace mome::MOME_ISA
