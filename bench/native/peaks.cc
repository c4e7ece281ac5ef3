// mome_bench peaks: the most this machine does of multiply-adds, of 8-bit and 16-bit products and of reading, with the
// instructions of a target.
#include "native/peaks.h"

#include <atomic>
#include <cstdio>
#include <cstring>
#include <string>
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
double rate(int threads, double operations, double (*loop)(int64_t steps)) {
  int64_t steps = 1 << 16;
  while (together(1, [&](int) { sink = loop(steps); }) < kSeconds) steps *= 2;
  double best = 0;
  for (int repeat = 0; repeat < kRepeats; repeat++) {
    const double seconds = together(threads, [&](int) { sink = loop(steps); });
    best = std::max(best, threads * operations * static_cast<double>(steps) / seconds);
  }
  return best;
}

double read_rate(int threads, double (*read)(const float*, int64_t)) {
  std::vector<AlignedMemory> memory(threads);
  for (AlignedMemory& each : memory) {
    if (!each.reserve(kReadBytes)) return 0;
    std::memset(each.data(), 1, kReadBytes);
  }
  double best = 0;
  for (int repeat = 0; repeat < kReads; repeat++) {
    const double seconds =
        together(threads, [&](int t) { sink = read(memory[t].floats(), kReadBytes / sizeof(float)); });
    best = std::max(best, threads * static_cast<double>(kReadBytes) / seconds);
  }
  return best;
}

const PeakLoops* loops_of(Target target) {
#define MOME_COMPARE(name) \
  if (target == Target::name) return &name::peak_loops;
  MOME_INSTRUCTION_SETS(MOME_COMPARE)
#undef MOME_COMPARE
  return nullptr;
}

// `"name":{"one":..,"all":..}` in thousand millions, or null where the instruction set has no such loop.
void print_rate(const char* name, const PeakLoop& loop, int all) {
  if (loop.run == nullptr) {
    std::printf(",\"%s\":null", name);
    return;
  }
  std::printf(",\"%s\":{\"one\":%.1f,\"all\":%.1f}", name, rate(1, loop.operations, loop.run) / 1e9,
              rate(all, loop.operations, loop.run) / 1e9);
}

}  // namespace

int run_peaks(Target target) {
  const PeakLoops* loops = loops_of(target);
  if (loops == nullptr || !target_supported(target)) {
    std::fprintf(stderr, "mome_bench: peaks: expected vector instructions of this processor, got the target %s\n",
                 std::string(target_name(target)).c_str());
    return 1;
  }
  const int all = available_cores();
  std::printf("{\"kind\":\"peaks\",\"target\":\"%s\",\"threads\":%d", std::string(target_name(target)).c_str(), all);
  print_rate("fma_gflops", loops->fma, all);
  print_rate("vnni_gops", loops->vnni, all);
  // Where there is VNNI nobody multiplies bytes otherwise.
  print_rate("maddubs_gops", loops->vnni.run == nullptr ? loops->maddubs : PeakLoop{nullptr, 0}, all);
  print_rate("bf16_gflops", loops->bf16, all);
  print_rate("amx_int8_gops", loops->tile_bytes, all);
  print_rate("amx_bf16_gflops", loops->tile_bf16, all);
  std::printf(",\"read_gbs\":{\"one\":%.2f,\"all\":%.2f}}\n", read_rate(1, loops->read) / 1e9,
              read_rate(all, loops->read) / 1e9);
  return 0;
}

}  // namespace mome::bench
