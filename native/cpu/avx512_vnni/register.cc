// Every kernel of the avx512_vnni target.
#define MOME_ISA avx512_vnni
#include "cpu/vector/register.inl.h"
