// gather_rows: y[i] = x[index[i]]. One warp per row.
#include "core/ops/gather_rows.h"

#include "cuda/kernels/register.h"
#include "cuda/primitives/queue.h"

namespace mome::cuda {
namespace {

inline constexpr int kWarps = 4;

template <typename T>
MOME_KERNEL(kWarps * 32)
gather_rows_forward_cuda(const T* x, int64_t width, const int32_t* index, int64_t count, T* y) {
  const int64_t i = int64_t{blockIdx.x} * kWarps + threadIdx.x / kWarp;
  if (i >= count) return;
  const T* from = x + index[i] * width;
  for (int64_t column = threadIdx.x % kWarp; column < width; column += kWarp) y[i * width + column] = from[column];
}

Status forward(const GatherRowsForward& a, OpContext& context) {
  return with_element(context.device, [&](auto element) {
    using T = decltype(element);
    return launch(gather_rows_forward_cuda<T>, {static_cast<unsigned>((a.count + kWarps - 1) / kWarps), 1, 1},
                  kWarps * kWarp, 0, context.device.stream, as<T>(a.x), a.width, a.index, a.count, as<T>(a.y));
  });
}

}  // namespace

void register_gather_rows(KernelTable& table) { table.add<GatherRowsForward, forward>(Target::cuda); }

}  // namespace mome::cuda
