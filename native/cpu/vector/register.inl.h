// The kernels of one instruction set, as its register.cc puts them into the table. Compiled without that set's flags: it only calls.
#pragma once

#include "cpu/register.h"

namespace mome::MOME_ISA {

void register_packer(KernelTable& table);
void register_layer_norm(KernelTable& table);
void register_attention(KernelTable& table);
void register_text_embed(KernelTable& table);
void register_gather_rows(KernelTable& table);
void register_elementwise(KernelTable& table);
void register_losses(KernelTable& table);
void register_optimizer(KernelTable& table);
void register_linear(KernelTable& table);
void register_qkv(KernelTable& table);
void register_proj_residual(KernelTable& table);
void register_expert_ffn(KernelTable& table);
void register_patch_embed(KernelTable& table);

void register_kernels(KernelTable& table) {
  register_packer(table);
  register_layer_norm(table);
  register_attention(table);
  register_text_embed(table);
  register_gather_rows(table);
  register_elementwise(table);
  register_losses(table);
  register_optimizer(table);
  register_linear(table);
  register_qkv(table);
  register_proj_residual(table);
  register_expert_ffn(table);
  register_patch_embed(table);
}

}  // namespace mome::MOME_ISA
