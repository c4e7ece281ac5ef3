// patch_embed for the avx512_vnni target; the kernels are in cpu/vector.
#define MOME_ISA avx512_vnni
#include "cpu/vector/patch_embed.inl.h"
