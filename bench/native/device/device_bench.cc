// mome_device_bench [--rounds N]: the forward kernels of the CUDA library at the base model's sizes, bfloat16, rows of 64 pictures.
//
// Each figure is the mean of many launches between two waits, so that the launches' own time hides behind the kernels; rounds are repeated
// and the list of all of them is printed as JSON, with the products each op has to do, for scripts/gpu/run.py to set against other
// libraries on the same device.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "core/device.h"
#include "core/ops/attention.h"
#include "core/ops/expert_ffn.h"
#include "core/ops/layer_norm.h"
#include "core/ops/proj_residual.h"
#include "core/ops/qkv.h"
#include "core/weights.h"

namespace mome {
namespace {

constexpr int64_t kImages = 64, kTokens = 197, kRows = kImages * kTokens, kWidth = 768, kHidden = 3072, kHeads = 12, kLayers = 12;
constexpr int kLaunches = 20;

class Bench {
 public:
  Bench(std::shared_ptr<Device> device, int rounds) : device_(std::move(device)), rounds_(rounds) {}

  // Device memory with normal values as bfloat16 (products depend on their operands' bits: zeros would run faster) or float32.
  void* rows(int64_t count) { return fill(count, true); }
  float* vector(int64_t count) { return static_cast<float*>(fill(count, false)); }
  Matrix matrix(int64_t rows, int64_t columns) {
    std::vector<float> values = normal(rows * columns);
    WeightStore store(WeightType::bf16);
    Status status = store.add("w", {rows, columns}, values.data(), rows * columns);
    if (status.ok()) status = store.send(0, Form::packed, WeightType::bf16, device_, pool_);
    if (!status.ok()) die(status);
    kept_.push_back(std::move(store.at(0).device[Form::packed]));
    return {rows, columns, nullptr, kept_.back().data(), nullptr, WeightType::bf16};
  }
  void* bytes(const void* values, size_t count) {
    DeviceMemory memory;
    Status status = memory.reserve(device_, count);
    if (status.ok()) status = device_->upload(memory.data(), values, count);
    if (status.ok()) status = device_->finish();
    if (!status.ok()) die(status);
    kept_.push_back(std::move(memory));
    return kept_.back().data();
  }

  template <typename Args>
  void measure(const char* name, const Args& args, double flops) {
    const Kernel* kernel = kernel_table(Target::cuda).find(Args::kOp, Args::kDirection, Target::cuda);
    const size_t bytes = kernel->workspace == nullptr ? 0 : kernel->workspace(&args, 1);
    DeviceMemory workspace;
    if (const Status status = workspace.reserve(device_, bytes); !status.ok()) die(status);
    OpContext context{pool_, workspace.data(), bytes, device_->queue()};
    context.device.rows = WeightType::bf16;
    std::printf("%s\n  {\"name\": \"%s\", \"flops\": %.0f, \"seconds\": [", first_ ? "" : ",", name, flops);
    first_ = false;
    for (int round = -1; round < rounds_; round++) {  // the first warms up
      const auto started = std::chrono::steady_clock::now();
      Status status;
      for (int i = 0; i < kLaunches && status.ok(); i++) status = kernel->run(&args, context);
      if (status.ok()) status = device_->finish();
      if (!status.ok()) die(status);
      const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count() / kLaunches;
      if (round >= 0) std::printf("%s%.4g", round == 0 ? "" : ", ", seconds);
    }
    std::printf("]}");
    std::fflush(stdout);
  }

 private:
  [[noreturn]] static void die(const Status& status) {
    std::fprintf(stderr, "mome_device_bench: %s\n", status.message().c_str());
    std::exit(1);
  }
  std::vector<float> normal(int64_t count) {
    std::normal_distribution<float> distribution(0, 1);
    std::vector<float> pool(1 << 16);
    for (float& value : pool) value = distribution(random_);
    std::vector<float> values(static_cast<size_t>(count));
    for (size_t i = 0; i < values.size(); i++) values[i] = pool[(i * 2654435761u >> 8) % pool.size()] * 0.1f;
    return values;
  }
  void* fill(int64_t count, bool halves) {
    const std::vector<float> values = normal(count);
    if (!halves) return bytes(values.data(), values.size() * sizeof(float));
    std::vector<uint16_t> rounded(values.size());
    for (size_t i = 0; i < values.size(); i++) {
      uint32_t word;
      std::memcpy(&word, &values[i], sizeof word);
      rounded[i] = static_cast<uint16_t>((word + 0x8000) >> 16);
    }
    return bytes(rounded.data(), rounded.size() * sizeof(uint16_t));
  }

  std::shared_ptr<Device> device_;
  int rounds_;
  ThreadPool pool_{0};
  std::mt19937 random_{5};
  std::vector<DeviceMemory> kept_;
  bool first_ = true;
};

float* as_rows(void* pointer) { return static_cast<float*>(pointer); }

void run(Bench& bench) {
  const double gemm = 2.0 * kRows * kWidth;
  float* x = as_rows(bench.rows(kRows * kWidth));
  float* qkv = as_rows(bench.rows(kRows * 3 * kWidth));
  float* out = as_rows(bench.rows(kRows * kWidth));
  const float* vector = bench.vector(kHidden);

  bench.measure("qkv", QkvForward{kRows, kWidth, x, bench.matrix(3 * kWidth, kWidth), vector, vector, qkv}, gemm * 3 * kWidth);
  const Matrix fc1 = bench.matrix(kHidden, kWidth), fc2 = bench.matrix(kWidth, kHidden);
  // The products of the experts' layers alone, as the widest and the deepest `qkv`: it writes a third of its columns at a time.
  float* hidden = as_rows(bench.rows(kRows * kHidden));
  bench.measure("fc1", QkvForward{kRows, kHidden / 3, x, fc1, vector, vector, hidden}, gemm * kHidden);
  bench.measure("fc2", QkvForward{kRows, kWidth / 3, hidden, fc2, vector, vector, out}, gemm * kHidden);
  bench.measure("proj_residual", ProjResidualForward{kRows, kWidth, x, x, bench.matrix(kWidth, kWidth), vector, vector, nullptr, out}, gemm * kWidth);
  bench.measure("layer_norm", LayerNormForward{kRows, kWidth, x, vector, vector, 1e-6f, out}, 0);

  ExpertFfnForward ffn{};
  ffn.rows = kRows, ffn.width = kWidth, ffn.hidden = kHidden, ffn.eps = 1e-6f, ffn.x = x, ffn.gamma = vector, ffn.out = out;
  const auto experts = [&](std::vector<int32_t> bounds) {
    ffn.bounds = static_cast<const int32_t*>(bench.bytes(bounds.data(), bounds.size() * sizeof(int32_t)));
    ffn.experts = static_cast<int>(bounds.size()) - 1;
    for (int e = 0; e < ffn.experts; e++) {
      const Matrix own_fc1 = e == 0 ? fc1 : bench.matrix(kHidden, kWidth), own_fc2 = e == 0 ? fc2 : bench.matrix(kWidth, kHidden);
      ffn.expert[e] = {0, 0, vector, vector, own_fc1, vector, own_fc2, vector};
    }
  };
  experts({0, kRows});
  bench.measure("expert_ffn", ffn, 2 * gemm * kHidden);
  experts({0, kRows / 8, kRows / 2, kRows});
  bench.measure("expert_ffn, 3 experts", ffn, 2 * gemm * kHidden);

  const RelativePosition position{14, 196};
  std::vector<Sequence> sequences;
  for (int32_t i = 0; i < kImages; i++) sequences.push_back({0, 0, i * static_cast<int32_t>(kTokens), static_cast<int32_t>(kTokens)});
  AttentionForward attention{kRows, kWidth, kHeads, kImages, nullptr, qkv, nullptr, kHeads * kLayers, 0, position, 0.125f, out, nullptr, 0, false};
  summarise_sequences(sequences.data(), attention);
  attention.sequences = static_cast<const Sequence*>(bench.bytes(sequences.data(), sequences.size() * sizeof(Sequence)));
  const double scores = 4.0 * kImages * kTokens * kTokens * kWidth;
  bench.measure("attention, no bias", attention, scores);
  attention.table = bench.vector(position.rows() * kHeads * kLayers);
  bench.measure("attention", attention, scores);
}

}  // namespace
}  // namespace mome

int main(int count, char** arguments) {
  using namespace mome;
  const int rounds = count == 3 && std::string(arguments[1]) == "--rounds" ? std::atoi(arguments[2]) : 10;
  const DeviceLibrary& library = device_library();
  std::string why = library.reason;
  std::shared_ptr<Device> device;
  if (library.api == nullptr || library.api->count(why) == 0) return std::fprintf(stderr, "mome_device_bench: no device: %s\n", why.c_str()), 1;
  Status status = library.api->open({}, device);
  if (status.ok()) status = device->use();
  DeviceDescription description;
  if (!status.ok() || !library.api->describe(0, description).ok()) return std::fprintf(stderr, "mome_device_bench: %s\n", status.message().c_str()), 1;
  std::printf("{\"device\": \"%s\", \"runtime\": \"%s\", \"rows\": %lld, \"kernels\": [", description.name.c_str(), description.runtime.c_str(),
              static_cast<long long>(kRows));
  Bench bench(device, rounds);
  run(bench);
  std::printf("\n]}\n");
  return 0;
}
