// Packed weights: [rows, pitch] elements, rows on 16 bytes with zeros behind them, then the sum of each row's elements
// in float32.
#pragma once

#include "core/kernel.h"
#include "cuda/primitives/types.h"

namespace mome::cuda {

template <typename T>
size_t packed_matrix_bytes(int64_t rows, int64_t columns) {
  return static_cast<size_t>(rows * ((columns + kRun - 1) / kRun * kRun)) * sizeof(T);
}

template <typename T>
const float* packed_sums(const void* packed, int64_t rows, int64_t columns) {
  return reinterpret_cast<const float*>(static_cast<const std::byte*>(packed) + packed_matrix_bytes<T>(rows, columns));
}

extern const Packer kPacker;

}  // namespace mome::cuda
