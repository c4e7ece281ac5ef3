// The part of training that happens between runs of a program: the norm of all gradients and the AdamW step.
#pragma once

#include <cstdint>
#include <vector>

#include "core/kernel.h"
#include "core/status.h"
#include "core/weights.h"

namespace mome {

// One AdamW step (core/ops/optimizer.h has its formula).
struct AdamwStep {
  int64_t step = 0;  // counted from 1
  float learning_rate = 0, beta1 = 0, beta2 = 0, eps = 0;
  float gradient_scale = 1;  // multiplies every gradient: clipping and accumulation

  struct Member {
    int parameter;  // index in the store
    float weight_decay, learning_rate_scale;
  };
  std::vector<Member> members;

  // After the step, values of the parameter above `highest` become `highest`.
  struct Limit {
    int parameter;
    double highest;
  };
  std::vector<Limit> limits;
};

// Fails with Code::invalid_argument for weights that are not trained, a step before the first, and settings that are
// not finite.
Status check(const AdamwStep& step, const WeightStore& weights);

// Updates the members' values and moments from their gradients. `step` must have passed `check`.
Status run_adamw(const AdamwStep& step, WeightStore& weights, Target target, ThreadPool& pool);

// The Euclidean norm of all gradients together.
Status gradient_norm(WeightStore& weights, Target target, ThreadPool& pool, double& norm);

}  // namespace mome
