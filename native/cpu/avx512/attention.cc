// attention for the avx512 target; the kernels are in cpu/vector.
#define MOME_ISA avx512
#include "cpu/vector/attention.inl.h"
