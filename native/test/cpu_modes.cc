// Modes of mome_kernels that run on this processor.
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <set>
#include <thread>

#include "core/ops/attention.h"
#include "core/ops/expert_ffn.h"
#include "core/ops/linear.h"
#include "core/ops/qkv.h"
#include "core/ops/table.h"
#include "core/quantise.h"
#include "test/comparison.h"
#include "test/modes.h"

namespace mome::test {
namespace {

// An error in one element; where ties are allowed for, in one row more than they may take.
Tensor with_planted_error(const OpCase& test, Tensor values) {
  const auto plant = [&](size_t at) { values[at] += 1e-2f * (1 + std::fabs(values[at])); };
  plant(values.size() / 2);
  const size_t width = test.ties.most > 0 ? values.size() / static_cast<size_t>(test.ties.rows) : 0;
  for (int64_t i = 0; i < test.ties.most; i++)
    plant((values.size() / 2 + static_cast<size_t>(i + 1) * width) % values.size());
  return values;
}

double weighted_sum(const Tensors& outputs, const Tensors& weights) {
  double sum = 0;
  for (const auto& [name, weight] : weights) {
    for (size_t i = 0; i < weight.size(); i++) sum += static_cast<double>(weight[i]) * outputs.at(name)[i];
  }
  return sum;
}

}  // namespace

void support() {
  std::set<std::string_view> covered;
  for (const OpCase& test : all_cases()) covered.insert(test.op);
  for (const OpSpec* op : op_table()) {
    for (const Target target : kCpuTargets) {
      if (!target_built(target)) continue;
      const std::string name = std::string(op->name) + " on " + std::string(target_name(target));
      if (kernel_table(target).find(op->name, Direction::forward, target) == nullptr)
        fail("no forward kernel of " + name);
      const bool backward = kernel_table(target).find(op->name, Direction::backward, target) != nullptr;
      if ((op->backward != nullptr) != backward)
        fail((backward ? "no backward decoder of " : "no backward kernel of ") + name);
    }
    if (!covered.contains(op->name)) fail("no case of " + std::string(op->name));
  }
}

namespace {

// Hidden activations and probabilities are made in float32 by kernels and in double by `ref`: one in some ten thousand
// lies so near the middle of two numbers of bfloat16 that both round it apart (8.5e-5 seen, of all of a small result).
constexpr double kRoundedStepBound = 2e-4;

// So are probabilities that become integers. Their steps are finer (5.3e-6 seen).
constexpr double kInt16StepBound = 1e-5;

// The type in which attention multiplies in a case.
ProductType attention_type(const OpCase& test, Target target) {
  return test.op == AttentionForward::kOp ? product_type(target, test.type) : ProductType::f32;
}

OpCase with_rounded_steps(OpCase test, Target target) {
  const bool rounds_hidden =
      test.op == ExpertFfnForward::kOp && test.type != WeightType::f32 && multiplies_bf16(target);
  const ProductType attention = attention_type(test, target);
  if (rounds_hidden || attention == ProductType::bf16) test.bound = std::fmax(test.bound, kRoundedStepBound);
  if (attention == ProductType::int16) test.bound = std::fmax(test.bound, kInt16StepBound);
  return test;
}

// Attention in 16-bit integers is near that in float32: kernels and `ref` could agree and be wrong. (3.6e-4 seen. What
// is made of infinities is NaN in one and may be finite in the other.)
constexpr double kInt16Error = 5e-4;

void compare_with_float32(OpCase test, Target target, const Tensors& actual, const Tensors& expected) {
  for (const float value : test.inputs.at("qkv")) {
    if (std::isinf(value)) return;
  }
  test.bound = kInt16Error;
  compare(test, "output in 16 bits", target, actual, expected);
}

// Gradients of products in bfloat16. The inputs hold numbers that bfloat16 has, so that rounding them changes nothing:
// linear and qkv give what float32 gives. Others round what they make on the way, to steps of 2^-8: the scaled
// gradients, hidden activations and their gradients.
constexpr double kRoundedGradientBound = 4e-3;

void round_all(Tensors& tensors) {
  for (auto& [name, values] : tensors) round_to_bf16(values.data(), static_cast<int64_t>(values.size()), values.data());
}

int check_gradients_in_bf16(const OpCase& given, Target target) {
  const OpSpec* spec = find_op(op_table(), given.op);
  if (!given.backward || given.type != WeightType::f32 || spec == nullptr || spec->matrices.empty()) return 0;
  OpCase test = given;
  round_all(test.inputs);
  Results forward;
  if (!run_case(test, Target::ref, 1, nullptr, forward)) return 0;
  Tensors dout = random_like(forward.outputs, test.differentiable, 99), expected, one, three;
  round_all(dout);
  const auto gradients = [&](Target on, WeightType type, int threads, Tensors& result) {
    ThreadPool pool(threads);
    Runner runner(on, pool, type);
    const Status status = test.backward(runner, test.inputs, forward.outputs, dout, result);
    if (!status.ok()) fail(test.name + " in bfloat16 on " + std::string(target_name(on)) + ": " + status.message());
    return status.ok();
  };
  if (!gradients(Target::ref, WeightType::f32, 1, expected) || !gradients(target, WeightType::bf16, 1, one) ||
      !gradients(target, WeightType::bf16, 3, three)) {
    return 0;
  }
  const bool exact = test.op == LinearForward::kOp || test.op == QkvForward::kOp;
  if (!exact) test.bound = kRoundedGradientBound;
  compare(test, "gradient in bfloat16", target, one, expected);
  if (!same_bits(one, three)) fail(test.name + " in bfloat16: 1 and 3 threads differ");
  return 1;
}

// Returns whether outputs and gradients of `target` were compared with those of `ref`, which are expected.
int check_on(Target target, const OpCase& test, const Results& expected) {
  const bool int16 = attention_type(test, target) == ProductType::int16;
  const bool rounds = int16 || (multiplies_bf16(target) && test.type != WeightType::f32) ||
                      (test.type == WeightType::i8 && weight_sum_limit(target) != kNoSumLimit);
  Results one, three, rounded;
  if (!run_case(test, target, 1, &expected.outputs, one) || !run_case(test, target, 3, &expected.outputs, three))
    return 0;
  if (rounds && !run_case(test, Target::ref, 1, nullptr, rounded, nullptr, target)) return 0;
  compare(with_rounded_steps(test, target), "output", target, one.outputs, (rounds ? rounded : expected).outputs);
  if (int16) compare_with_float32(test, target, one.outputs, expected.outputs);
  compare(test, "gradient", target, one.gradients, expected.gradients);
  if (!same_bits(one.outputs, three.outputs) || !same_bits(one.gradients, three.gradients)) {
    fail(test.name + " on " + std::string(target_name(target)) + ": 1 and 3 threads differ");
  }
  return 1;
}

}  // namespace

void check(const Only& only) {
  int compared = 0;
  for (const OpCase& test : all_cases()) {
    Results expected;
    if (!run_case(test, Target::ref, 1, nullptr, expected)) continue;
    for (const Target target : kCpuTargets) {
      if (target == Target::ref || only.leaves_out(target) || !target_supported(target)) continue;
      if (test.sum_limit != 0 && weight_sum_limit(target) != test.sum_limit) continue;
      if (!only.leaves_out(test.type)) compared += check_on(target, test, expected);
      if (multiplies_bf16(target) && !only.leaves_out(WeightType::bf16))
        compared += check_gradients_in_bf16(test, target);
    }
    // A planted error must show.
    for (const auto& [name, values] : expected.outputs) {
      if (values.empty()) continue;
      const Tensor planted = without_ties(test, with_planted_error(test, values), values);
      if (difference(planted, values).relative <= test.bound && values.size() < 20000)
        fail(test.name + " " + name + ": a planted error was not noticed");
    }
  }
  std::printf("%d comparisons with ref\n", compared);
  if (const Target wanted = only.target.value_or(best_target());
      compared == 0 && wanted != Target::ref && target_supported(wanted))
    fail("nothing was compared");
}

// A stopped kernel leaves wrong results; it must not read or write where it may not. (Sanitizers see the rest of it.)
void stop() {
  int stopped = 0;
  for (const OpCase& test : all_cases()) {
    for (const Target target : kCpuTargets) {
      if (!target_supported(target)) continue;
      for (const int microseconds : {0, 20, 200}) {
        Results whole;
        if (!run_case(test, target, 1, nullptr, whole)) continue;
        ThreadPool pool(2);
        Runner runner(target, pool, test.type);
        std::atomic<bool> flag{microseconds == 0};
        std::thread stopper([&] {
          std::this_thread::sleep_for(std::chrono::microseconds(microseconds));
          flag = true;
        });
        Tensors outputs, gradients;
        const auto keeps_to_its_memory = [&](const Status& status) {
          if (status.message().find("wrote past") != std::string::npos)
            fail(test.name + " stopped on " + std::string(target_name(target)) + ": " + status.message());
        };
        {
          const ThreadPool::StopScope scope(pool, &flag);
          keeps_to_its_memory(test.forward(runner, test.inputs, outputs));
          if (test.backward)
            keeps_to_its_memory(test.backward(runner, test.inputs, whole.outputs,
                                              random_like(whole.outputs, test.differentiable, 99), gradients));
          stopped += pool.stopped();
        }
        stopper.join();
      }
    }
  }
  std::printf("%d cases were stopped\n", stopped);
  if (stopped == 0) fail("no case was stopped");
}

void grad() {
  constexpr double kBound = 5e-3;
  ThreadPool pool(2);
  Runner runner(Target::ref, pool);
  int checked = 0;
  for (const OpCase& test : all_cases()) {
    if (!test.backward) continue;
    Tensors outputs, gradients;
    Status status = test.forward(runner, test.inputs, outputs);
    if (!status.ok()) {
      fail(test.name + ": " + status.message());
      continue;
    }
    const Tensors dout = random_like(outputs, test.differentiable, 7);
    status = test.backward(runner, test.inputs, outputs, dout, gradients);
    if (!status.ok()) {
      fail(test.name + ": " + status.message());
      continue;
    }
    for (const auto& [name, gradient] : gradients) {
      const Tensor& base = test.inputs.at(name);
      if (base.empty()) continue;
      Random random(3);
      const Tensor direction = random.normal(static_cast<int64_t>(base.size()));
      double along = 0, size = 0, norm = 0;
      for (size_t i = 0; i < base.size(); i++) {
        along += static_cast<double>(gradient[i]) * direction[i];
        size += std::fabs(base[i]);
        norm += static_cast<double>(gradient[i]) * gradient[i];
      }
      const double step = 2e-3 * (size / static_cast<double>(base.size()) + 0.05);
      double sums[2];
      for (int sign = 0; sign < 2; sign++) {
        Tensors moved = test.inputs;
        for (size_t i = 0; i < base.size(); i++)
          moved[name][i] = static_cast<float>(base[i] + (sign ? step : -step) * direction[i]);
        Tensors result;
        if (!test.forward(runner, moved, result).ok()) fail(test.name + ": forward");
        sums[sign] = weighted_sum(result, dout);
      }
      const double numeric = (sums[1] - sums[0]) / (2 * step);
      const double scale = std::fmax(std::fabs(numeric), std::sqrt(norm));
      if (std::fabs(numeric - along) > kBound * scale + 1e-4) {
        char line[200];
        std::snprintf(line, sizeof line, "%s gradient of %s: %.6g by differences, %.6g by backward", test.name.c_str(),
                      name.c_str(), numeric, along);
        fail(line);
      }
      checked++;
    }
  }
  std::printf("%d gradients checked\n", checked);
  if (checked == 0) fail("no gradient was checked");
}

}  // namespace mome::test
