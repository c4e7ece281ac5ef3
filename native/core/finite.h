// Looks for values that are not finite in the bytes of a file.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace mome {

// The first of `count` elements whose exponent bits are all ones, which stand for NaN and the infinities; -1 where
// there is none. `Bits` is the unsigned integer of an element's size. The elements need not be aligned.
template <typename Bits>
int64_t first_non_finite(const std::byte* bytes, int64_t count, Bits exponent) {
  constexpr int64_t kBlock = 1024;
  Bits block[kBlock];
  for (int64_t first = 0; first < count; first += kBlock) {
    const int64_t part = std::min(kBlock, count - first);
    std::memcpy(block, bytes + static_cast<size_t>(first) * sizeof(Bits), static_cast<size_t>(part) * sizeof(Bits));
    Bits found = 0;
    for (int64_t i = 0; i < part; i++) found = static_cast<Bits>(found | ((block[i] & exponent) == exponent));
    if (found == 0) continue;
    for (int64_t i = 0; i < part; i++) {
      if ((block[i] & exponent) == exponent) return first + i;
    }
  }
  return -1;
}

}  // namespace mome
