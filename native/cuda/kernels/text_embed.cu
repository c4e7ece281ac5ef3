// text_embed: out = layer_norm(word[id] + segment (+ position[index])) * gamma + beta, dropped out, + type. One warp
// per row; each of the three passes computes the sum again, from tables that the cache holds.
#include "core/ops/text_embed.h"

#include "core/random.h"
#include "cuda/kernels/layer_norm.h"
#include "cuda/kernels/register.h"

namespace mome::cuda {
namespace {

template <typename T>
MOME_KERNEL(kNormWarps * 32)
text_embed_forward_cuda(MOME_PARAMETER TextEmbedForward a, T* out) {
  const int64_t row = int64_t{blockIdx.x} * kNormWarps + threadIdx.x / kWarp;
  if (row >= a.rows) return;
  const float* word = a.word + a.ids[row] * a.width;
  const float* position = a.position == nullptr ? nullptr : a.position + a.index[row] * a.width;
  const auto value = [&](int64_t column) {
    return word[column] + a.segment[column] + (position == nullptr ? 0.0f : position[column]);
  };

  float sum = 0;
  for (int64_t column = threadIdx.x % kWarp; column < a.width; column += kWarp) sum += value(column);
  const float mean = warp_sum(sum) / static_cast<float>(a.width);
  float squares = 0;
  for (int64_t column = threadIdx.x % kWarp; column < a.width; column += kWarp)
    squares = fmaf(value(column) - mean, value(column) - mean, squares);
  const float scale = 1.0f / sqrtf(warp_sum(squares) / static_cast<float>(a.width) + a.eps);
  for (int64_t column = threadIdx.x % kWarp; column < a.width; column += kWarp) {
    float normed = (value(column) - mean) * scale * a.gamma[column] + a.beta[column];
    if (a.dropout > 0) {
      const bool kept = uniform(a.seed, static_cast<uint64_t>(row), static_cast<uint64_t>(column)) >= a.dropout;
      normed = kept ? normed / (1.0f - a.dropout) : 0;
    }
    out[row * a.width + column] = from_float<T>(normed + a.type[column]);
  }
}

Status forward(const TextEmbedForward& a, OpContext& context) {
  return with_element(context.device, [&](auto element) {
    using T = decltype(element);
    return launch(text_embed_forward_cuda<T>, {static_cast<unsigned>((a.rows + kNormWarps - 1) / kNormWarps), 1, 1},
                  kNormWarps * kWarp, 0, context.device.stream, a, as<T>(a.out));
  });
}

}  // namespace

void register_text_embed(KernelTable& table) { table.add<TextEmbedForward, forward>(Target::cuda); }

}  // namespace mome::cuda
