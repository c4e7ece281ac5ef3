// The registrations of the CUDA kernels, one per file.
#pragma once

#include "core/kernel.h"

namespace mome::cuda {

void register_layer_norm(KernelTable& table);
void register_linear(KernelTable& table);
void register_qkv(KernelTable& table);
void register_proj_residual(KernelTable& table);
void register_expert_ffn(KernelTable& table);
void register_attention(KernelTable& table);
void register_patch_embed(KernelTable& table);
void register_text_embed(KernelTable& table);
void register_gather_rows(KernelTable& table);
void register_elementwise(KernelTable& table);
void register_losses(KernelTable& table);

// All of them and the packer.
void register_kernels(KernelTable& table);

}  // namespace mome::cuda
