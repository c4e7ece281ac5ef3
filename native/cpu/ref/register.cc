#include "cpu/register.h"

// Calls X(name) for each file that defines register_<name>.
#define MOME_REF_KERNELS(X) \
  X(attention)              \
  X(elementwise)            \
  X(expert_ffn)             \
  X(gather_rows)            \
  X(layer_norm)             \
  X(linear)                 \
  X(losses)                 \
  X(optimizer)              \
  X(patch_embed)            \
  X(proj_residual)          \
  X(text_embed)

namespace mome::ref {

#define MOME_DECLARE(name) void register_##name(KernelTable& table);
MOME_REF_KERNELS(MOME_DECLARE)
#undef MOME_DECLARE

void register_kernels(KernelTable& table) {
#define MOME_REGISTER(name) register_##name(table);
  MOME_REF_KERNELS(MOME_REGISTER)
#undef MOME_REGISTER
}

}  // namespace mome::ref
