// The most fused multiply-adds this processor does: independent chains in registers, on every thread asked for.
// Prints GFLOP/s of all threads together. Compiled by base-images.mjs with the flags of the vector width.
#include <immintrin.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

#if defined(__AVX512F__)
using Vector = __m512;
constexpr int kLanes = 16;
static Vector set(float x) { return _mm512_set1_ps(x); }
#else
using Vector = __m256;
constexpr int kLanes = 8;
static Vector set(float x) { return _mm256_set1_ps(x); }
#endif

// 12 chains hide a latency of 4 cycles on two ports with room to spare.
constexpr int kChains = 12;
constexpr long kRounds = 20'000'000;

static double run() {
  Vector a0 = set(1), a1 = a0, a2 = a0, a3 = a0, a4 = a0, a5 = a0, a6 = a0, a7 = a0, a8 = a0, a9 = a0, a10 = a0, a11 = a0;
  const Vector x = set(0.9f), y = set(0.5f);
  const auto started = std::chrono::steady_clock::now();
  for (long round = 0; round < kRounds; round++) {
    asm volatile(
        "vfmadd213ps %13, %12, %0\n vfmadd213ps %13, %12, %1\n vfmadd213ps %13, %12, %2\n vfmadd213ps %13, %12, %3\n"
        "vfmadd213ps %13, %12, %4\n vfmadd213ps %13, %12, %5\n vfmadd213ps %13, %12, %6\n vfmadd213ps %13, %12, %7\n"
        "vfmadd213ps %13, %12, %8\n vfmadd213ps %13, %12, %9\n vfmadd213ps %13, %12, %10\n vfmadd213ps %13, %12, %11\n"
        : "+v"(a0), "+v"(a1), "+v"(a2), "+v"(a3), "+v"(a4), "+v"(a5), "+v"(a6), "+v"(a7), "+v"(a8), "+v"(a9), "+v"(a10), "+v"(a11)
        : "v"(x), "v"(y));
  }
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
  return kRounds * static_cast<double>(kChains) * kLanes * 2 / seconds / 1e9;
}

int main(int count, char** arguments) {
  const int threads = count > 1 ? std::atoi(arguments[1]) : 1;
  std::vector<double> rates(static_cast<size_t>(threads));
  std::vector<std::thread> running;
  for (int i = 0; i < threads; i++) running.emplace_back([&rates, i] { rates[static_cast<size_t>(i)] = run(); });
  double sum = 0;
  for (int i = 0; i < threads; i++) {
    running[static_cast<size_t>(i)].join();
    sum += rates[static_cast<size_t>(i)];
  }
  std::printf("%.2f\n", sum);
}
