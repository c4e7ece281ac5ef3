#include "core/ops/layer_norm.h"

#include "cpu/ref/scalar.h"

namespace mome::ref {
namespace {

Status forward(const LayerNormForward& a, OpContext& context) {
  context.pool.parallel_for(a.rows, [&](int64_t row, int) {
    const float* x = a.x + row * a.width;
    const Moments m = row_moments(x, a.width, a.eps);
    for (int64_t i = 0; i < a.width; i++) {
      a.y[row * a.width + i] = static_cast<float>((x[i] - m.mean) * m.inverse_deviation * a.gamma[i] + a.beta[i]);
    }
  });
  return {};
}

Status backward(const LayerNormBackward& a, OpContext&) {
  std::vector<double> dgamma(a.width), dbeta(a.width), g(a.width);
  for (int64_t row = 0; row < a.rows; row++) {
    const float* x = a.x + row * a.width;
    const float* dy = a.dy + row * a.width;
    const Moments m = row_moments(x, a.width, a.eps);
    for (int64_t i = 0; i < a.width; i++) {
      g[i] = static_cast<double>(dy[i]) * a.gamma[i];
      dgamma[i] += dy[i] * (x[i] - m.mean) * m.inverse_deviation;
      dbeta[i] += dy[i];
    }
    const std::vector<double> dx = norm_gradient(x, m, g);
    for (int64_t i = 0; i < a.width; i++) {
      float& to = a.dx[row * a.width + i];
      to = static_cast<float>(dx[i] + (a.accumulate_dx ? to : 0.0f));
    }
  }
  accumulate(a.dgamma, dgamma);
  accumulate(a.dbeta, dbeta);
  return {};
}

}  // namespace

void register_layer_norm(KernelTable& table) {
  table.add<LayerNormForward, forward>(Target::ref);
  table.add<LayerNormBackward, backward>(Target::ref);
}

}  // namespace mome::ref
