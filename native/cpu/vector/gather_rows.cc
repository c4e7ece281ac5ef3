// gather_rows: bound by memory. Backward adds rows in ascending order of i; each item owns a range of columns.
#include <cstring>

#include "core/ops/gather_rows.h"
#include "cpu/vector/kernels.h"
#include "cpu/vector/simd.h"

namespace mome::MOME_ISA {
namespace {

inline constexpr int64_t kGatherRowsPerItem = 64;

inline Status gather_rows_forward(const GatherRowsForward& a, OpContext& context) {
  context.pool.parallel_for((a.count + kGatherRowsPerItem - 1) / kGatherRowsPerItem, [&](int64_t item, int) {
    for (int64_t i = item * kGatherRowsPerItem; i < a.count && i < (item + 1) * kGatherRowsPerItem; i++) {
      std::memcpy(a.y + i * a.width, a.x + int64_t{a.index[i]} * a.width, static_cast<size_t>(a.width) * sizeof(float));
    }
  });
  return {};
}

inline Status gather_rows_backward(const GatherRowsBackward& a, OpContext& context) {
  constexpr int64_t kColumns = 4 * kLanes;
  context.pool.parallel_for((a.width + kColumns - 1) / kColumns, [&](int64_t item, int) {
    const int64_t first = item * kColumns;
    const int64_t count = a.width - first < kColumns ? a.width - first : kColumns;
    if (!a.accumulate_dx) {
      for (int64_t row = 0; row < a.rows; row++)
        std::memset(a.dx + row * a.width + first, 0, static_cast<size_t>(count) * sizeof(float));
    }
    for (int64_t i = 0; i < a.count; i++) {
      float* to = a.dx + int64_t{a.index[i]} * a.width + first;
      const float* from = a.dy + i * a.width + first;
      for (int64_t c = 0; c < count; c += kLanes) {
        const int64_t n = count - c < kLanes ? count - c : kLanes;
        store(to + c, load(to + c, n) + load(from + c, n), n);
      }
    }
  });
  return {};
}

constexpr Kernel kKernels[] = {
    kernel<GatherRowsForward, gather_rows_forward>(),
    kernel<GatherRowsBackward, gather_rows_backward>(),
};

}  // namespace

constinit const KernelList gather_rows_kernels = {kKernels, sizeof kKernels / sizeof *kKernels};

}  // namespace mome::MOME_ISA
