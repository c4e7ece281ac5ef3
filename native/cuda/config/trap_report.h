// What a kernel leaves behind when it gives up: one word, written before it traps, in memory that outlives the device's
// context.
//
// Kernels print nothing: a call of printf in a kernel makes its warpgroup products wait for each other, and its
// registers cannot be handed over.
#pragma once

#include <cstdint>
#include <string>

namespace mome::cuda {

enum class Trap : uint32_t {
  none,
  bytes_never_came,    // the full barrier of a stage
  readers_never_left,  // the empty barrier of a stage
  misaligned,          // shared memory does not begin on a multiple of kSharedAlignment
};

inline constexpr int kSharedAlignment = 1024;  // of the 128-byte swizzle: a copy's box must begin there

// Never 0 but for Trap::none. `block`, `stage` and `parity` as the kernel counts them.
constexpr uint64_t trap_word(Trap trap, unsigned block, int stage, int parity) {
  return static_cast<uint64_t>(trap) << 48 | static_cast<uint64_t>(stage & 0xff) << 40 |
         static_cast<uint64_t>(parity & 1) << 32 | block;
}

// The sentence for a word; empty for 0.
std::string describe_trap(uint64_t word);

}  // namespace mome::cuda
