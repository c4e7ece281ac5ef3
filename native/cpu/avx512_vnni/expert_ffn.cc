// expert_ffn for the avx512_vnni target; the kernels are in cpu/vector.
#define MOME_ISA avx512_vnni
#include "cpu/vector/expert_ffn.inl.h"
