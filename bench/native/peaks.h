// Loops that do nothing but what a processor can do most of.
#pragma once

#include <cstdint>

namespace mome::bench {

// Each runs `steps` steps and returns something that depends on all of them, so that nothing is left out.
// FMA: operations per step are given by the constant, a multiply-add counted as two.
float fma_avx2(int64_t steps);
float fma_avx512(int64_t steps);
int64_t vnni_avx512(int64_t steps);

inline constexpr int64_t kChains = 20;  // independent sums: latency 4 to 5 on two ports needs 10
inline constexpr int64_t kFmaAvx2Operations = kChains / 2 * 8 * 2;  // 10 chains: sixteen registers
inline constexpr int64_t kFmaAvx512Operations = kChains * 16 * 2;
inline constexpr int64_t kVnniOperations = kChains * 64 * 2;

// Sums `count` floats (a multiple of 64) with wide loads.
float read_avx2(const float* data, int64_t count);

}  // namespace mome::bench
