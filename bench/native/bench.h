// What the parts of mome_bench share.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "core/kernel.h"

namespace mome::bench {

inline double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// A library with cblas-like sgemm, loaded at run time.
struct BlasPeer {
  std::string name, version;
  // C = A W^T, row-major.
  std::function<void(int64_t rows, int64_t outputs, int64_t inputs, const float* a, const float* weight, float* c)>
      sgemm;
  std::function<void(int threads)> set_threads;
};
std::vector<BlasPeer> find_blas_peers();

int run_peaks(Target target);
int run_cases();
int run_kernels(int rounds, const std::string& only, const std::string& threads, Target target);

}  // namespace mome::bench
