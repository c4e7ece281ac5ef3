// What the parts of mome_bench share.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "core/kernel.h"

namespace mome::bench {

inline double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// One thing to measure, with everything it needs kept alive by `run`.
struct Case {
  std::string op, direction, shape;
  WeightType type = WeightType::f32;
  double flops = 0;
  double bytes = 0;  // that must come from or go to memory; set where these bound the op
  // Set for bare products: C [rows, outputs] = A [rows, inputs] W^T, for the peers.
  int64_t rows = 0, inputs = 0, outputs = 0;
  std::function<Status()> run;
  const float* a = nullptr;
  const float* weight = nullptr;
  const float* result = nullptr;
};

// Makes the cases one by one (they hold large operands) and hands each to `use`; `wanted` is asked by name first.
using Use = std::function<bool(const Case&)>;
bool each_case(Target target, ThreadPool& pool, const std::function<bool(const std::string&)>& wanted, const Use& use);

// A library with cblas-like sgemm, loaded at run time.
struct BlasPeer {
  std::string name, version;
  // C = A W^T, row-major.
  std::function<void(int64_t rows, int64_t outputs, int64_t inputs, const float* a, const float* weight, float* c)> sgemm;
  std::function<void(int threads)> set_threads;
};
std::vector<BlasPeer> find_blas_peers();

int run_peaks();
int run_kernels(int rounds, const std::string& only, const std::string& threads, Target target);

}  // namespace mome::bench
