// proj_residual for the avx2 target; the kernels are in cpu/vector.
#define MOME_ISA avx2
#include "cpu/vector/proj_residual.inl.h"
