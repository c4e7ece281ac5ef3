#include "core/ops/text_embed.h"

#include "core/random.h"
#include "cpu/ref/scalar.h"

namespace mome::ref {
namespace {

template <typename Args>
std::vector<float> summed_row(const Args& a, int64_t row) {
  std::vector<float> e(a.width);
  for (int64_t i = 0; i < a.width; i++) {
    e[i] = a.word[int64_t{a.ids[row]} * a.width + i] + a.segment[i];
    if (a.position != nullptr) e[i] += a.position[int64_t{a.index[row]} * a.width + i];
  }
  return e;
}

template <typename Args>
double kept(const Args& a, int64_t row, int64_t column) {
  if (a.dropout <= 0) return 1;
  return uniform(a.seed, row, column) >= a.dropout ? 1.0 / (1.0 - a.dropout) : 0;
}

Status forward(const TextEmbedForward& a, OpContext& context) {
  context.pool.parallel_for(a.rows, [&](int64_t row, int) {
    const std::vector<float> e = summed_row(a, row);
    const Moments m = row_moments(e.data(), a.width, a.eps);
    for (int64_t i = 0; i < a.width; i++) {
      const double normed = (e[i] - m.mean) * m.inverse_deviation * a.gamma[i] + a.beta[i];
      a.out[row * a.width + i] = static_cast<float>(normed * kept(a, row, i) + a.type[i]);
    }
  });
  return {};
}

void add_row(float* table, int64_t row, const std::vector<double>& values) {
  accumulate(table == nullptr ? nullptr : table + row * static_cast<int64_t>(values.size()), values);
}

Status backward(const TextEmbedBackward& a, OpContext&) {
  std::vector<double> dgamma(a.width), dbeta(a.width), dtype(a.width), dsegment(a.width), g(a.width);
  for (int64_t row = 0; row < a.rows; row++) {
    const std::vector<float> e = summed_row(a, row);
    const Moments m = row_moments(e.data(), a.width, a.eps);
    for (int64_t i = 0; i < a.width; i++) {
      const double dout = a.dout[row * a.width + i];
      const double d = dout * kept(a, row, i);
      g[i] = d * a.gamma[i];
      dgamma[i] += d * (e[i] - m.mean) * m.inverse_deviation;
      dbeta[i] += d;
      dtype[i] += dout;
    }
    const std::vector<double> de = norm_gradient(e.data(), m, g);
    for (int64_t i = 0; i < a.width; i++) dsegment[i] += de[i];
    if (a.ids[row] != 0) add_row(a.dword, a.ids[row], de);
    if (a.position != nullptr) add_row(a.dposition, a.index[row], de);
  }
  accumulate(a.dgamma, dgamma);
  accumulate(a.dbeta, dbeta);
  accumulate(a.dtype, dtype);
  accumulate(a.dsegment, dsegment);
  return {};
}

}  // namespace

void register_text_embed(KernelTable& table) {
  table.add<TextEmbedForward, forward>(Target::ref);
  table.add<TextEmbedBackward, backward>(Target::ref);
}

}  // namespace mome::ref
