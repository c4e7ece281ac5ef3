// Cuts a kernel's workspace into arrays.
#pragma once

#include <cstddef>
#include <cstdint>

namespace mome::MOME_ISA {
namespace {

// Cuts the workspace into 64-byte aligned arrays; without a base it only counts. Arrays that are not needed at the same
// time may share memory: `at(mark)` goes back to an earlier value of `used`.
struct Carver {
  std::byte* base;
  size_t used = 0;
  size_t bytes = 0;  // the most ever used
  template <typename T>
  T* take(int64_t count) {
    std::byte* p = base == nullptr ? nullptr : base + used;
    used += (static_cast<size_t>(count) * sizeof(T) + 63) / 64 * 64;
    if (used > bytes) bytes = used;
    return reinterpret_cast<T*>(p);
  }
  Carver& at(size_t mark) {
    used = mark;
    return *this;
  }
};

}  // namespace
}  // namespace mome::MOME_ISA
