// mome_bench peaks: the most this machine does of multiply-adds, of 8-bit products and of reading.
#include "native/peaks.h"

#include <atomic>
#include <cstdio>
#include <cstring>
#include <thread>
#include <vector>

#include "core/memory.h"
#include "native/bench.h"

namespace mome::bench {
namespace {

constexpr double kSeconds = 0.15;                 // of one measurement
constexpr int kRepeats = 3;                       // the best counts: it is a peak
constexpr size_t kReadBytes = size_t{384} << 20;  // per thread, far beyond the caches
constexpr int kReads = 30;                        // one takes ten milliseconds, which a neighbour spoils easily

std::atomic<double> sink{0};  // keeps results from being left out

// Runs `work` on that many threads after a common start; seconds from the start to the last end.
template <typename Work>
double together(int threads, const Work& work) {
  std::atomic<int> ready{0};
  std::atomic<bool> go{false};
  std::vector<std::thread> running;
  for (int t = 0; t < threads; t++) {
    running.emplace_back([&, t] {
      ready++;
      while (!go.load(std::memory_order_acquire)) {
      }
      work(t);
    });
  }
  while (ready.load() < threads) {
  }
  const double started = now();
  go.store(true, std::memory_order_release);
  for (std::thread& thread : running) thread.join();
  return now() - started;
}

// Operations per second of `loop`, `operations` per step.
template <typename Loop>
double rate(int threads, double operations, const Loop& loop) {
  int64_t steps = 1 << 16;
  while (together(1, [&](int) { sink = static_cast<double>(loop(steps)); }) < kSeconds) steps *= 2;
  double best = 0;
  for (int repeat = 0; repeat < kRepeats; repeat++) {
    const double seconds = together(threads, [&](int) { sink = static_cast<double>(loop(steps)); });
    best = std::max(best, threads * operations * static_cast<double>(steps) / seconds);
  }
  return best;
}

double read_rate(int threads) {
  std::vector<AlignedMemory> memory(threads);
  for (AlignedMemory& each : memory) {
    if (!each.reserve(kReadBytes)) return 0;
    std::memset(each.data(), 1, kReadBytes);
  }
  double best = 0;
  for (int repeat = 0; repeat < kReads; repeat++) {
    const double seconds =
        together(threads, [&](int t) { sink = avx2::peak_read(memory[t].floats(), kReadBytes / sizeof(float)); });
    best = std::max(best, threads * static_cast<double>(kReadBytes) / seconds);
  }
  return best;
}

}  // namespace

int run_peaks() {
  if (!target_supported(Target::avx2)) {
    std::fprintf(stderr, "mome_bench: expected a processor with AVX2\n");
    return 1;
  }
  const int all = available_cores();
  const auto fma = [&](int threads) {
#if MOME_AVX512
    if (target_supported(Target::avx512)) return rate(threads, kFmaAvx512Operations, avx512_vnni::peak_fma);
#endif
    return rate(threads, kFmaAvx2Operations, avx2::peak_fma);
  };
  std::printf("{\"kind\":\"peaks\",\"threads\":%d,\"fma_gflops\":{\"one\":%.1f,\"all\":%.1f},", all, fma(1) / 1e9,
              fma(all) / 1e9);
  bool vnni = false;
#if MOME_AVX512
  vnni = target_supported(Target::avx512_vnni);
  if (vnni) {
    const auto rate_of = [](int threads) { return rate(threads, kVnniOperations, avx512_vnni::peak_vnni) / 1e9; };
    std::printf("\"vnni_gops\":{\"one\":%.1f,\"all\":%.1f},", rate_of(1), rate_of(all));
  }
#endif
  if (!vnni) std::printf("\"vnni_gops\":null,");
  std::printf("\"read_gbs\":{\"one\":%.2f,\"all\":%.2f}}\n", read_rate(1) / 1e9, read_rate(all) / 1e9);
  return 0;
}

}  // namespace mome::bench
