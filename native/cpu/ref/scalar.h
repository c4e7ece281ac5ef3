// Plain readings of the formulas every reference kernel shares. Everything is summed in double and rounded once.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "core/matrix.h"
#include "core/quantise.h"

namespace mome::ref {

// Four sums side by side: a full-size model is checked in minutes, not hours.
inline double dot(const float* a, const float* b, int64_t count) {
  double sum[4] = {};
  int64_t i = 0;
  for (; i + 4 <= count; i += 4) {
    for (int lane = 0; lane < 4; lane++) sum[lane] += static_cast<double>(a[i + lane]) * b[i + lane];
  }
  for (; i < count; i++) sum[0] += static_cast<double>(a[i]) * b[i];
  return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

inline double normal_cdf(double x) { return 0.5 * std::erfc(-x * 0.70710678118654752440); }
inline double gelu(double x) { return x * normal_cdf(x); }
inline double gelu_gradient(double x) { return normal_cdf(x) + x * 0.39894228040143267794 * std::exp(-0.5 * x * x); }

struct Moments {
  double mean, inverse_deviation;
};
inline Moments row_moments(const float* x, int64_t width, double eps) {
  double mean = 0, variance = 0;
  for (int64_t i = 0; i < width; i++) mean += x[i];
  mean /= static_cast<double>(width);
  for (int64_t i = 0; i < width; i++) variance += (x[i] - mean) * (x[i] - mean);
  return {mean, 1.0 / std::sqrt(variance / static_cast<double>(width) + eps)};
}

// dx of one layer-normed row from g = dy * gamma, in double.
inline std::vector<double> norm_gradient(const float* x, Moments m, const std::vector<double>& g) {
  const int64_t width = static_cast<int64_t>(g.size());
  double mean_g = 0, mean_gx = 0;
  for (int64_t i = 0; i < width; i++) {
    mean_g += g[i];
    mean_gx += g[i] * (x[i] - m.mean) * m.inverse_deviation;
  }
  mean_g /= static_cast<double>(width);
  mean_gx /= static_cast<double>(width);
  std::vector<double> dx(width);
  for (int64_t i = 0; i < width; i++) {
    dx[i] = m.inverse_deviation * (g[i] - mean_g - (x[i] - m.mean) * m.inverse_deviation * mean_gx);
  }
  return dx;
}

// to[i] += float(sum[i]); null = not wanted.
inline void accumulate(float* to, const std::vector<double>& sum) {
  if (to == nullptr) return;
  for (size_t i = 0; i < sum.size(); i++) to[i] = static_cast<float>(to[i] + sum[i]);
}

// An activation row as a product with `weight` sees it: quantised where the weight has 8 bits, one scale per `block`
// columns; rounded to bfloat16 where the target does that.
inline std::vector<float> operand_row(const float* x, const Matrix& weight, int64_t block = INT64_MAX) {
  std::vector<float> row(x, x + weight.columns);
  if (weight.type == WeightType::i8) quantise_activation_row(x, weight.columns, block, row.data());
  if (weight.rounds_rows) round_to_bf16(x, weight.columns, row.data());
  return row;
}

// y = x W^T (+ bias) for one row.
inline void map_row(const float* input, const Matrix& weight, const float* bias, float* y, int64_t block = INT64_MAX) {
  const std::vector<float> x = operand_row(input, weight, block);
  for (int64_t j = 0; j < weight.rows; j++) {
    y[j] = static_cast<float>(dot(x.data(), weight.data + j * weight.columns, weight.columns) +
                              (bias == nullptr ? 0.0 : bias[j]));
  }
}

// dx = dy W for one row.
inline void map_row_back(const double* dy, const Matrix& weight, double* dx) {
  for (int64_t k = 0; k < weight.columns; k++) dx[k] = 0;
  for (int64_t j = 0; j < weight.rows; j++) {
    for (int64_t k = 0; k < weight.columns; k++) dx[k] += dy[j] * weight.data[j * weight.columns + k];
  }
}

}  // namespace mome::ref
