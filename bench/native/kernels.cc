// mome_bench kernels: seconds of single kernels, with other libraries' products between them.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <thread>

#include "native/bench.h"

namespace mome::bench {
namespace {

constexpr double kSampleSeconds = 3e-3;  // at least, by repeating short calls
constexpr auto kRest = std::chrono::milliseconds(30);  // before a turn, where another library's threads may still spin
constexpr double kAwakeSeconds = 20e-3;  // of calls after a rest, until threads that woke up on one core were parted
constexpr double kSameResult = 1e-5;     // relative L2 between libraries: another order of summation

double sample(const std::function<void()>& call, int repeats) {
  const double started = now();
  for (int i = 0; i < repeats; i++) call();
  return (now() - started) / repeats;
}

void print_samples(const char* name, const std::vector<double>& seconds) {
  std::printf(",\"%s\":[", name);
  for (size_t i = 0; i < seconds.size(); i++) std::printf("%s%.9g", i == 0 ? "" : ",", seconds[i]);
  std::printf("]");
}

double relative_difference(const std::vector<float>& actual, const float* expected) {
  double squares = 0, norm = 0;
  for (size_t i = 0; i < actual.size(); i++) {
    squares += std::pow(static_cast<double>(actual[i]) - expected[i], 2);
    norm += std::pow(static_cast<double>(expected[i]), 2);
  }
  return std::sqrt(squares / norm);
}

bool measure(const Case& test, int threads, int rounds, std::vector<BlasPeer>& peers) {
  Status status;
  const auto ours = [&] { status = test.run(); };
  const double first = sample(ours, 1);
  if (!status.ok()) {
    std::fprintf(stderr, "mome_bench: %s: %s\n", test.op.c_str(), status.message().c_str());
    return false;
  }
  const int repeats = static_cast<int>(std::clamp(kSampleSeconds / std::max(first, 1e-7), 1.0, 1000.0));
  std::vector<std::vector<double>> seconds(1 + peers.size());
  std::vector<float> c(static_cast<size_t>(test.rows * test.outputs));
  const bool compared = test.a != nullptr;
  const auto peer_call = [&](BlasPeer& peer) { peer.sgemm(test.rows, test.outputs, test.inputs, test.a, test.weight, c.data()); };
  if (compared) {
    for (BlasPeer& peer : peers) {
      peer.set_threads(threads);
      peer_call(peer);
      const double difference = relative_difference(c, test.result);
      if (difference <= kSameResult) continue;
      std::fprintf(stderr, "mome_bench: %s differs from ours by %g at %s\n", peer.name.c_str(), difference, test.shape.c_str());
      return false;
    }
  }
  const auto turn = [&](const std::function<void()>& call) {
    if (compared && threads > 1) {
      std::this_thread::sleep_for(kRest);
      for (const double started = now(); now() - started < kAwakeSeconds;) call();
    }
    return sample(call, repeats);
  };
  for (int round = 0; round < rounds; round++) {
    seconds[0].push_back(turn(ours));
    for (size_t p = 0; compared && p < peers.size(); p++) seconds[1 + p].push_back(turn([&] { peer_call(peers[p]); }));
  }
  std::printf("{\"kind\":\"kernel\",\"op\":\"%s\",\"direction\":\"%s\",\"shape\":\"%s\",\"dtype\":\"%s\",\"threads\":%d,\"flops\":%.17g,\"bytes\":%.17g", test.op.c_str(),
              test.direction.c_str(), test.shape.c_str(), weight_type_name(test.type).data(), threads, test.flops, test.bytes);
  print_samples("ours", seconds[0]);
  for (size_t p = 0; compared && p < peers.size(); p++) print_samples(peers[p].name.c_str(), seconds[1 + p]);
  std::printf("}\n");
  std::fflush(stdout);
  return true;
}

}  // namespace

int run_kernels(int rounds, const std::string& only, const std::string& threads, Target target) {
  std::vector<BlasPeer> peers = find_blas_peers();
  std::printf("{\"kind\":\"versions\"");
  for (const BlasPeer& peer : peers) std::printf(",\"%s\":\"%s\"", peer.name.c_str(), peer.version.c_str());
  std::printf("}\n");
  const int all = available_cores();
  std::vector<int> counts;
  if (threads != "all") counts.push_back(1);
  if (threads != "one" && all > 1) counts.push_back(all);
  for (const int count : counts) {
    ThreadPool pool(count);
    const auto wanted = [&](const std::string& name) { return name.find(only) != std::string::npos; };
    if (!each_case(target, pool, wanted, [&](const Case& test) { return measure(test, count, rounds, peers); })) return 1;
  }
  return 0;
}

}  // namespace mome::bench
