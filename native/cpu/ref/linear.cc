// linear and qkv, which is linear with a bias in three parts.
#include "core/ops/linear.h"

#include "core/ops/qkv.h"
#include "cpu/ref/scalar.h"

namespace mome::ref {
namespace {

Status linear_forward(const LinearForward& a, OpContext& context) {
  context.pool.parallel_for(a.rows, [&](int64_t row, int) {
    map_row(a.x + row * a.weight.columns, a.weight, a.bias, a.y + row * a.weight.rows);
  });
  return {};
}

// dx = dy W, dW += dy^T x, and the column sums of dy.
void map_backward(OpContext& context, int64_t rows, const float* x, const Matrix& weight, const float* dy, float* dx,
                  float* dweight, std::vector<double>& column_sums) {
  if (dx != nullptr) {
    context.pool.parallel_for(rows, [&](int64_t row, int) {
      const std::vector<double> from(dy + row * weight.rows, dy + (row + 1) * weight.rows);
      std::vector<double> to(weight.columns);
      map_row_back(from.data(), weight, to.data());
      for (int64_t k = 0; k < weight.columns; k++) dx[row * weight.columns + k] = static_cast<float>(to[k]);
    });
  }
  context.pool.parallel_for(weight.rows, [&](int64_t j, int) {
    std::vector<double> sum(weight.columns);
    for (int64_t row = 0; row < rows; row++) {
      const double d = dy[row * weight.rows + j];
      column_sums[j] += d;
      for (int64_t k = 0; k < weight.columns; k++) sum[k] += d * x[row * weight.columns + k];
    }
    accumulate(dweight == nullptr ? nullptr : dweight + j * weight.columns, sum);
  });
}

Status linear_backward(const LinearBackward& a, OpContext& context) {
  std::vector<double> sums(a.weight.rows);
  map_backward(context, a.rows, a.x, a.weight, a.dy, a.dx, a.dweight, sums);
  accumulate(a.dbias, sums);
  return {};
}

Status qkv_forward(const QkvForward& a, OpContext& context) {
  std::vector<float> bias(3 * a.width, 0.0f);
  for (int64_t i = 0; i < a.width; i++) {
    bias[i] = a.q_bias[i];
    bias[2 * a.width + i] = a.v_bias[i];
  }
  context.pool.parallel_for(
      a.rows, [&](int64_t row, int) { map_row(a.x + row * a.width, a.weight, bias.data(), a.y + row * 3 * a.width); });
  return {};
}

Status qkv_backward(const QkvBackward& a, OpContext& context) {
  std::vector<double> sums(3 * a.width);
  map_backward(context, a.rows, a.x, a.weight, a.dy, a.dx, a.dweight, sums);
  accumulate(a.dq_bias, {sums.begin(), sums.begin() + a.width});
  accumulate(a.dv_bias, {sums.begin() + 2 * a.width, sums.end()});
  return {};
}

}  // namespace

void register_linear(KernelTable& table) {
  table.add<LinearForward, linear_forward>(Target::ref);
  table.add<LinearBackward, linear_backward>(Target::ref);
  table.add<QkvForward, qkv_forward>(Target::ref);
  table.add<QkvBackward, qkv_backward>(Target::ref);
}

}  // namespace mome::ref
