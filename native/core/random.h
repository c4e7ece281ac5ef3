// Counter-based random numbers: the same (seed, row, column) gives the same number on every target and device. The
// functions are always inlined: files compiled for one instruction set must not lend their copy to others.
#pragma once

#include <cstdint>

namespace mome {

[[gnu::always_inline]] constexpr uint64_t mix(uint64_t x) {  // splitmix64's finaliser
  x ^= x >> 30;
  x *= 0xbf58476d1ce4e5b9ull;
  x ^= x >> 27;
  x *= 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}

// Uniform in [0, 1), 24 bits.
[[gnu::always_inline]] constexpr float uniform(uint64_t seed, uint64_t row, uint64_t column) {
  return static_cast<float>(mix(mix(seed + 0x9e3779b97f4a7c15ull * (row + 1)) + column) >> 40) * 0x1p-24f;
}

}  // namespace mome
