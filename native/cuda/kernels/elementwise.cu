// tanh, gelu and add over flat float32 arrays, l2_normalize over rows of either type into float32. They serve heads: a
// few rows.
#include "core/ops/elementwise.h"

#include "cuda/kernels/layer_norm.h"
#include "cuda/kernels/register.h"

namespace mome::cuda {
namespace {

inline constexpr int kThreads = 256;

struct TanhOf {
  MOME_DEVICE float operator()(float x, float) const { return tanhf(x); }
};
struct GeluOf {
  MOME_DEVICE float operator()(float x, float) const { return gelu(x); }
};
struct SumOf {
  MOME_DEVICE float operator()(float a, float b) const { return a + b; }
};

template <typename Function>
MOME_KERNEL(kThreads)
elementwise_forward_f32_cuda(const float* a, const float* b, int64_t count, Function function, float* y) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i < count) y[i] = function(a[i], b[i]);
}

template <typename Function>
Status elementwise(OpContext& context, const float* a, const float* b, int64_t count, float* y) {
  return launch(elementwise_forward_f32_cuda<Function>,
                {static_cast<unsigned>((count + kThreads - 1) / kThreads), 1, 1}, kThreads, 0, context.device.stream, a,
                b, count, Function(), y);
}

Status tanh_forward(const TanhForward& a, OpContext& context) {
  return elementwise<TanhOf>(context, a.x, a.x, a.count, a.y);
}
Status gelu_forward(const GeluForward& a, OpContext& context) {
  return elementwise<GeluOf>(context, a.x, a.x, a.count, a.y);
}
Status add_forward(const AddForward& a, OpContext& context) {
  return elementwise<SumOf>(context, a.a, a.b, a.count, a.y);
}

template <typename T>
MOME_KERNEL(kNormWarps * 32)
l2_normalize_forward_cuda(const T* x, int64_t rows, int64_t width, bool aligned, float* y) {
  const int64_t row = int64_t{blockIdx.x} * kNormWarps + threadIdx.x / kWarp;
  if (row >= rows) return;
  float squares = 0;
  for_lane_runs(width, [&](int64_t column, int count) {
    float values[kRun];
    load_run(x + row * width + column, count, aligned && count == kRun, values);
    for (int i = 0; i < kRun; i++) squares = fmaf(values[i], values[i], squares);
  });
  const float norm = sqrtf(warp_sum(squares));
  for_lane_runs(width, [&](int64_t column, int count) {
    float values[kRun];
    load_run(x + row * width + column, count, aligned && count == kRun, values);
    for (int i = 0; i < kRun; i++) values[i] /= norm;
    store_run(y + row * width + column, count, aligned && count == kRun, values);
  });
}

Status l2_normalize_forward(const L2NormalizeForward& a, OpContext& context) {
  return with_element(context.device, [&](auto element) {
    using T = decltype(element);
    return launch(l2_normalize_forward_cuda<T>, {static_cast<unsigned>((a.rows + kNormWarps - 1) / kNormWarps), 1, 1},
                  kNormWarps * kWarp, 0, context.device.stream, as<T>(a.x), a.rows, a.width,
                  a.width % kRun == 0 && is_aligned({a.x, a.y}), a.y);
  });
}

}  // namespace

void register_elementwise(KernelTable& table) {
  table.add<TanhForward, tanh_forward>(Target::cuda);
  table.add<GeluForward, gelu_forward>(Target::cuda);
  table.add<AddForward, add_forward>(Target::cuda);
  table.add<L2NormalizeForward, l2_normalize_forward>(Target::cuda);
}

}  // namespace mome::cuda
