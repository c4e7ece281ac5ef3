// text_embed for the avx2 target; the kernels are in cpu/vector.
#define MOME_ISA avx2
#include "cpu/vector/text_embed.inl.h"
