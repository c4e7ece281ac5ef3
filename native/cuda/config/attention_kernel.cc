#include "cuda/config/attention_kernel.h"

namespace mome::cuda {

Status choose_attention(int capability, bool bfloat16, int64_t head_width, int64_t table_rows,
                        AttentionChoice& choice) {
  const size_t most = most_shared_bytes(capability), bias = bias_column_bytes(table_rows);
  if (bfloat16) {
    for (const int64_t width : kTensorHeadWidths) {
      if (head_width > width) continue;
      choice = {width, tensor_attention_bytes(width) + bias};
      if (choice.shared_bytes <= most) return {};
      break;
    }
  }
  choice = {0, plain_attention_bytes(head_width) + bias};
  if (choice.shared_bytes <= most) return {};
  return error(
      Code::unsupported,
      "attention: expected a head width and a bias table that fit into the %zu bytes of shared memory of compute "
      "capability %d.%d, got width %lld and %lld rows, which need %zu",
      most, capability / 10, capability % 10, static_cast<long long>(head_width), static_cast<long long>(table_rows),
      choice.shared_bytes);
}

}  // namespace mome::cuda
