#include "core/ops/proj_residual.h"

#include "cpu/ref/scalar.h"

namespace mome::ref {
namespace {

double scale_of(const float* scale, int64_t i) { return scale == nullptr ? 1.0 : scale[i]; }

Status forward(const ProjResidualForward& a, OpContext& context) {
  context.pool.parallel_for(a.rows, [&](int64_t row, int) {
    const std::vector<float> from = operand_row(a.a + row * a.width, a.weight);
    for (int64_t j = 0; j < a.width; j++) {
      const double branch = dot(from.data(), a.weight.data + j * a.width, a.width) + a.bias[j];
      const int64_t at = row * a.width + j;
      a.out[at] = static_cast<float>(a.x[at] + scale_of(a.row_scale, row) * scale_of(a.gamma, j) * branch);
    }
  });
  return {};
}

Status backward(const ProjResidualBackward& a, OpContext& context) {
  const int64_t width = a.width;
  context.pool.parallel_for(a.rows, [&](int64_t row, int) {
    std::vector<double> dy(width), da(width);
    for (int64_t j = 0; j < width; j++)
      dy[j] = scale_of(a.row_scale, row) * scale_of(a.gamma, j) * a.dout[row * width + j];
    map_row_back(dy.data(), a.weight, da.data());
    for (int64_t k = 0; k < width; k++) a.da[row * width + k] = static_cast<float>(da[k]);
  });
  context.pool.parallel_for(width, [&](int64_t j, int) {
    std::vector<double> dweight(width);
    double dbias = 0, dgamma = 0;
    for (int64_t row = 0; row < a.rows; row++) {
      const float* from = a.a + row * width;
      const double d = scale_of(a.row_scale, row) * a.dout[row * width + j];
      for (int64_t k = 0; k < width; k++) dweight[k] += d * scale_of(a.gamma, j) * from[k];
      dbias += d * scale_of(a.gamma, j);
      dgamma += d * (dot(from, a.weight.data + j * width, width) + a.bias[j]);
    }
    accumulate(a.dweight == nullptr ? nullptr : a.dweight + j * width, dweight);
    if (a.dbias != nullptr) a.dbias[j] = static_cast<float>(a.dbias[j] + dbias);
    if (a.dgamma != nullptr) a.dgamma[j] = static_cast<float>(a.dgamma[j] + dgamma);
  });
  return {};
}

}  // namespace

void register_proj_residual(KernelTable& table) {
  table.add<ProjResidualForward, forward>(Target::ref);
  table.add<ProjResidualBackward, backward>(Target::ref);
}

}  // namespace mome::ref
