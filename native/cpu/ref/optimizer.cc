#include "core/ops/optimizer.h"

#include <cmath>

namespace mome::ref {
namespace {

constexpr int64_t kChunk = 65536;  // elements per partial sum, the same on every target

Status squared_norm(const SquaredNormForward& a, OpContext&) {
  double total = 0;
  for (int64_t t = 0; t < a.tensors; t++) {
    for (int64_t first = 0; first < a.tensor[t].count; first += kChunk) {
      double sum = 0;
      for (int64_t i = first; i < first + kChunk && i < a.tensor[t].count; i++) {
        sum += static_cast<double>(a.tensor[t].data[i]) * a.tensor[t].data[i];
      }
      total += sum;
    }
  }
  *a.result = total;
  return {};
}

Status adamw(const AdamwForward& a, OpContext&) {
  const double beta1 = a.beta1, beta2 = a.beta2, step = static_cast<double>(a.step);
  const double correction = std::sqrt(1.0 - std::pow(beta2, step)) / (1.0 - std::pow(beta1, step));
  for (int64_t index = 0; index < a.tensors; index++) {
    const AdamwTensor& t = a.tensor[index];
    const double rate = static_cast<double>(a.learning_rate) * t.learning_rate_scale;
    for (int64_t i = 0; i < t.count; i++) {
      const double g = static_cast<double>(a.gradient_scale) * t.gradient[i];
      const double m = beta1 * t.m[i] + (1.0 - beta1) * g;
      const double v = beta2 * t.v[i] + (1.0 - beta2) * g * g;
      t.m[i] = static_cast<float>(m);
      t.v[i] = static_cast<float>(v);
      const double moved = t.parameter[i] - rate * correction * m / (std::sqrt(v) + a.eps);
      t.parameter[i] = static_cast<float>(moved - rate * t.weight_decay * moved);
    }
  }
  return {};
}

}  // namespace

void register_optimizer(KernelTable& table) {
  table.add<SquaredNormForward, squared_norm>(Target::ref);
  table.add<AdamwForward, adamw>(Target::ref);
}

}  // namespace mome::ref
