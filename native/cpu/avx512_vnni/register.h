// Every kernel of the avx512_vnni target.
#pragma once

#include "core/kernel.h"

namespace mome::avx512_vnni {

void register_kernels(KernelTable& table);

}  // namespace mome::avx512_vnni
