// squared_norm and adamw over lists of parameters.
#pragma once

#include <cstddef>

#include "core/ops/common.h"

namespace mome {

struct FlatTensor {
  const float* data;
  int64_t count;
};

// Sum of squares of all elements, in double, summed per fixed chunk of 65,536 elements and then over chunks in order.
struct SquaredNormForward {
  static constexpr const char* kOp = "squared_norm";
  static constexpr Direction kDirection = Direction::forward;
  int64_t tensors;
  const FlatTensor* tensor;  // [tensors]
  double* result;            // [1]
};

struct AdamwTensor {
  float* parameter;
  const float* gradient;
  float* m;
  float* v;
  int64_t count;
  float weight_decay;         // 0 for parameters that do not decay
  float learning_rate_scale;  // layer-wise or head rate; 1 = the plain rate
};

// g = gradient_scale * gradient (gradient_scale carries clipping and accumulation)
//   m = beta1 m + (1 - beta1) g;  v = beta2 v + (1 - beta2) g^2
//   p -= lr * sqrt(1 - beta2^step) / (1 - beta1^step) * m / (sqrt(v) + eps);  p -= lr * weight_decay * p
// Source: the AdamW of the original recipe (decay after the update, scaled by the learning rate).
struct AdamwForward {
  static constexpr const char* kOp = "adamw";
  static constexpr Direction kDirection = Direction::forward;
  int64_t tensors;
  const AdamwTensor* tensor;  // [tensors]
  int64_t step;               // counted from 1
  float learning_rate, beta1, beta2, eps;
  float gradient_scale;
};

extern const OpSpec squared_norm_op;
extern const OpSpec adamw_op;

}  // namespace mome
