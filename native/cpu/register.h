// The registrations of the CPU targets that this build has.
#pragma once

#include "core/kernel.h"
#include "cpu/instruction_sets.h"

namespace mome {

#define MOME_DECLARE_SET(name)               \
  namespace name {                           \
  void register_kernels(KernelTable& table); \
  }
MOME_DECLARE_SET(ref)
MOME_INSTRUCTION_SETS(MOME_DECLARE_SET)
#undef MOME_DECLARE_SET

}  // namespace mome
