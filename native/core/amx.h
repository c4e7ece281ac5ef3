// Whether this process may use the tile registers of AMX: the processor has the instructions, the system saves the
// registers, and it has permitted this process to use them, which each must ask for.
#pragma once

#include <cstdint>

namespace mome {

// Whether the processor multiplies bfloat16 and bytes in tile registers that the system saves. `features`: edx of cpuid
// leaf 7; `saved`: the register XCR0, which says what the system saves.
bool amx_present(uint32_t features, uint64_t saved);

// The same of this processor, and that the system permits it. The permission is asked for once, at the first call, and
// holds for all threads of the process. Any thread may ask.
bool amx_usable();

}  // namespace mome
