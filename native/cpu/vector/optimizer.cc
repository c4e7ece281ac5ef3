// squared_norm and adamw: one pass over each parameter, bound by memory. Work is cut into fixed chunks of 65,536
// elements; norms are summed in double per chunk and then over chunks in order, so nothing depends on the thread count.
#include "core/ops/optimizer.h"
#include "cpu/vector/kernels.h"
#include "cpu/vector/simd.h"

namespace mome::MOME_ISA {
namespace {

inline constexpr int64_t kChunk = 65536;

inline int64_t chunks_of(int64_t count) { return (count + kChunk - 1) / kChunk; }

// Calls body(tensor, first, end, chunk) for every chunk of every tensor.
template <typename Tensor, typename Body>
inline void for_each_chunk(ThreadPool& pool, const Tensor* tensor, int64_t tensors, Body&& body) {
  int64_t total = 0;
  for (int64_t t = 0; t < tensors; t++) total += chunks_of(tensor[t].count);
  pool.parallel_for(total, [&](int64_t chunk, int) {
    int64_t t = 0, before = 0;
    while (chunk - before >= chunks_of(tensor[t].count)) before += chunks_of(tensor[t++].count);
    const int64_t first = (chunk - before) * kChunk;
    body(tensor[t], first, first + kChunk < tensor[t].count ? first + kChunk : tensor[t].count, chunk);
  });
}

inline size_t squared_norm_workspace(const SquaredNormForward& a, int) {
  int64_t total = 0;
  for (int64_t t = 0; t < a.tensors; t++) total += chunks_of(a.tensor[t].count);
  return static_cast<size_t>(total) * sizeof(double);
}

inline Status squared_norm_forward(const SquaredNormForward& a, OpContext& context) {
  double* sums = reinterpret_cast<double*>(context.workspace);
  for_each_chunk(context.pool, a.tensor, a.tensors,
                 [&](const FlatTensor& tensor, int64_t first, int64_t end, int64_t chunk) {
                   double partial[8] = {};
                   int64_t i = first;
                   for (; i + 8 <= end; i += 8) {
                     for (int lane = 0; lane < 8; lane++)
                       partial[lane] += static_cast<double>(tensor.data[i + lane]) * tensor.data[i + lane];
                   }
                   for (; i < end; i++) partial[0] += static_cast<double>(tensor.data[i]) * tensor.data[i];
                   double sum = 0;
                   for (int lane = 0; lane < 8; lane++) sum += partial[lane];
                   sums[chunk] = sum;
                 });
  const size_t total = squared_norm_workspace(a, 0) / sizeof(double);
  double sum = 0;
  for (size_t chunk = 0; chunk < total; chunk++) sum += sums[chunk];
  *a.result = sum;
  return {};
}

inline Status adamw_forward(const AdamwForward& a, OpContext& context) {
  const double step = static_cast<double>(a.step);
  const double correction = __builtin_sqrt(1.0 - __builtin_pow(static_cast<double>(a.beta2), step)) /
                            (1.0 - __builtin_pow(static_cast<double>(a.beta1), step));
  for_each_chunk(context.pool, a.tensor, a.tensors, [&](const AdamwTensor& t, int64_t first, int64_t end, int64_t) {
    const float rate = a.learning_rate * t.learning_rate_scale;
    const Vec size = set1(static_cast<float>(rate * correction));
    const Vec decay = set1(rate * t.weight_decay);
    const Vec beta1 = set1(a.beta1), rest1 = set1(1.0f - a.beta1), beta2 = set1(a.beta2), rest2 = set1(1.0f - a.beta2);
    const Vec eps = set1(a.eps), gradient_scale = set1(a.gradient_scale);
    for (int64_t i = first; i < end; i += kLanes) {
      const int64_t n = end - i < kLanes ? end - i : kLanes;
      const Vec g = load(t.gradient + i, n) * gradient_scale;
      const Vec m = fma(beta1, load(t.m + i, n), rest1 * g);
      const Vec v = fma(beta2, load(t.v + i, n), rest2 * (g * g));
      const Vec moved = fnma(size, m / (sqrt(v) + eps), load(t.parameter + i, n));
      store(t.m + i, m, n);
      store(t.v + i, v, n);
      store(t.parameter + i, fnma(decay, moved, moved), n);
    }
  });
  return {};
}

constexpr Kernel kKernels[] = {
    kernel<SquaredNormForward, squared_norm_forward, squared_norm_workspace>(),
    kernel<AdamwForward, adamw_forward>(),
};

}  // namespace

constinit const KernelList optimizer_kernels = {kKernels, sizeof kKernels / sizeof *kKernels};

}  // namespace mome::MOME_ISA
