// qkv: y = x W^T + [q_bias, 0, v_bias].
#include "core/ops/qkv.h"

#include "cuda/kernels/gemm.h"
#include "cuda/kernels/register.h"

namespace mome::cuda {
namespace {

template <typename T>
struct QkvEpilogue {
  enum : bool { kLight = true };
  const float* q_bias;
  const float* v_bias;
  T* y;
  int64_t width;
  bool aligned;

  MOME_DEVICE void operator()(int row, int column, int, int count, bool whole, float (&values)[kRun]) const {
    if (whole) {  // the width is a multiple of kRun: the columns are all queries, keys or values
      const float* bias = column < width       ? q_bias + column
                          : column < 2 * width ? nullptr
                                               : v_bias + (column - 2 * width);
      if (bias != nullptr) each_of_run(bias, kRun, true, [&](int i, float b) { values[i] += b; });
    }
#pragma unroll
    for (int i = 0; i < kRun && !whole; i++) {
      const int64_t c = column + i;
      if (c < width)
        values[i] += q_bias[c];
      else if (c >= 2 * width && c < 3 * width)
        values[i] += v_bias[c - 2 * width];
    }
    store_run(y + int64_t{row} * 3 * width + column, count, whole, values);
  }
};

Status forward(const QkvForward& a, OpContext& context) {
  return with_element(context.device, [&](auto element) {
    using T = decltype(element);
    const QkvEpilogue<T> epilogue{a.q_bias, a.v_bias, as<T>(a.y), a.width,
                                  a.width % kRun == 0 && is_aligned({a.q_bias, a.v_bias, a.y})};
    return gemm(context.device, as<T>(a.x), a.rows, a.weight, epilogue);
  });
}

}  // namespace

void register_qkv(KernelTable& table) { table.add<QkvForward, forward>(Target::cuda); }

}  // namespace mome::cuda
