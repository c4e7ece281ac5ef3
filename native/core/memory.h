// Aligned float memory that reports failure instead of throwing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <utility>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace mome {

inline constexpr size_t kAlignment = 64;             // one cache line, one AVX-512 vector
inline constexpr size_t kHugePage = size_t{2} << 20;  // pieces this large ask for huge pages

// Owns `bytes` of 64-byte aligned memory; contents undefined after reserve.
class AlignedMemory {
 public:
  AlignedMemory() = default;
  AlignedMemory(AlignedMemory&& other) noexcept : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  AlignedMemory& operator=(AlignedMemory&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  AlignedMemory(const AlignedMemory&) = delete;
  AlignedMemory& operator=(const AlignedMemory&) = delete;
  ~AlignedMemory() { release(); }

  // False, with nothing held, when there is not enough memory.
  [[nodiscard]] bool reserve(size_t bytes) {
    release();
    if (bytes == 0) return true;
    const size_t alignment = bytes >= kHugePage ? kHugePage : kAlignment;
    if (bytes > SIZE_MAX - alignment) return false;
    const size_t rounded = (bytes + alignment - 1) / alignment * alignment;
    data_ = std::aligned_alloc(alignment, rounded);
    if (data_ == nullptr) return false;
    bytes_ = rounded;
#if defined(__linux__)
    if (alignment == kHugePage) madvise(data_, rounded, MADV_HUGEPAGE);
#endif
    return true;
  }
  void release() {
    std::free(data_);
    data_ = nullptr;
    bytes_ = 0;
  }

  size_t bytes() const { return bytes_; }
  std::byte* data() const { return static_cast<std::byte*>(data_); }
  float* floats() const { return static_cast<float*>(data_); }

 private:
  void* data_ = nullptr;
  size_t bytes_ = 0;
};

}  // namespace mome
