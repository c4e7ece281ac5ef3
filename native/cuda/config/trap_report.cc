#include "cuda/config/trap_report.h"

namespace mome::cuda {

std::string describe_trap(uint64_t word) {
  const std::string block = "block " + std::to_string(word & 0xffffffffu);
  const std::string place =
      " (stage " + std::to_string(word >> 40 & 0xff) + ", parity " + std::to_string(word >> 32 & 1) + ")";
  switch (static_cast<Trap>(word >> 48)) {
    case Trap::none: return "";
    case Trap::bytes_never_came: return block + " waited too long for a copy to shared memory" + place;
    case Trap::readers_never_left: return block + " waited too long for the readers of a slice" + place;
    case Trap::misaligned:
      return block + " has shared memory that does not begin on a multiple of " + std::to_string(kSharedAlignment) +
             " bytes";
  }
  return block + " gave up for a reason that is not known";
}

}  // namespace mome::cuda
