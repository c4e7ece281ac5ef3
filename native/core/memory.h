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

inline constexpr size_t kAlignment = 64;              // one cache line, one AVX-512 vector
inline constexpr size_t kHugePage = size_t{2} << 20;  // pieces this large ask for huge pages

// Owns `bytes` of 64-byte aligned memory; contents undefined after reserve.
class AlignedMemory {
 public:
  AlignedMemory() = default;
  AlignedMemory(AlignedMemory&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
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
    if (bytes > SIZE_MAX - 2 * kHugePage) return false;
    if (bytes >= kHugePage) return reserve_pages(bytes);
    const size_t rounded = (bytes + kAlignment - 1) / kAlignment * kAlignment;
    data_ = std::aligned_alloc(kAlignment, rounded);
    if (data_ != nullptr) bytes_ = rounded;
    return data_ != nullptr;
  }
  void release() {
#if defined(__linux__)
    if (bytes_ >= kHugePage)
      munmap(data_, bytes_);
    else
      std::free(data_);
#else
    std::free(data_);
#endif
    data_ = nullptr;
    bytes_ = 0;
  }

  size_t bytes() const { return bytes_; }
  std::byte* data() const { return static_cast<std::byte*>(data_); }
  float* floats() const { return static_cast<float*>(data_); }

 private:
  // Large pieces are mapped by themselves: they begin on a huge page, end on a small one, and go back to the system
  // when released.
  bool reserve_pages(size_t bytes) {
#if defined(__linux__)
    constexpr size_t kPage = 4096;
    const size_t rounded = (bytes + kPage - 1) / kPage * kPage;
    void* mapped = mmap(nullptr, rounded + kHugePage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED) return false;
    const size_t before = (kHugePage - reinterpret_cast<uintptr_t>(mapped) % kHugePage) % kHugePage;
    std::byte* begin = static_cast<std::byte*>(mapped) + before;
    if (before > 0) munmap(mapped, before);
    if (before < kHugePage) munmap(begin + rounded, kHugePage - before);
    madvise(begin, rounded, MADV_HUGEPAGE);
#else
    const size_t rounded = (bytes + kHugePage - 1) / kHugePage * kHugePage;
    void* begin = std::aligned_alloc(kHugePage, rounded);
    if (begin == nullptr) return false;
#endif
    data_ = begin;
    bytes_ = rounded;
    return true;
  }

  void* data_ = nullptr;
  size_t bytes_ = 0;
};

}  // namespace mome
