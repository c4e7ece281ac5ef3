// What the modes of mome_kernels share: running a case on a target, and comparing its results with others.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "test/harness.h"

namespace mome::test {

// Prints what is wrong and counts it.
void fail(const std::string& what);
int failures();

struct Difference {
  double relative = 0;  // L2; infinite where one number is not finite and the other is
  size_t worst = 0;     // element that differs most
};
Difference difference(const Tensor& actual, const Tensor& expected);

struct Results {
  Tensors outputs, gradients;
  int64_t columns = 0;  // of a product's output, else 0
};

// Runs a case forward and, without a device, backward. `saved`: outputs that the backward kernel reads in place of its
// own. `rounding`: the target whose roundings `ref` makes as well.
bool run_case(const OpCase& test, Target target, int threads, const Tensors* saved, Results& results,
              const std::shared_ptr<Device>& device = nullptr, Target rounding = Target::ref);

// Random gradients of the outputs named in `names`.
Tensors random_like(const Tensors& outputs, const std::vector<std::string>& names, uint32_t seed);

// `actual` with the rows that ties explain taken from `expected`: the worst ones inside kTieBound.
Tensor without_ties(const OpCase& test, Tensor actual, const Tensor& expected);

// Fails for each output or gradient that lies outside the case's bound.
void compare(const OpCase& test, const char* kind, Target target, const Tensors& actual, const Tensors& expected);

bool same_bits(const Tensors& a, const Tensors& b);

}  // namespace mome::test
