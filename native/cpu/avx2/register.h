// Every kernel of the avx2 target.
#pragma once

#include "core/kernel.h"

namespace mome::avx2 {

void register_kernels(KernelTable& table);

}  // namespace mome::avx2
