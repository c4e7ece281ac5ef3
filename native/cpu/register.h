// The registrations of the CPU targets: those of AVX-512 where the build has them.
#pragma once

#include "core/kernel.h"

namespace mome {

namespace ref {
void register_kernels(KernelTable& table);
}
namespace avx2 {
void register_kernels(KernelTable& table);
}
#if MOME_AVX512
namespace avx512 {
void register_kernels(KernelTable& table);
}
namespace avx512_vnni {
void register_kernels(KernelTable& table);
}
#endif

}  // namespace mome
