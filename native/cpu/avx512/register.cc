// Every kernel of the avx512 target.
#define MOME_ISA avx512
#include "cpu/vector/register.inl.h"
