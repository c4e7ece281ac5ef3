// linear: y = x W^T + bias, y in float32: heads are small, and their results are ranked, so their precision matters.
// Rows of another type than the weight are converted first.
#include "core/ops/linear.h"

#include "cuda/kernels/gemm.h"
#include "cuda/kernels/register.h"

namespace mome::cuda {
namespace {

struct LinearEpilogue {
  enum : bool { kLight = true };
  const float* bias;  // or null
  float* y;
  int64_t columns;
  bool aligned;

  MOME_DEVICE void operator()(int row, int column, int, int count, bool whole, float (&values)[kRun]) const {
    if (bias != nullptr) each_of_run(bias + column, count, whole, [&](int i, float b) { values[i] += b; });
    store_run(y + int64_t{row} * columns + column, count, whole, values);
  }
};

inline constexpr int kThreads = 256;

MOME_KERNEL(kThreads)
round_forward_bf16_cuda(const float* x, int64_t count, bf16* y) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i < count) y[i] = from_float<bf16>(x[i]);
}

size_t workspace(const LinearForward& a, int) {
  return a.weight.type == WeightType::bf16 ? static_cast<size_t>(a.rows * a.weight.columns) * sizeof(bf16) : 0;
}

Status forward(const LinearForward& a, OpContext& context) {
  const Queue& queue = context.device;
  const LinearEpilogue epilogue{a.bias, a.y, a.weight.rows, a.weight.rows % kRun == 0 && is_aligned({a.bias, a.y})};
  if (a.weight.type == WeightType::f32) {
    if (queue.rows != WeightType::f32)
      return error(Code::internal, "linear: expected float32 rows for a float32 weight");
    return gemm(queue, a.x, a.rows, a.weight, epilogue);
  }
  if (queue.rows == WeightType::bf16) return gemm(queue, as<bf16>(a.x), a.rows, a.weight, epilogue);
  bf16* rounded = reinterpret_cast<bf16*>(context.workspace);
  const int64_t count = a.rows * a.weight.columns;
  MOME_RETURN_IF_ERROR(launch(round_forward_bf16_cuda, {static_cast<unsigned>((count + kThreads - 1) / kThreads), 1, 1},
                              kThreads, 0, queue.stream, a.x, count, rounded));
  return gemm(queue, static_cast<const bf16*>(rounded), a.rows, a.weight, epilogue);
}

}  // namespace

void register_linear(KernelTable& table) { table.add<LinearForward, forward, workspace>(Target::cuda); }

}  // namespace mome::cuda
