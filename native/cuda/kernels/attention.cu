// attention: softmax(scale * q k^T + bias) v over ragged rows, plain arithmetic in float32: for float32 rows, for heads
// wider than the tensor-core kernel (attention_bf16.cu) takes, and where a device has too little shared memory for that
// one.
//
// A block owns 32 queries of one sequence and head, a warp 8 of them one after the other; keys pass in tiles of 32, one
// per lane. Softmax is online: maximum and sum travel with the tiles, in ascending order of keys.
#include "cuda/kernels/attention.h"

#include "cuda/kernels/register.h"

namespace mome::cuda {
namespace {

inline constexpr int kWarps = 4, kQueries = 32, kKeys = 32;

inline constexpr int kThreads = 256;

template <typename T>
MOME_KERNEL(kThreads)
zero_forward_cuda(T* values, int64_t count) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i < count) values[i] = from_float<T>(0);
}

template <typename T>
MOME_KERNEL(kWarps * 32)
attention_forward_f32_cuda(MOME_PARAMETER AttentionShape a, const T* qkv, T* out) {
  const Sequence s = a.sequences[blockIdx.z];
  const int64_t count = token_count(s), first = int64_t{blockIdx.x} * kQueries, head = blockIdx.y;
  if (first >= count) return;
  const int64_t head_width = a.width / a.heads, stride = 3 * a.width, pitch = head_width + 1;
  const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp;
  float* bias = shared_memory<float>();
  float* queries = bias + (a.table == nullptr ? 0 : (a.position.rows() + 3) / 4 * 4);  // [kQueries, head_width]
  float* sums = queries + kQueries * head_width;                                       // [kQueries, head_width]
  float* keys = sums + kQueries * head_width;                                          // [kKeys, pitch]
  float* values = keys + kKeys * pitch;                                                // [kKeys, head_width]
  float* most = values + kKeys * head_width;  // [kQueries] maximum so far, and sum
  float* total = most + kQueries;
  load_bias(a, head, bias);
  for (int64_t i = threadIdx.x; i < kQueries * head_width; i += kWarps * kWarp) {
    const int64_t query = first + i / head_width;
    queries[i] = query < count ? to_float(qkv[token_row(s, query) * stride + head * head_width + i % head_width]) : 0;
    sums[i] = 0;
  }
  for (int i = static_cast<int>(threadIdx.x); i < kQueries; i += kWarps * kWarp) {
    most[i] = -INFINITY;
    total[i] = 0;
  }
  for (int64_t tile = 0; tile < count; tile += kKeys) {
    block_barrier();
    for (int64_t i = threadIdx.x; i < kKeys * head_width; i += kWarps * kWarp) {
      const int64_t token = tile + i / head_width, d = i % head_width;
      const T* row = qkv + (token < count ? token_row(s, token) * stride + head * head_width + d : 0);
      keys[i / head_width * pitch + d] = token < count ? to_float(row[a.width]) : 0;
      values[i] = token < count ? to_float(row[2 * a.width]) : 0;
    }
    block_barrier();
    const int64_t key = tile + lane;
#pragma unroll 1
    for (int i = 0; i < kQueries / kWarps; i++) {
      const int local = warp * (kQueries / kWarps) + i;
      if (first + local >= count) break;
      float score = -INFINITY;
      if (key < count) {
        score = 0;
        for (int64_t d = 0; d < head_width; d++)
          score = fmaf(queries[local * head_width + d], keys[lane * pitch + d], score);
        score *= a.scale;
        if (a.table != nullptr) {
          const BiasTerm term = bias_term(a.position, s, query_kind(s, first + local), key);
          score += bias[bias_row(query_base(a.position, s, first + local), term)];
        }
      }
      const float highest = fmaxf(most[local], warp_max(score));
      const float p = expf(score - highest), shrink = expf(most[local] - highest);
      const float sum_now = fmaf(total[local], shrink, warp_sum(p));
      warp_barrier();
      if (lane == 0) {
        total[local] = sum_now;
        most[local] = highest;
      }
      for (int64_t base = 0; base < head_width; base += kWarp) {
        const int64_t d = base + lane;
        float sum = d < head_width ? sums[local * head_width + d] * shrink : 0;
        for (int j = 0; j < kKeys; j++) {
          const float weight = shuffle_from(p, j);
          if (d < head_width) sum = fmaf(weight, values[j * head_width + d], sum);
        }
        if (d < head_width) sums[local * head_width + d] = sum;
      }
    }
  }
  warp_barrier();
  for (int i = 0; i < kQueries / kWarps; i++) {
    const int local = warp * (kQueries / kWarps) + i;
    if (first + local >= count) break;
    const int64_t row = token_row(s, first + local);
    for (int64_t d = lane; d < head_width; d += kWarp)
      out[row * a.width + head * head_width + d] = from_float<T>(sums[local * head_width + d] / total[local]);
    if (a.lse != nullptr && lane == 0) a.lse[row * a.heads + head] = most[local] + logf(total[local]);
  }
}

Status forward(const AttentionForward& a, OpContext& context) {
  const Queue& queue = context.device;
  const int64_t head_width = a.width / a.heads;
  const AttentionShape shape{a.width,        a.heads,    a.sequences, a.table, a.table_columns,
                             a.table_column, a.position, a.scale,     a.lse};
  return with_element(queue, [&](auto element) -> Status {
    using T = decltype(element);
    if (!a.covers_rows) {
      const int64_t count = a.rows * a.width;
      MOME_RETURN_IF_ERROR(launch(zero_forward_cuda<T>,
                                  {static_cast<unsigned>((count + kThreads - 1) / kThreads), 1, 1}, kThreads, 0,
                                  queue.stream, as<T>(a.out), count));
    }
    AttentionChoice choice;
    MOME_RETURN_IF_ERROR(choose_attention(queue.capability, kWeightType<T> == WeightType::bf16, head_width,
                                          a.table == nullptr ? 0 : a.position.rows(), choice));
    if (choice.tensor_width != 0) return attention_bf16(a, shape, choice, queue);
    const Dim3 grid = {static_cast<unsigned>((a.longest + kQueries - 1) / kQueries), static_cast<unsigned>(a.heads),
                       static_cast<unsigned>(a.sequence_count)};
    return launch(attention_forward_f32_cuda<T>, grid, kWarps * kWarp, choice.shared_bytes, queue.stream, shape,
                  as<T>(a.qkv), as<T>(a.out));
  });
}

}  // namespace

void register_attention(KernelTable& table) { table.add<AttentionForward, forward>(Target::cuda); }

}  // namespace mome::cuda
