#include "core/ops/elementwise.h"

#include "cpu/ref/scalar.h"

namespace mome::ref {
namespace {

Status tanh_forward(const TanhForward& a, OpContext&) {
  for (int64_t i = 0; i < a.count; i++) a.y[i] = static_cast<float>(std::tanh(static_cast<double>(a.x[i])));
  return {};
}

Status tanh_backward(const TanhBackward& a, OpContext&) {
  for (int64_t i = 0; i < a.count; i++)
    a.dx[i] = static_cast<float>(a.dy[i] * (1.0 - static_cast<double>(a.y[i]) * a.y[i]));
  return {};
}

Status gelu_forward(const GeluForward& a, OpContext&) {
  for (int64_t i = 0; i < a.count; i++) a.y[i] = static_cast<float>(gelu(a.x[i]));
  return {};
}

Status gelu_backward(const GeluBackward& a, OpContext&) {
  for (int64_t i = 0; i < a.count; i++) a.dx[i] = static_cast<float>(a.dy[i] * gelu_gradient(a.x[i]));
  return {};
}

Status add_forward(const AddForward& a, OpContext&) {
  for (int64_t i = 0; i < a.count; i++) a.y[i] = a.a[i] + a.b[i];
  return {};
}

Status l2_normalize_forward(const L2NormalizeForward& a, OpContext&) {
  for (int64_t row = 0; row < a.rows; row++) {
    const float* x = a.x + row * a.width;
    const double norm = std::sqrt(dot(x, x, a.width));
    for (int64_t i = 0; i < a.width; i++) a.y[row * a.width + i] = static_cast<float>(x[i] / norm);
  }
  return {};
}

Status l2_normalize_backward(const L2NormalizeBackward& a, OpContext&) {
  for (int64_t row = 0; row < a.rows; row++) {
    const float* x = a.x + row * a.width;
    const float* dy = a.dy + row * a.width;
    const double norm = std::sqrt(dot(x, x, a.width));
    const double along = dot(x, dy, a.width) / norm;  // y . dy
    for (int64_t i = 0; i < a.width; i++)
      a.dx[row * a.width + i] = static_cast<float>((dy[i] - x[i] / norm * along) / norm);
  }
  return {};
}

}  // namespace

void register_elementwise(KernelTable& table) {
  table.add<TanhForward, tanh_forward>(Target::ref);
  table.add<TanhBackward, tanh_backward>(Target::ref);
  table.add<GeluForward, gelu_forward>(Target::ref);
  table.add<GeluBackward, gelu_backward>(Target::ref);
  table.add<AddForward, add_forward>(Target::ref);
  table.add<L2NormalizeForward, l2_normalize_forward>(Target::ref);
  table.add<L2NormalizeBackward, l2_normalize_backward>(Target::ref);
}

}  // namespace mome::ref
