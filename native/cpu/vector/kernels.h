// What each instruction set gives to the kernel table. Every file of this folder is compiled once per instruction set,
// with MOME_ISA (such as avx512_vnni) defined and with the flags of that set. Such a file defines one constant
// list and nothing else that other files see: everything else is in an unnamed namespace inside mome::MOME_ISA. The
// linker can therefore never take a function that was compiled for one instruction set for code that runs on every
// processor, and nothing here runs before a kernel is called.
#pragma once

#include <cstddef>

#include "core/kernel.h"

#ifndef MOME_ISA
#error "define MOME_ISA (such as avx512_vnni) before including"
#endif

namespace mome {

struct KernelList {
  const Kernel* kernels;
  size_t count;
};

}  // namespace mome

namespace mome::MOME_ISA {

// Calls X(name) for each file that defines `name`_kernels for every instruction set.
#define MOME_KERNEL_LISTS(X) \
  X(expert_ffn)              \
  X(linear)                  \
  X(patch_embed)             \
  X(proj_residual)           \
  X(qkv)

// And for each that is compiled for a base set alone, whose kernels those that extend it share.
#define MOME_BASE_KERNEL_LISTS(X) \
  X(elementwise)                  \
  X(gather_rows)                  \
  X(layer_norm)                   \
  X(losses)                       \
  X(optimizer)                    \
  X(text_embed)

// And for those of attention, which a set whose products of rows with each other are those of another takes from there.
#define MOME_ATTENTION_LISTS(X) X(attention)

#define MOME_DECLARE_LIST(name) extern const KernelList name##_kernels;
MOME_KERNEL_LISTS(MOME_DECLARE_LIST)
MOME_ATTENTION_LISTS(MOME_DECLARE_LIST)
MOME_BASE_KERNEL_LISTS(MOME_DECLARE_LIST)
#undef MOME_DECLARE_LIST

extern const Packer packer;

namespace {

// The table's entry of a kernel that is written with typed arguments.
template <typename Args, Status (*kRun)(const Args&, OpContext&)>
constexpr Kernel kernel() {
  return {Args::kOp, Args::kDirection, Target::MOME_ISA,
          [](const void* args, OpContext& context) { return kRun(*static_cast<const Args*>(args), context); }, nullptr};
}
template <typename Args, Status (*kRun)(const Args&, OpContext&), size_t (*kWorkspace)(const Args&, int)>
constexpr Kernel kernel() {
  Kernel entry = kernel<Args, kRun>();
  entry.workspace = [](const void* args, int threads) { return kWorkspace(*static_cast<const Args*>(args), threads); };
  return entry;
}

}  // namespace
}  // namespace mome::MOME_ISA
