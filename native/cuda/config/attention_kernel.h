// Which kernel attention takes on a device, by the shared memory that a block may have there: plain host code, tested
// without a device.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/status.h"

namespace mome::cuda {

// The most shared memory of a block on a device of this compute capability (10 * major + minor); of capabilities that
// are not known, the least that any from 8.0 on has.
constexpr size_t most_shared_bytes(int capability) {
  switch (capability) {
    case 80:
    case 87: return size_t{163} << 10;
    case 90:
    case 100:
    case 103:
    case 110: return size_t{227} << 10;
    default: return size_t{99} << 10;
  }
}

// The head widths that the kernel on tensor cores is made for; others are filled up to the next.
inline constexpr int64_t kTensorHeadWidths[] = {16, 32, 48, 64, 128};

// Shared memory of the kernel on tensor cores without the table's column: queries, two stages of keys and values, and
// the bias terms of the keys.
constexpr size_t tensor_attention_bytes(int64_t kernel_width) {
  return size_t{5} * 64 * static_cast<size_t>(kernel_width + 8) * 2 + size_t{2} * 4 * 64 * 8;
}
// The same of the plain kernel: queries, sums, keys, values, maxima and totals as float32.
constexpr size_t plain_attention_bytes(int64_t head_width) {
  return sizeof(float) * static_cast<size_t>(2 * 32 * head_width + 32 * (head_width + 1) + 32 * head_width + 2 * 32);
}
// One head's column of the bias table, to whole pieces of 16 bytes.
constexpr size_t bias_column_bytes(int64_t table_rows) {
  return (static_cast<size_t>(table_rows) * sizeof(float) + 15) / 16 * 16;
}

struct AttentionChoice {
  int64_t tensor_width = 0;  // one of kTensorHeadWidths; 0: the plain kernel
  size_t shared_bytes = 0;
};

// For bfloat16 rows the kernel on tensor cores where its shared memory suffices, else the plain one. `table_rows`: of
// the bias table, 0 without one. Fails with Code::unsupported where neither fits.
Status choose_attention(int capability, bool bfloat16, int64_t head_width, int64_t table_rows, AttentionChoice& choice);

}  // namespace mome::cuda
