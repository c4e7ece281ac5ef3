// Every kernel of the avx512 target.
#pragma once

#include "core/kernel.h"

namespace mome::avx512 {

void register_kernels(KernelTable& table);

}  // namespace mome::avx512
