// Loops of one kind of instruction, which measure its peak rate on this processor.
#pragma once

#include <cstdint>

namespace mome {

// Each runs `steps` steps and returns something that depends on all of them, so that nothing is left out.
// FMA: operations per step are given by the constant, a multiply-add counted as two.
// peak_read sums `count` floats (a multiple of 64) with wide loads.
namespace avx2 {
float peak_fma(int64_t steps);
float peak_read(const float* data, int64_t count);
}  // namespace avx2
namespace avx512_vnni {
float peak_fma(int64_t steps);
int64_t peak_vnni(int64_t steps);
}  // namespace avx512_vnni

namespace bench {

inline constexpr int64_t kChains = 20;  // independent sums: latency 4 to 5 on two ports needs 10
inline constexpr int64_t kFmaAvx2Operations = kChains / 2 * 8 * 2;  // 10 chains: sixteen registers
inline constexpr int64_t kFmaAvx512Operations = kChains * 16 * 2;
inline constexpr int64_t kVnniOperations = kChains * 64 * 2;

}  // namespace bench
}  // namespace mome
