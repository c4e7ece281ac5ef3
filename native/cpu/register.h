// The registrations of the CPU targets.
#pragma once

#include "core/kernel.h"

namespace mome {

namespace ref {
void register_kernels(KernelTable& table);
}
namespace avx2 {
void register_kernels(KernelTable& table);
}
namespace avx512 {
void register_kernels(KernelTable& table);
}
namespace avx512_vnni {
void register_kernels(KernelTable& table);
}

}  // namespace mome
