// The AdamW step and the gradient norm over the parameters of a store.
#include <cmath>
#include <cstdio>
#include <string>
#include <vector>

#include "core/training.h"
#include "test/expect.h"

namespace mome {
namespace {

using test::expect;

constexpr float kValues[3] = {1, -2, 0.5f}, kGradients[3] = {0.5f, 3, -1};

// Parameters "a" [3] and "scale" [1] with gradients.
void fill(WeightStore& weights) {
  const float scale = 4.5f;
  expect(weights.add("a", {3}, kValues, 3).ok() && weights.add("scale", {1}, &scale, 1).ok(), "weights are taken");
  expect(weights.enable_training().ok(), "weights can be trained");
  for (int i = 0; i < 3; i++) weights.at(0).training.gradient.floats()[i] = kGradients[i];
  weights.at(1).training.gradient.floats()[0] = -6;
}

AdamwStep first_step() {
  AdamwStep step;
  step.step = 1, step.learning_rate = 0.1f, step.beta1 = 0.9f, step.beta2 = 0.98f, step.eps = 1e-8f,
  step.gradient_scale = 0.5f;
  step.members = {{0, 0.2f, 2}, {1, 0, 1}};
  return step;
}

void the_step() {
  for (const Target target : kCpuTargets) {
    if (!target_supported(target)) continue;
    ThreadPool pool(2);
    WeightStore weights;
    fill(weights);
    double norm = 0;
    expect(gradient_norm(weights, target, pool, norm).ok() && std::fabs(norm - std::sqrt(0.25 + 9 + 1 + 36)) < 1e-12,
           "the norm of all gradients");
    const uint64_t generation = weights.generation();
    AdamwStep step = first_step();
    expect(check(step, weights).ok() && run_adamw(step, weights, target, pool).ok(), "a step is made");
    for (int i = 0; i < 3; i++) {
      // In the first step the moments' bias correction leaves the sign of the gradient.
      const double moved = kValues[i] - 0.2 * (kGradients[i] > 0 ? 1 : -1), expected = moved - 0.2 * 0.2 * moved;
      expect(std::fabs(weights.at(0).host[Form::plain].floats()[i] - expected) < 1e-5,
             "values move by the learning rate and decay");
      expect(std::fabs(weights.at(0).training.m.floats()[i] - 0.1 * 0.5 * kGradients[i]) < 1e-6,
             "the first moment is kept");
    }
    const float* scale = weights.at(1).host[Form::plain].floats();
    expect(std::fabs(scale[0] - 4.6f) < 1e-5f, "a parameter without a limit goes where its gradient says");
    expect(weights.generation() > generation, "what was decoded before the step is void");

    step.step = 2;
    step.limits = {{1, std::log(100)}};
    const uint64_t version = weights.at(1).versions.values;
    expect(run_adamw(step, weights, target, pool).ok() && scale[0] == static_cast<float>(std::log(100)),
           "a value above its limit becomes the limit");
    expect(weights.at(1).versions.values > version, "and packed forms of it are out of date");
    step.limits = {{1, 1000}};
    const float before = scale[0];
    step.members = {};
    expect(run_adamw(step, weights, target, pool).ok() && scale[0] == before, "a value below its limit stays");
  }
}

void misuse() {
  WeightStore untrained;
  expect(check(first_step(), untrained).code() == Code::invalid_argument, "weights that are not trained are refused");
  WeightStore weights;
  fill(weights);
  const auto refused = [&](auto change) {
    AdamwStep step = first_step();
    change(step);
    return check(step, weights).code() == Code::invalid_argument;
  };
  expect(refused([](AdamwStep& step) { step.step = 0; }), "a step before the first is refused");
  expect(refused([](AdamwStep& step) { step.learning_rate = NAN; }), "a learning rate that is not a number is refused");
  expect(refused([](AdamwStep& step) { step.gradient_scale = INFINITY; }), "an infinite gradient scale is refused");
  expect(refused([](AdamwStep& step) { step.members[1].weight_decay = NAN; }),
         "a weight decay that is not a number is refused");
  expect(refused([](AdamwStep& step) { step.members[0].learning_rate_scale = NAN; }),
         "a learning rate scale that is not a number is refused");
  expect(refused([](AdamwStep& step) { step.limits = {{1, NAN}}; }), "a limit that is not a number is refused");
  expect(!refused([](AdamwStep& step) { step.limits = {{1, INFINITY}}; }), "no limit at all is one");
}

}  // namespace
}  // namespace mome

int main() {
  mome::the_step();
  mome::misuse();
  std::printf("training_test: %d checks, %d failed\n", mome::test::checks, mome::test::failures);
  return mome::test::failures == 0 && mome::test::checks > 0 ? 0 : 1;
}
