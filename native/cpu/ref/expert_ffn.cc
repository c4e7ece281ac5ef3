#include "core/ops/expert_ffn.h"

#include "cpu/ref/scalar.h"

namespace mome::ref {
namespace {

double scale_of(const float* scale, int64_t i) { return scale == nullptr ? 1.0 : scale[i]; }

std::vector<float> normed_row(const float* x, const ExpertForward& e, int64_t width, float eps) {
  const Moments m = row_moments(x, width, eps);
  std::vector<float> y(width);
  for (int64_t i = 0; i < width; i++)
    y[i] = static_cast<float>((x[i] - m.mean) * m.inverse_deviation * e.norm_gamma[i] + e.norm_beta[i]);
  return y;
}

Status forward(const ExpertFfnForward& a, OpContext& context) {
  for (int index = 0; index < a.experts; index++) {
    const ExpertForward& e = a.expert[index];
    context.pool.parallel_for(e.end - e.begin, [&](int64_t i, int) {
      const int64_t row = e.begin + i;
      std::vector<float> hidden(a.hidden), out(a.width);
      map_row(normed_row(a.x + row * a.width, e, a.width, a.eps).data(), e.fc1, e.fc1_bias, hidden.data());
      for (int64_t h = 0; h < a.hidden; h++) {
        if (a.pre_activation != nullptr) a.pre_activation[row * a.hidden + h] = hidden[h];
        hidden[h] = static_cast<float>(gelu(hidden[h]));
      }
      map_row(hidden.data(), e.fc2, e.fc2_bias, out.data(), kQuantBlock);
      for (int64_t j = 0; j < a.width; j++) {
        const int64_t at = row * a.width + j;
        a.out[at] = static_cast<float>(a.x[at] + scale_of(a.row_scale, row) * scale_of(a.gamma, j) * out[j]);
      }
    });
  }
  return {};
}

// Gradients of one expert's rows; du and dn are kept for all its rows so that the sums can be taken per weight row.
void expert_backward(const ExpertFfnBackward& a, int index, OpContext& context) {
  const ExpertForward& e = a.expert[index];
  const ExpertGradient& gradient = a.gradient[index];
  const int64_t rows = e.end - e.begin, width = a.width, hidden = a.hidden;
  std::vector<double> t(rows * width), du(rows * hidden), dn(rows * width);
  std::vector<float> normed(rows * width), activation(rows * hidden);
  context.pool.parallel_for(rows, [&](int64_t i, int) {
    const int64_t row = e.begin + i;
    const std::vector<float> n = normed_row(a.x + row * width, e, width, a.eps);
    std::copy(n.begin(), n.end(), normed.begin() + i * width);
    std::vector<double> dy(width);
    for (int64_t j = 0; j < width; j++) {
      t[i * width + j] = scale_of(a.row_scale, row) * a.dout[row * width + j];
      dy[j] = scale_of(a.gamma, j) * t[i * width + j];
    }
    map_row_back(dy.data(), e.fc2, du.data() + i * hidden);
    for (int64_t h = 0; h < hidden; h++) {
      const double u = a.pre_activation[row * hidden + h];
      activation[i * hidden + h] = static_cast<float>(gelu(u));
      du[i * hidden + h] *= gelu_gradient(u);
    }
    map_row_back(du.data() + i * hidden, e.fc1, dn.data() + i * width);
  });

  context.pool.parallel_for(width, [&](int64_t j, int) {
    std::vector<double> dfc2(hidden);
    double dbias = 0, dgamma = 0;
    for (int64_t i = 0; i < rows; i++) {
      const double d = t[i * width + j];
      for (int64_t h = 0; h < hidden; h++) dfc2[h] += d * scale_of(a.gamma, j) * activation[i * hidden + h];
      dbias += d * scale_of(a.gamma, j);
      dgamma += d * (dot(activation.data() + i * hidden, e.fc2.data + j * hidden, hidden) + e.fc2_bias[j]);
    }
    accumulate(gradient.fc2 == nullptr ? nullptr : gradient.fc2 + j * hidden, dfc2);
    if (gradient.fc2_bias != nullptr) gradient.fc2_bias[j] = static_cast<float>(gradient.fc2_bias[j] + dbias);
    if (a.dgamma != nullptr) a.dgamma[j] = static_cast<float>(a.dgamma[j] + dgamma);
  });
  context.pool.parallel_for(hidden, [&](int64_t h, int) {
    std::vector<double> dfc1(width);
    double dbias = 0;
    for (int64_t i = 0; i < rows; i++) {
      dbias += du[i * hidden + h];
      for (int64_t k = 0; k < width; k++) dfc1[k] += du[i * hidden + h] * normed[i * width + k];
    }
    accumulate(gradient.fc1 == nullptr ? nullptr : gradient.fc1 + h * width, dfc1);
    if (gradient.fc1_bias != nullptr) gradient.fc1_bias[h] = static_cast<float>(gradient.fc1_bias[h] + dbias);
  });

  std::vector<double> dgamma(width), dbeta(width), g(width);
  for (int64_t i = 0; i < rows; i++) {
    const int64_t row = e.begin + i;
    const float* x = a.x + row * width;
    const Moments m = row_moments(x, width, a.eps);
    for (int64_t k = 0; k < width; k++) {
      const double d = dn[i * width + k];
      g[k] = d * e.norm_gamma[k];
      dgamma[k] += d * (x[k] - m.mean) * m.inverse_deviation;
      dbeta[k] += d;
    }
    const std::vector<double> dx = norm_gradient(x, m, g);
    for (int64_t k = 0; k < width; k++) a.dx[row * width + k] = static_cast<float>(a.dout[row * width + k] + dx[k]);
  }
  accumulate(gradient.norm_gamma, dgamma);
  accumulate(gradient.norm_beta, dbeta);
}

Status backward(const ExpertFfnBackward& a, OpContext& context) {
  for (int index = 0; index < a.experts; index++) expert_backward(a, index, context);
  return {};
}

}  // namespace

void register_expert_ffn(KernelTable& table) {
  table.add<ExpertFfnForward, forward>(Target::ref);
  table.add<ExpertFfnBackward, backward>(Target::ref);
}

}  // namespace mome::ref
