// Puts the kernels of one instruction set into the table. Compiled once per instruction set with MOME_ISA and the sets
// whose kernels serve it too defined, but without its flags: it runs on every processor and only reads constant lists.
#include "cpu/register.h"

#include "cpu/vector/kernels.h"

namespace mome::MOME_BASE_ISA {

#define MOME_DECLARE_LIST(name) extern const KernelList name##_kernels;
MOME_BASE_KERNEL_LISTS(MOME_DECLARE_LIST)

}  // namespace mome::MOME_BASE_ISA

namespace mome::MOME_ATTENTION_ISA {

MOME_ATTENTION_LISTS(MOME_DECLARE_LIST)

}  // namespace mome::MOME_ATTENTION_ISA
#undef MOME_DECLARE_LIST

namespace mome::MOME_ISA {

void register_kernels(KernelTable& table) {
#define MOME_LIST(name) name##_kernels,
#define MOME_BASE_LIST(name) MOME_BASE_ISA::name##_kernels,
#define MOME_ATTENTION_LIST(name) MOME_ATTENTION_ISA::name##_kernels,
  for (const KernelList& list : {MOME_KERNEL_LISTS(MOME_LIST) MOME_ATTENTION_LISTS(MOME_ATTENTION_LIST)
                                     MOME_BASE_KERNEL_LISTS(MOME_BASE_LIST)}) {
    for (size_t i = 0; i < list.count; i++) {
      Kernel kernel = list.kernels[i];
      kernel.target = Target::MOME_ISA;
      table.add(kernel);
    }
  }
#undef MOME_ATTENTION_LIST
#undef MOME_BASE_LIST
#undef MOME_LIST
  table.set_packer(Target::MOME_ISA, packer);
}

}  // namespace mome::MOME_ISA
