#include "core/processor.h"

#if defined(__x86_64__)
#include "core/amx.h"
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

namespace mome {

#if defined(__x86_64__)

bool processor_has(Target target) {
  __builtin_cpu_init();
  switch (target) {
    case Target::avx2:
      return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
    case Target::avx2_vnni: return processor_has(Target::avx2) && __builtin_cpu_supports("avxvnni");
    case Target::avx512:
      return processor_has(Target::avx2) && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
             __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
    case Target::avx512_vnni: return processor_has(Target::avx512) && __builtin_cpu_supports("avx512vnni");
    case Target::avx512_bf16: return processor_has(Target::avx512_vnni) && __builtin_cpu_supports("avx512bf16");
    case Target::amx: return processor_has(Target::avx512_bf16) && amx_usable();
    default: return false;
  }
}

#elif defined(__aarch64__)

namespace {

// Bits of AT_HWCAP and AT_HWCAP2 (asm/hwcap.h), which older headers do not name.
constexpr unsigned long kAtomics = 1ul << 8, kDotProducts = 1ul << 20;  // AT_HWCAP: atomics, asimddp
constexpr unsigned long kBf16 = 1ul << 14;                              // AT_HWCAP2: bf16

bool has(unsigned long capabilities, unsigned long more = 0) {
#if defined(__linux__)
  return (getauxval(AT_HWCAP) & capabilities) == capabilities && (getauxval(AT_HWCAP2) & more) == more;
#else
  return capabilities == 0 && more == 0;
#endif
}

}  // namespace

bool processor_has(Target target) {
  switch (target) {
    case Target::neon: return true;  // every 64-bit Arm processor has it
    case Target::neon_dot: return has(kAtomics | kDotProducts);
    case Target::neon_bf16: return has(kAtomics | kDotProducts, kBf16);
    default: return false;
  }
}

#else

bool processor_has(Target) { return false; }

#endif

}  // namespace mome
