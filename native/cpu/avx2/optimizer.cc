// optimizer for the avx2 target; the kernels are in cpu/vector.
#define MOME_ISA avx2
#include "cpu/vector/optimizer.inl.h"
