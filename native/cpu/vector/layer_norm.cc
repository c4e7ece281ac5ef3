// layer_norm: two passes over a row for mean and centred variance, a third to write. About 8 FLOPs and 8 bytes per
// element: bound by memory. Row sums are kept in kLanes float lanes and folded once, so a row's result depends on
// nothing but the row.
#include <cstring>

#include "core/ops/layer_norm.h"
#include "cpu/vector/kernels.h"
#include "cpu/vector/moments.h"
#include "cpu/vector/row_parts.h"

namespace mome::MOME_ISA {
namespace {

inline Status layer_norm_forward(const LayerNormForward& a, OpContext& context) {
  context.pool.parallel_for((a.rows + kRowsPerItem - 1) / kRowsPerItem, [&](int64_t item, int) {
    const int64_t end = item * kRowsPerItem + kRowsPerItem < a.rows ? item * kRowsPerItem + kRowsPerItem : a.rows;
    for (int64_t row = item * kRowsPerItem; row < end; row++) {
      const float* x = a.x + row * a.width;
      float* y = a.y + row * a.width;
      const Moments m = row_moments(x, a.width, a.eps);
      for (int64_t i = 0; i < a.width; i += kLanes) {
        const int64_t n = a.width - i < kLanes ? a.width - i : kLanes;
        const Vec normed = (load(x + i, n) - set1(m.mean)) * set1(m.inverse_deviation);
        store(y + i, fma(normed, load(a.gamma + i, n), load(a.beta + i, n)), n);
      }
    }
  });
  return {};
}

// With xh = (x - mean) rstd and g = dy gamma:  dx = rstd (g - mean(g) - xh mean(g xh)),  dgamma = sum dy xh,  dbeta =
// sum dy.
inline size_t layer_norm_backward_workspace(const LayerNormBackward& a, int) {
  return static_cast<size_t>(row_partials(a.rows) * 2 * a.width) * sizeof(float);
}

inline Status layer_norm_backward(const LayerNormBackward& a, OpContext& context) {
  const int64_t partials = row_partials(a.rows);
  float* sums = reinterpret_cast<float*>(context.workspace);
  context.pool.parallel_for(partials, [&](int64_t part, int) {
    float* dgamma = sums + part * 2 * a.width;
    float* dbeta = dgamma + a.width;
    std::memset(dgamma, 0, static_cast<size_t>(2 * a.width) * sizeof(float));
    for (int64_t row = a.rows * part / partials; row < a.rows * (part + 1) / partials; row++) {
      const float* x = a.x + row * a.width;
      const float* dy = a.dy + row * a.width;
      float* dx = a.dx + row * a.width;
      const Moments m = row_moments(x, a.width, a.eps);
      Vec sum_g = zero(), sum_gx = zero();
      for (int64_t i = 0; i < a.width; i += kLanes) {
        const int64_t n = a.width - i < kLanes ? a.width - i : kLanes;
        // Lanes past the end hold -mean rstd, but their dy is 0.
        const Vec xh = (load(x + i, n) - set1(m.mean)) * set1(m.inverse_deviation);
        const Vec d = load(dy + i, n);
        const Vec g = d * load(a.gamma + i, n);
        sum_g = sum_g + g;
        sum_gx = fma(g, xh, sum_gx);
        store(dgamma + i, fma(d, xh, load(dgamma + i, n)), n);
        store(dbeta + i, load(dbeta + i, n) + d, n);
      }
      const float mean_g = reduce_add(sum_g) / static_cast<float>(a.width);
      const float mean_gx = reduce_add(sum_gx) / static_cast<float>(a.width);
      for (int64_t i = 0; i < a.width; i += kLanes) {
        const int64_t n = a.width - i < kLanes ? a.width - i : kLanes;
        const Vec xh = (load(x + i, n) - set1(m.mean)) * set1(m.inverse_deviation);
        const Vec g = load(dy + i, n) * load(a.gamma + i, n);
        Vec result = fnma(xh, set1(mean_gx), g - set1(mean_g)) * set1(m.inverse_deviation);
        if (a.accumulate_dx) result = result + load(dx + i, n);
        store(dx + i, result, n);
      }
    }
  });
  for (int64_t part = 0; part < partials; part++) {
    const float* dgamma = sums + part * 2 * a.width;
    for (int64_t i = 0; i < a.width; i += kLanes) {
      const int64_t n = a.width - i < kLanes ? a.width - i : kLanes;
      if (a.dgamma) store(a.dgamma + i, load(a.dgamma + i, n) + load(dgamma + i, n), n);
      if (a.dbeta) store(a.dbeta + i, load(a.dbeta + i, n) + load(dgamma + a.width + i, n), n);
    }
  }
  return {};
}

constexpr Kernel kKernels[] = {
    kernel<LayerNormForward, layer_norm_forward>(),
    kernel<LayerNormBackward, layer_norm_backward, layer_norm_backward_workspace>(),
};

}  // namespace

constinit const KernelList layer_norm_kernels = {kKernels, sizeof kKernels / sizeof *kKernels};

}  // namespace mome::MOME_ISA
