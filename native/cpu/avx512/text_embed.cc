// text_embed for the avx512 target; the kernels are in cpu/vector.
#define MOME_ISA avx512
#include "cpu/vector/text_embed.inl.h"
