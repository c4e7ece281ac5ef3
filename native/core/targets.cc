// Which kernels there are on this machine.
#include "core/device.h"
#include "core/kernel.h"
#include "core/processor.h"
#include "cpu/register.h"

namespace mome {

const KernelTable& kernel_table(Target target) {
  if (target == Target::cuda) return device_library().table;
  // Never destroyed: an engine may still be running when the process ends.
  static const KernelTable* const table = [] {
    auto* filled = new KernelTable();
    ref::register_kernels(*filled);
#define MOME_REGISTER(name) name::register_kernels(*filled);
    MOME_INSTRUCTION_SETS(MOME_REGISTER)
#undef MOME_REGISTER
    return filled;
  }();
  return *table;
}

bool target_built(Target target) {
  if (target == Target::ref || target == Target::cuda) return true;
#define MOME_COMPARE(name) \
  if (target == Target::name) return true;
  MOME_INSTRUCTION_SETS(MOME_COMPARE)
#undef MOME_COMPARE
  return false;
}

bool target_supported(Target target) {
  if (!target_built(target)) return false;
#if defined(MOME_EMULATED)  // a test program whose instruction sets are emulated: every machine runs them
  return target != Target::cuda;
#endif
  switch (target) {
    case Target::ref: return true;
    case Target::cuda: return device_library().api != nullptr;
    default: return processor_has(target);
  }
}

Target best_target() {
  Target best = Target::ref;
  for (const Target target : kCpuTargets) {
    if (target_supported(target)) best = target;
  }
  return best;
}

}  // namespace mome
