// The weight gradient shared by the two residual branches, out = x + row_scale * gamma * (h W^T + bias).
//
// With t = row_scale * dout, G = t^T h [outputs, inputs] and s = column sums of t:
//   dW_j += gamma_j G_j,  dbias_j += gamma_j s_j,  dgamma_j += sum_k W[j, k] G[j, k] + bias_j s_j,
// so the branch's output before the scale need not be kept. sum_k runs over panels in the epilogue (a fixed tree inside
// a panel) and over the panels' sums in ascending order.
#pragma once

#include "cpu/vector/gemm.h"

namespace mome::MOME_ISA {
namespace {

struct BranchGradient {
  Matrix weight;  // [outputs, inputs]; `data` is read when dgamma is wanted
  const float* bias;
  const float* gamma;  // [outputs] or null = 1
  float* dweight;      // each += or null
  float* dbias;
  float* dgamma;
  bool wanted() const { return dweight != nullptr || dbias != nullptr || dgamma != nullptr; }
  // The product itself can be left out when only the column sums matter.
  int64_t product_columns() const { return dweight == nullptr && dgamma == nullptr ? 0 : weight.columns; }
};

struct BranchWorkspace {
  OverRowsWorkspace product;
  float* sums;     // [outputs] s
  float* partial;  // [outputs, panels] sums of W * G inside a panel
  BranchWorkspace(Carver& carver, int64_t rows, int64_t outputs, int64_t inputs, int threads)
      : product(carver, rows, outputs, inputs, threads),
        sums(carver.take<float>(outputs)),
        partial(carver.take<float>(outputs * panels_of(inputs))) {}
};

struct BranchEpilogue {
  const BranchGradient& gradient;
  float* partial;
  int64_t panels;
  void operator()(int64_t row, int64_t rows, int64_t column, int64_t columns, const float* tile) const {
    const int64_t stride = gradient.weight.columns;
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t output = row + r;
      const Vec scale = set1(gradient.gamma == nullptr ? 1.0f : gradient.gamma[output]);
      Vec dot = zero();
      for (int64_t c = 0; c < columns; c += kLanes) {
        const int64_t count = smaller(kLanes, columns - c);
        const int64_t at = output * stride + column + c;
        const Vec value = load(tile + r * kPanel + c);
        if (gradient.dgamma != nullptr) dot = fma(load_part(gradient.weight.data + at, count), value, dot);
        if (gradient.dweight != nullptr) {
          store_part(gradient.dweight + at, load_part(gradient.dweight + at, count) + scale * value, count);
        }
      }
      if (gradient.dgamma != nullptr) partial[output * panels + column / kPanel] += reduce_add(dot);
    }
  }
};

// Adds the gradients of the rows [begin, begin + rows): `h` gives rows of h, dout is [.., outputs].
template <typename Source>
void branch_weight_gradient(ThreadPool& pool, int64_t begin, int64_t rows, const float* dout, const float* row_scale,
                            const Source& h, const BranchGradient& gradient, const BranchWorkspace& workspace) {
  if (!gradient.wanted() || rows == 0) return;
  const int64_t outputs = gradient.weight.rows, panels = panels_of(gradient.weight.columns);
  for (int64_t j = 0; j < outputs; ++j) workspace.sums[j] = 0;
  for (int64_t j = 0; j < outputs * panels; ++j) workspace.partial[j] = 0;
  gemm_over_rows(pool, gradient.weight.type, begin, rows, outputs, gradient.product_columns(),
                 ScaledSource{dout, outputs, row_scale, nullptr}, h, workspace.sums, workspace.product,
                 BranchEpilogue{gradient, workspace.partial, panels});
  for (int64_t j = 0; j < outputs; ++j) {
    const float scale = gradient.gamma == nullptr ? 1.0f : gradient.gamma[j];
    if (gradient.dbias != nullptr) gradient.dbias[j] += scale * workspace.sums[j];
    if (gradient.dgamma == nullptr) continue;
    float dot = 0;
    for (int64_t p = 0; p < panels; ++p) dot += workspace.partial[j * panels + p];
    gradient.dgamma[j] += dot + gradient.bias[j] * workspace.sums[j];
  }
}

}  // namespace
}  // namespace mome::MOME_ISA
