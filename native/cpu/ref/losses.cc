#include "core/ops/losses.h"

#include "cpu/ref/scalar.h"

namespace mome::ref {
namespace {

constexpr int32_t kIgnored = -100;

// Log-sum-exp of `count` values `stride` apart.
double log_sum_exp(const float* x, int64_t count, int64_t stride = 1) {
  double highest = -INFINITY, sum = 0;
  for (int64_t i = 0; i < count; i++) highest = x[i * stride] > highest ? x[i * stride] : highest;
  for (int64_t i = 0; i < count; i++) sum += std::exp(x[i * stride] - highest);
  return highest + std::log(sum);
}

Status cross_entropy_forward(const CrossEntropyForward& a, OpContext&) {
  double sum = 0;
  int64_t counted = 0;
  for (int64_t row = 0; row < a.rows; row++) {
    if (a.labels[row] == kIgnored) continue;
    sum += log_sum_exp(a.logits + row * a.classes, a.classes) - a.logits[row * a.classes + a.labels[row]];
    counted++;
  }
  *a.loss = counted == 0 ? 0.0f : static_cast<float>(sum / static_cast<double>(counted));
  return {};
}

Status cross_entropy_backward(const CrossEntropyBackward& a, OpContext&) {
  int64_t counted = 0;
  for (int64_t row = 0; row < a.rows; row++) counted += a.labels[row] != kIgnored;
  for (int64_t row = 0; row < a.rows; row++) {
    const float* x = a.logits + row * a.classes;
    const bool ignored = a.labels[row] == kIgnored;
    const double lse = ignored ? 0 : log_sum_exp(x, a.classes);
    for (int64_t i = 0; i < a.classes; i++) {
      const double p = ignored ? 0 : std::exp(x[i] - lse) - (i == a.labels[row]);
      a.dlogits[row * a.classes + i] =
          static_cast<float>(a.weight * p / static_cast<double>(counted == 0 ? 1 : counted));
    }
  }
  return {};
}

Status soft_bce_forward(const SoftBceForward& a, OpContext&) {
  double sum = 0;
  for (int64_t i = 0; i < a.rows * a.classes; i++) {
    const double x = a.logits[i];
    sum += (x > 0 ? x : 0) - x * a.targets[i] + std::log1p(std::exp(-std::fabs(x)));
  }
  *a.loss = a.rows == 0 ? 0.0f : static_cast<float>(sum / static_cast<double>(a.rows));
  return {};
}

Status soft_bce_backward(const SoftBceBackward& a, OpContext&) {
  for (int64_t i = 0; i < a.rows * a.classes; i++) {
    const double sigmoid = 1.0 / (1.0 + std::exp(-static_cast<double>(a.logits[i])));
    a.dlogits[i] = static_cast<float>(a.weight * (sigmoid - a.targets[i]) / static_cast<double>(a.rows));
  }
  return {};
}

bool same_group(const int32_t* group, int64_t i, int64_t j) { return group == nullptr ? i == j : group[i] == group[j]; }

Status contrastive_forward(const ContrastiveForward& a, OpContext&) {
  const int64_t n = a.rows;
  const double scale = std::exp(static_cast<double>(*a.log_scale));
  for (int64_t i = 0; i < n; i++) {
    for (int64_t j = 0; j < n; j++) {
      a.similarity[i * n + j] = static_cast<float>(scale * dot(a.image + i * a.width, a.text + j * a.width, a.width));
    }
  }
  double sum = 0;
  for (int64_t i = 0; i < n; i++) {
    double positives = 0;
    int64_t size = 0;
    for (int64_t j = 0; j < n; j++) {
      if (!same_group(a.group, i, j)) continue;
      positives += static_cast<double>(a.similarity[i * n + j]) + a.similarity[j * n + i];
      size++;
    }
    sum += log_sum_exp(a.similarity + i * n, n) + log_sum_exp(a.similarity + i, n, n) -
           positives / static_cast<double>(size);
  }
  *a.loss = n == 0 ? 0.0f : static_cast<float>(sum / (2.0 * static_cast<double>(n)));
  return {};
}

Status contrastive_backward(const ContrastiveBackward& a, OpContext&) {
  const int64_t n = a.rows, width = a.width;
  std::vector<double> rows(n), columns(n), dimage(n * width), dtext(n * width);
  for (int64_t i = 0; i < n; i++) {
    rows[i] = log_sum_exp(a.similarity + i * n, n);
    columns[i] = log_sum_exp(a.similarity + i, n, n);
  }
  const double scale = std::exp(static_cast<double>(*a.log_scale));
  double dlog_scale = 0;
  for (int64_t i = 0; i < n; i++) {
    int64_t size = 0;
    for (int64_t j = 0; j < n; j++) size += same_group(a.group, i, j);
    for (int64_t j = 0; j < n; j++) {
      const double s = a.similarity[i * n + j];
      const double target = same_group(a.group, i, j) ? 2.0 / static_cast<double>(size) : 0.0;
      const double ds =
          a.weight / (2.0 * static_cast<double>(n)) * (std::exp(s - rows[i]) + std::exp(s - columns[j]) - target);
      dlog_scale += ds * s;
      for (int64_t k = 0; k < width; k++) {
        dimage[i * width + k] += ds * scale * a.text[j * width + k];
        dtext[j * width + k] += ds * scale * a.image[i * width + k];
      }
    }
  }
  for (int64_t i = 0; i < n * width; i++) {
    a.dimage[i] = static_cast<float>(dimage[i]);
    a.dtext[i] = static_cast<float>(dtext[i]);
  }
  if (a.dlog_scale != nullptr) *a.dlog_scale = static_cast<float>(*a.dlog_scale + dlog_scale);
  return {};
}

}  // namespace

void register_losses(KernelTable& table) {
  table.add<CrossEntropyForward, cross_entropy_forward>(Target::ref);
  table.add<CrossEntropyBackward, cross_entropy_backward>(Target::ref);
  table.add<SoftBceForward, soft_bce_forward>(Target::ref);
  table.add<SoftBceBackward, soft_bce_backward>(Target::ref);
  table.add<ContrastiveForward, contrastive_forward>(Target::ref);
  table.add<ContrastiveBackward, contrastive_backward>(Target::ref);
}

}  // namespace mome::ref
