// tanh, gelu, add over flat arrays and l2_normalize over rows: one pass each, bound by memory.
#include "core/ops/elementwise.h"
#include "cpu/vector/kernels.h"
#include "cpu/vector/math.h"

namespace mome::MOME_ISA {
namespace {

inline constexpr int64_t kElementsPerItem = 16384;
inline constexpr int64_t kNormRowsPerItem = 64;

// Calls body(offset, n) for vectors of n <= kLanes elements covering [0, count).
template <typename Body>
inline void for_each_vector(ThreadPool& pool, int64_t count, Body&& body) {
  pool.parallel_for((count + kElementsPerItem - 1) / kElementsPerItem, [&](int64_t item, int) {
    const int64_t end = (item + 1) * kElementsPerItem < count ? (item + 1) * kElementsPerItem : count;
    for (int64_t i = item * kElementsPerItem; i < end; i += kLanes) body(i, end - i < kLanes ? end - i : kLanes);
  });
}

inline Status tanh_forward(const TanhForward& a, OpContext& context) {
  for_each_vector(context.pool, a.count, [&](int64_t i, int64_t n) { store(a.y + i, tanh(load(a.x + i, n)), n); });
  return {};
}

inline Status tanh_backward(const TanhBackward& a, OpContext& context) {
  for_each_vector(context.pool, a.count, [&](int64_t i, int64_t n) {
    const Vec y = load(a.y + i, n);
    store(a.dx + i, load(a.dy + i, n) * fnma(y, y, set1(1.0f)), n);
  });
  return {};
}

inline Status gelu_forward(const GeluForward& a, OpContext& context) {
  for_each_vector(context.pool, a.count, [&](int64_t i, int64_t n) { store(a.y + i, gelu(load(a.x + i, n)), n); });
  return {};
}

inline Status gelu_backward(const GeluBackward& a, OpContext& context) {
  for_each_vector(context.pool, a.count, [&](int64_t i, int64_t n) {
    store(a.dx + i, load(a.dy + i, n) * gelu_gradient(load(a.x + i, n)), n);
  });
  return {};
}

inline Status add_forward(const AddForward& a, OpContext& context) {
  for_each_vector(context.pool, a.count,
                  [&](int64_t i, int64_t n) { store(a.y + i, load(a.a + i, n) + load(a.b + i, n), n); });
  return {};
}

inline float dot(const float* a, const float* b, int64_t width) {
  Vec sum = zero();
  for (int64_t i = 0; i < width; i += kLanes) {
    const int64_t n = width - i < kLanes ? width - i : kLanes;
    sum = fma(load(a + i, n), load(b + i, n), sum);
  }
  return reduce_add(sum);
}

// 1 / ||x||; in double for rows whose squares leave float32's range.
inline float inverse_norm(const float* x, int64_t width) {
  const float squares = dot(x, x, width);
  if (squares > 1e-30f && squares < 1e30f) return 1.0f / __builtin_sqrtf(squares);
  double wide = 0;
  for (int64_t i = 0; i < width; i++) wide += static_cast<double>(x[i]) * x[i];
  return static_cast<float>(1.0 / __builtin_sqrt(wide));
}

inline Status l2_normalize_forward(const L2NormalizeForward& a, OpContext& context) {
  context.pool.parallel_for((a.rows + kNormRowsPerItem - 1) / kNormRowsPerItem, [&](int64_t item, int) {
    for (int64_t row = item * kNormRowsPerItem; row < a.rows && row < (item + 1) * kNormRowsPerItem; row++) {
      const float* x = a.x + row * a.width;
      float* y = a.y + row * a.width;
      const Vec scale = set1(inverse_norm(x, a.width));
      for (int64_t i = 0; i < a.width; i += kLanes) {
        const int64_t n = a.width - i < kLanes ? a.width - i : kLanes;
        store(y + i, load(x + i, n) * scale, n);
      }
    }
  });
  return {};
}

inline Status l2_normalize_backward(const L2NormalizeBackward& a, OpContext& context) {
  context.pool.parallel_for((a.rows + kNormRowsPerItem - 1) / kNormRowsPerItem, [&](int64_t item, int) {
    for (int64_t row = item * kNormRowsPerItem; row < a.rows && row < (item + 1) * kNormRowsPerItem; row++) {
      const float* x = a.x + row * a.width;
      const float* dy = a.dy + row * a.width;
      float* dx = a.dx + row * a.width;
      const float inverse = inverse_norm(x, a.width);
      const Vec scale = set1(inverse);
      const Vec along = set1(dot(x, dy, a.width) * inverse);  // y . dy
      for (int64_t i = 0; i < a.width; i += kLanes) {
        const int64_t n = a.width - i < kLanes ? a.width - i : kLanes;
        store(dx + i, fnma(load(x + i, n) * scale, along, load(dy + i, n)) * scale, n);
      }
    }
  });
  return {};
}

constexpr Kernel kKernels[] = {
    kernel<TanhForward, tanh_forward>(),
    kernel<TanhBackward, tanh_backward>(),
    kernel<GeluForward, gelu_forward>(),
    kernel<GeluBackward, gelu_backward>(),
    kernel<AddForward, add_forward>(),
    kernel<L2NormalizeForward, l2_normalize_forward>(),
    kernel<L2NormalizeBackward, l2_normalize_backward>(),
};

}  // namespace

constinit const KernelList elementwise_kernels = {kKernels, sizeof kKernels / sizeof *kKernels};

}  // namespace mome::MOME_ISA
