// Every kernel of the ref target.
#pragma once

#include "core/kernel.h"

namespace mome::ref {

void register_kernels(KernelTable& table);

}  // namespace mome::ref
