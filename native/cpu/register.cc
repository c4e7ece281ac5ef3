// Puts the kernels of one instruction set into the table. Compiled once per instruction set with MOME_ISA defined, but
// without its flags: it runs on every processor and only reads constant lists.
#include "cpu/register.h"

#include "cpu/vector/kernels.h"

namespace mome::MOME_ISA {

void register_kernels(KernelTable& table) {
#define MOME_LIST(name) name##_kernels,
  for (const KernelList& list : {MOME_KERNEL_LISTS(MOME_LIST)}) {
    for (size_t i = 0; i < list.count; i++) table.add(list.kernels[i]);
  }
#undef MOME_LIST
  table.set_packer(Target::MOME_ISA, packer);
}

}  // namespace mome::MOME_ISA
