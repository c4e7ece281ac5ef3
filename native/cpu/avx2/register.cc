// Every kernel of the avx2 target.
#define MOME_ISA avx2
#include "cpu/vector/register.inl.h"
