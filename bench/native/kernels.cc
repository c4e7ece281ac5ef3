// mome_bench kernels: seconds of single kernels, with other libraries' products between them. What is measured are the
// test cases at the sizes of the base model (test/harness.h).
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <thread>

#include "core/ops/linear.h"
#include "native/bench.h"
#include "test/harness.h"

namespace mome::bench {
namespace {

constexpr double kSampleSeconds = 3e-3;                // at least, by repeating short calls
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

void print_case(const test::PerfCase& test, int threads) {
  std::printf(",\"op\":\"%s\",\"direction\":\"%s\",\"shape\":\"%s\",\"dtype\":\"%s\",\"threads\":%d", test.op.data(),
              direction_name(test.direction).data(), test.shape.c_str(), weight_type_name(test.type).data(), threads);
}

double relative_difference(const std::vector<float>& actual, const float* expected) {
  double squares = 0, norm = 0;
  for (size_t i = 0; i < actual.size(); i++) {
    squares += std::pow(static_cast<double>(actual[i]) - expected[i], 2);
    norm += std::pow(static_cast<double>(expected[i]), 2);
  }
  return std::sqrt(squares / norm);
}

// A bare product in float32, which other libraries do as well; null for other calls.
const LinearForward* bare_product(const test::PerfCase& test, const KernelCall& call) {
  const bool bare =
      test.op == LinearForward::kOp && test.direction == Direction::forward && test.type == WeightType::f32;
  return bare ? static_cast<const LinearForward*>(call.args()) : nullptr;
}

// Measures a prepared call and prints its line.
Status measure(const test::PerfCase& test, KernelCall& call, int threads, int rounds, std::vector<BlasPeer>& peers) {
  Status status;
  const auto ours = [&] { status = call.run(); };
  const double first = sample(ours, 1);
  MOME_RETURN_IF_ERROR(status);
  const int repeats = static_cast<int>(std::clamp(kSampleSeconds / std::max(first, 1e-7), 1.0, 1000.0));
  std::vector<std::vector<double>> seconds(1 + peers.size());
  const LinearForward* product = bare_product(test, call);
  const bool compared = product != nullptr;
  std::vector<float> c(compared ? static_cast<size_t>(product->rows * product->weight.rows) : 0);
  const auto peer_call = [&](BlasPeer& peer) {
    peer.sgemm(product->rows, product->weight.rows, product->weight.columns, product->x, product->weight.data,
               c.data());
  };
  if (compared) {
    for (BlasPeer& peer : peers) {
      peer.set_threads(threads);
      peer_call(peer);
      const double difference = relative_difference(c, product->y);
      if (difference <= kSameResult) continue;
      return error(Code::internal, "%s differs from ours by %g at %s", peer.name.c_str(), difference,
                   test.shape.c_str());
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
  std::printf("{\"kind\":\"kernel\"");
  print_case(test, threads);
  std::printf(",\"flops\":%.17g,\"bytes\":%.17g", test.flops, test.bytes);
  print_samples("ours", seconds[0]);
  for (size_t p = 0; compared && p < peers.size(); p++) print_samples(peers[p].name.c_str(), seconds[1 + p]);
  std::printf("}\n");
  std::fflush(stdout);
  return {};
}

// Makes the operands of a case as its test does and measures the call of the direction that is wanted.
Status run_case(const test::PerfCase& test, Target target, ThreadPool& pool,
                const std::function<Status(KernelCall&)>& measured) {
  const test::OpCase made = test.make();
  test::Runner runner(target, pool, test.type);
  test::Tensors outputs, gradients;
  if (test.direction == Direction::forward) {
    runner.measure(measured);
    return made.forward(runner, made.inputs, outputs);
  }
  MOME_RETURN_IF_ERROR(made.forward(runner, made.inputs, outputs));
  runner.measure(measured);
  return made.backward(runner, made.inputs, outputs, {{"y", outputs.at("y")}}, gradients);
}

}  // namespace

// The measurements that run_kernels would make.
int run_cases() {
  std::vector<int> counts{1};
  if (available_cores() > 1) counts.push_back(available_cores());
  for (const int threads : counts) {
    for (const test::PerfCase& test : test::perf_cases()) {
      std::printf("{\"kind\":\"case\"");
      print_case(test, threads);
      std::printf("}\n");
    }
  }
  return 0;
}

int run_kernels(int rounds, const std::string& only, const std::string& threads, Target target) {
  test::placement = test::Placement::arena;
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
    for (const test::PerfCase& test : test::perf_cases()) {
      const std::string name = std::string(test.op) + "." + std::string(direction_name(test.direction)) + "/" +
                               test.shape + "/" + std::string(weight_type_name(test.type));
      if (name.find(only) == std::string::npos) continue;
      const Status status =
          run_case(test, target, pool, [&](KernelCall& call) { return measure(test, call, count, rounds, peers); });
      if (status.ok()) continue;
      std::fprintf(stderr, "mome_bench: %s: %s\n", name.c_str(), status.message().c_str());
      return 1;
    }
  }
  return 0;
}

}  // namespace mome::bench
