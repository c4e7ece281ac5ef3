// expert_ffn for the avx2 target; the kernels are in cpu/vector.
#define MOME_ISA avx2
#include "cpu/vector/expert_ffn.inl.h"
