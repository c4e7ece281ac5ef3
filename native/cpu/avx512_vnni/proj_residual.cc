// proj_residual for the avx512_vnni target; the kernels are in cpu/vector.
#define MOME_ISA avx512_vnni
#include "cpu/vector/proj_residual.inl.h"
