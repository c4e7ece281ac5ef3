#include "core/training.h"

#include <cmath>

#include "core/kernel_call.h"
#include "core/ops/optimizer.h"

namespace mome {

Status check(const AdamwStep& step, const WeightStore& weights) {
  if (!weights.training()) return error(Code::invalid_argument, "adamw: expected weights that are trained");
  if (step.step < 1 || !std::isfinite(step.learning_rate * step.beta1 * step.beta2 * step.eps * step.gradient_scale)) {
    return error(Code::invalid_argument, "adamw: expected step >= 1 and finite settings");
  }
  for (const AdamwStep::Member& member : step.members) {
    if (!std::isfinite(member.weight_decay) || !std::isfinite(member.learning_rate_scale)) {
      return error(Code::invalid_argument, "adamw: %s: expected a finite weight decay and learning rate scale",
                   weights.at(member.parameter).name.c_str());
    }
  }
  for (const AdamwStep::Limit& limit : step.limits) {
    if (std::isnan(limit.highest))
      return error(Code::invalid_argument, "adamw: %s: expected a number as limit, got NaN",
                   weights.at(limit.parameter).name.c_str());
  }
  return {};
}

Status run_adamw(const AdamwStep& step, WeightStore& weights, Target target, ThreadPool& pool) {
  std::vector<AdamwTensor> tensors;
  for (const AdamwStep::Member& member : step.members) {
    Parameter& parameter = weights.at(member.parameter);
    weights.changed(member.parameter);
    auto& [gradient, m, v] = parameter.training;
    tensors.push_back({parameter.host[Form::plain].floats(), gradient.floats(), m.floats(), v.floats(), parameter.count,
                       member.weight_decay, member.learning_rate_scale});
  }
  const AdamwForward args{static_cast<int64_t>(tensors.size()),
                          tensors.data(),
                          step.step,
                          step.learning_rate,
                          step.beta1,
                          step.beta2,
                          step.eps,
                          step.gradient_scale};
  MOME_RETURN_IF_ERROR(run_kernel(target, pool, args));
  for (const AdamwStep::Limit& limit : step.limits) {
    Parameter& parameter = weights.at(limit.parameter);
    float* values = parameter.host[Form::plain].floats();
    for (int64_t i = 0; i < parameter.count; i++) {
      if (values[i] > limit.highest) values[i] = static_cast<float>(limit.highest);
    }
    weights.changed(limit.parameter);
  }
  return {};
}

Status gradient_norm(WeightStore& weights, Target target, ThreadPool& pool, double& norm) {
  std::vector<FlatTensor> tensors;
  for (int i = 0; i < weights.size(); i++) {
    const Parameter& parameter = weights.at(i);
    if (parameter.training.gradient.data() != nullptr)
      tensors.push_back({parameter.training.gradient.floats(), parameter.count});
  }
  double squares = 0;
  MOME_RETURN_IF_ERROR(
      run_kernel(target, pool, SquaredNormForward{static_cast<int64_t>(tensors.size()), tensors.data(), &squares}));
  norm = std::sqrt(squares);
  return {};
}

}  // namespace mome
