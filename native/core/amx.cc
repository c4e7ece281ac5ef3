#include "core/amx.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace mome {
namespace {

// Bits of cpuid leaf 7, edx.
constexpr uint32_t kAmxBf16 = 1u << 22, kAmxTile = 1u << 24, kAmxInt8 = 1u << 25;
// State components: the shapes of the registers, and what is in them.
constexpr int kTileShapes = 17, kTileContents = 18;
#if defined(__x86_64__)

// arch_prctl's request for a state component that is not given to every process (asm/prctl.h, since Linux 5.16).
constexpr long kRequestPermission = 0x1023;

bool ask() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  constexpr unsigned kReadsSavedStates = 1u << 27;  // leaf 1, ecx: xgetbv may be used
  if (__get_cpuid(1, &a, &b, &c, &d) == 0 || (c & kReadsSavedStates) == 0) return false;
  uint32_t low = 0, high = 0;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0) return false;
  if (!amx_present(d, uint64_t{high} << 32 | low)) return false;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileContents) == 0;
}

#else

bool ask() { return false; }

#endif

}  // namespace

bool amx_present(uint32_t features, uint64_t saved) {
  constexpr uint32_t kFeatures = kAmxBf16 | kAmxTile | kAmxInt8;
  constexpr uint64_t kSaved = uint64_t{1} << kTileShapes | uint64_t{1} << kTileContents;
  return (features & kFeatures) == kFeatures && (saved & kSaved) == kSaved;
}

bool amx_usable() {
  static const bool usable = ask();
  return usable;
}

}  // namespace mome
