// The registrations of the CUDA kernels, one per file.
#pragma once

#include "core/kernel.h"

// Calls X(name) for each file that defines register_<name>.
#define MOME_CUDA_KERNELS(X) \
  X(attention)               \
  X(elementwise)             \
  X(expert_ffn)              \
  X(gather_rows)             \
  X(layer_norm)              \
  X(linear)                  \
  X(losses)                  \
  X(patch_embed)             \
  X(proj_residual)           \
  X(qkv)                     \
  X(text_embed)

namespace mome::cuda {

#define MOME_DECLARE(name) void register_##name(KernelTable& table);
MOME_CUDA_KERNELS(MOME_DECLARE)
#undef MOME_DECLARE

// All of them and the packer.
void register_kernels(KernelTable& table);

}  // namespace mome::cuda
