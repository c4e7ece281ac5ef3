// Which kernels there are on this machine.
#include "core/device.h"
#include "core/kernel.h"
#include "cpu/register.h"

#ifndef MOME_AVX512
#error "define MOME_AVX512: 1 where the kernels for AVX-512 are built, otherwise 0"
#endif

namespace mome {

const KernelTable& kernel_table(Target target) {
  if (target == Target::cuda) return device_library().table;
  // Never destroyed: an engine may still be running when the process ends.
  static const KernelTable* const table = [] {
    auto* filled = new KernelTable();
    ref::register_kernels(*filled);
    avx2::register_kernels(*filled);
#if MOME_AVX512
    avx512::register_kernels(*filled);
    avx512_vnni::register_kernels(*filled);
#endif
    return filled;
  }();
  return *table;
}

bool target_built(Target target) { return MOME_AVX512 || (target != Target::avx512 && target != Target::avx512_vnni); }

bool target_supported(Target target) {
  if (!target_built(target)) return false;
  __builtin_cpu_init();
  switch (target) {
    case Target::ref: return true;
    case Target::avx2:
      return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
    case Target::avx512:
      return target_supported(Target::avx2) && __builtin_cpu_supports("avx512f") &&
             __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
             __builtin_cpu_supports("avx512dq");
    case Target::avx512_vnni: return target_supported(Target::avx512) && __builtin_cpu_supports("avx512vnni");
    case Target::cuda: return device_library().api != nullptr;
  }
  return false;
}

Target best_target() {
  Target best = Target::ref;
  for (const Target target : kCpuTargets) {
    if (target_supported(target)) best = target;
  }
  return best;
}

}  // namespace mome
