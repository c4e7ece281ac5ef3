// Runs whose experts' ranges end elsewhere replay one recording: real kernels (of the emulation) on a device of this
// test's own, which does nothing before it is waited for. Copies that may go ahead go at once: what two runs under way
// do not keep apart, shows.
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <random>
#include <string>
#include <thread>

#include "core/engine.h"
#include "cuda/emulation/recorder.h"
#include "test/expect.h"

namespace mome {
namespace {

using test::expect;

class LateDevice final : public Device {
 public:
  std::atomic<int> recorded = 0, replayed = 0;

  // The next waits begin when so many runs have been given.
  void hold_until(int runs) {
    const std::lock_guard lock(mutex_);
    runs_to_come_ = runs;
  }
  int left_to_come() {
    const std::lock_guard lock(mutex_);
    return runs_to_come_;
  }

  LateDevice() { given_.recording = true; }  // launches are kept, never run at once
  Status use() override { return {}; }
  DeviceQueue queue() const override {
    return {const_cast<cuda::emulation::Recorder*>(&given_), 4, 90, WeightType::f32};
  }
  Status allocate(size_t bytes, void*& memory) override {
    memory = std::calloc(bytes, 1);
    return {};
  }
  void release(void* memory, size_t) override { std::free(memory); }
  Status allocate_host(size_t bytes, void*& memory) override { return allocate(bytes, memory); }
  void release_host(void* memory) override { std::free(memory); }
  Status upload(void* to, const void* from, size_t bytes) override { return download(to, from, bytes); }
  Status download(void* to, const void* from, size_t bytes) override {
    given_.work.push_back([=]() -> Status {
      std::memcpy(to, from, bytes);
      return {};
    });
    return {};
  }
  Status upload_ahead(void* to, const void* from, size_t bytes) override {
    std::memcpy(to, from, bytes);
    return {};
  }
  Status finish() override {
    std::unique_lock lock(mutex_);
    take_given();
    return work_until(begun_ + queued_.size());
  }

  Status make_mark(void*& mark) override {
    mark = new size_t(0);
    return {};
  }
  Status set_mark(void* mark) override {
    const std::lock_guard lock(mutex_);
    take_given();
    *static_cast<size_t*>(mark) = begun_ + queued_.size();
    runs_to_come_--;
    come_.notify_all();
    return {};
  }
  Status wait_mark(void* mark) override {
    std::unique_lock lock(mutex_);
    come_.wait_for(lock, std::chrono::seconds(20), [&] { return runs_to_come_ <= 0; });
    return work_until(*static_cast<size_t*>(mark));
  }
  void release_mark(void* mark) override { delete static_cast<size_t*>(mark); }
  Status make_timed_mark(void*& mark) override { return make_mark(mark); }
  Status seconds_between(void*, void*, double&) override { return error(Code::unsupported, "late: no clock"); }

  Status begin_recording() override {
    before_ = std::move(given_.work);
    given_.work.clear();
    return {};
  }
  Status end_recording(void*& recording) override {
    recorded++;
    recording = new std::vector<Work>(std::move(given_.work));
    given_.work = std::move(before_);
    return {};
  }
  Status replay(void* recording) override {
    replayed++;
    const auto& work = *static_cast<std::vector<Work>*>(recording);
    given_.work.insert(given_.work.end(), work.begin(), work.end());
    return {};
  }
  void release_recording(void* recording) override { delete static_cast<std::vector<Work>*>(recording); }

 private:
  using Work = std::function<Status()>;
  void take_given() {
    for (Work& work : given_.work) queued_.push_back(std::move(work));
    given_.work.clear();
  }
  Status work_until(size_t end) {
    for (; begun_ < end; begun_++) {
      MOME_RETURN_IF_ERROR(queued_.front()());
      queued_.pop_front();
    }
    return {};
  }

  cuda::emulation::Recorder given_;  // by the thread that has the executor's turn
  std::vector<Work> before_;
  std::mutex mutex_;  // of all below
  std::condition_variable come_;
  std::deque<Work> queued_;
  size_t begun_ = 0;
  int runs_to_come_ = 0;
};

constexpr int64_t kWidth = 16, kHidden = 24;
constexpr int kExperts = 2;

// `bytes` comes first and its size varies: x must stay where it is.
constexpr const char* kProgram = R"(mome-program 1
dims rows p first second last
input bytes u8 p
input x f32 rows*16
param norm_gamma_0 16
param norm_beta_0 16
param fc1_0 24*16
param fc1_bias_0 24
param fc2_0 16*24
param fc2_bias_0 16
param norm_gamma_1 16
param norm_beta_1 16
param fc1_1 24*16
param fc1_bias_1 24
param fc2_1 16*24
param fc2_bias_1 16
buffer 0 f32 rows*16 live 0 0
output y 0
op expert_ffn.forward x=$x norm_gamma_0=@norm_gamma_0 norm_beta_0=@norm_beta_0 fc1_0=@fc1_0 fc1_bias_0=@fc1_bias_0 fc2_0=@fc2_0 fc2_bias_0=@fc2_bias_0 norm_gamma_1=@norm_gamma_1 norm_beta_1=@norm_beta_1 fc1_1=@fc1_1 fc1_bias_1=@fc1_bias_1 fc2_1=@fc2_1 fc2_bias_1=@fc2_bias_1 out=%0 begin0=first end0=second begin1=second end1=last eps=0.000001
)";

std::vector<float> normal(size_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> distribution(0, 0.5f);
  std::vector<float> values(count);
  for (float& value : values) value = distribution(random);
  return values;
}

void fill(WeightStore& weights) {
  const std::pair<const char*, std::vector<int64_t>> shapes[] = {{"norm_gamma_", {kWidth}},   {"norm_beta_", {kWidth}},
                                                                 {"fc1_", {kHidden, kWidth}}, {"fc1_bias_", {kHidden}},
                                                                 {"fc2_", {kWidth, kHidden}}, {"fc2_bias_", {kWidth}}};
  uint32_t seed = 1;
  for (int e = 0; e < kExperts; e++) {
    for (const auto& [name, shape] : shapes) {
      int64_t count = 1;
      for (const int64_t size : shape) count *= size;
      expect(
          weights.add(name + std::to_string(e), shape, normal(static_cast<size_t>(count), seed++).data(), count).ok(),
          "weights are taken");
    }
  }
}

struct Ranges {
  int64_t rows, first, second, last;
  size_t pictures = 3000;
};

Status run(Engine& engine, CompiledProgram& compiled, WeightStore& weights, const Ranges& ranges,
           const std::vector<float>& x, RunResult& result) {
  const std::vector<uint8_t> bytes(ranges.pictures);
  RunRequest request;
  request.dims = {ranges.rows, static_cast<int64_t>(ranges.pictures), ranges.first, ranges.second, ranges.last};
  request.inputs = {{ElementType::u8, bytes.data(), bytes.size()}, {ElementType::f32, x.data(), x.size()}};
  return engine.run(compiled, weights, request, result);
}

// A model on the device and, for what it should say, on this processor.
class Pair {
 public:
  explicit Pair(const std::shared_ptr<Device>& device) : late_(1, Target::cuda, device), plain_(1, Target::ref) {
    fill(weights_);
    fill(plain_weights_);
    expect(CompiledProgram::create(kProgram, weights_, Target::cuda, compiled_).ok(),
           "the program is taken for the device");
    expect(CompiledProgram::create(kProgram, plain_weights_, Target::ref, plain_compiled_).ok(),
           "and for this processor");
  }
  bool ready() const { return compiled_ && plain_compiled_; }

  Status on_device(const Ranges& ranges, const std::vector<float>& x, RunResult& result) {
    return run(late_, *compiled_, weights_, ranges, x, result);
  }

  // Whether the rows of the experts are as they should be. Call by one thread.
  bool right(const Ranges& ranges, const std::vector<float>& x, const RunResult& result) {
    const std::vector<float> wanted(x.begin() + ranges.first * kWidth, x.begin() + ranges.last * kWidth);
    RunResult expected;
    const Ranges all{ranges.last - ranges.first, 0, ranges.second - ranges.first, ranges.last - ranges.first};
    if (!run(plain_, *plain_compiled_, plain_weights_, all, wanted, expected).ok() || result.outputs.size() != 1)
      return false;
    if (result.outputs[0].size() != x.size()) return false;
    for (size_t i = 0; i < wanted.size(); i++) {
      if (!(std::fabs(result.outputs[0][static_cast<size_t>(ranges.first * kWidth) + i] - expected.outputs[0][i]) <
            1e-4f))
        return false;
    }
    return true;
  }

 private:
  Engine late_, plain_;
  WeightStore weights_, plain_weights_;
  std::shared_ptr<CompiledProgram> compiled_, plain_compiled_;
};

constexpr int64_t kRows = 128;
constexpr Ranges kRanges[] = {{kRows, 0, 64, 128}, {kRows, 0, 1, 100, 7}, {kRows, 5, 5, 70},
                              {kRows, 17, 90, 90}, {kRows, 3, 3, 3, 1},   {kRows, 1, 64, 127}};

void one_after_the_other() {
  const auto device = std::make_shared<LateDevice>();
  Pair pair(device);
  if (!pair.ready()) return;
  uint32_t seed = 50;
  for (const Ranges& ranges : kRanges) {
    const std::vector<float> x = normal(kRows * kWidth, seed++);
    RunResult result;
    expect(pair.on_device(ranges, x, result).ok() && pair.right(ranges, x, result),
           "ranges that end at " + std::to_string(ranges.second) + " and " + std::to_string(ranges.last));
  }
  expect(device->recorded == 1 && device->replayed == static_cast<int>(std::size(kRanges)) - 1,
         "the first launches, the second is recorded, all others replay it");

  const std::vector<float> x = normal(kRows * kWidth, 7);
  RunResult result;
  for (const Ranges& wrong : {Ranges{kRows, 0, 5, 129}, Ranges{kRows, 0, 60, 50}, Ranges{kRows, -1, 5, 50}}) {
    expect(pair.on_device(wrong, x, result).code() == Code::invalid_shape,
           "ranges outside the rows or out of order are refused");
  }
  expect(pair.on_device(kRanges[1], x, result).ok() && pair.right(kRanges[1], x, result) && device->recorded == 1,
         "and the next run goes on");

  const std::vector<float> more = normal(2 * kRows * kWidth, 8);
  const Ranges larger{2 * kRows, 0, 64, 130};
  for (int i = 0; i < 2; i++)
    expect(pair.on_device(larger, more, result).ok() && pair.right(larger, more, result), "other sizes");
  expect(device->recorded == 2, "are another recording");
}

void two_under_way() {
  const auto device = std::make_shared<LateDevice>();
  Pair pair(device);
  if (!pair.ready()) return;
  // Two rounds until both have memory (what was recorded before is void then), one that records.
  constexpr int kRounds = 9, kSettled = 3;
  for (int round = 0; round < kRounds; round++) {
    const int replayed = device->replayed;
    Ranges ranges[DeviceExecutor::kLanes];
    std::vector<float> x[DeviceExecutor::kLanes];
    RunResult results[DeviceExecutor::kLanes];
    Status statuses[DeviceExecutor::kLanes];
    std::vector<std::thread> threads;
    device->hold_until(DeviceExecutor::kLanes);
    for (int lane = 0; lane < DeviceExecutor::kLanes; lane++) {
      ranges[lane] = kRanges[static_cast<size_t>(round * 2 + lane * 3) % std::size(kRanges)];
      x[lane] = normal(kRows * kWidth, static_cast<uint32_t>(100 + round * 2 + lane));
      threads.emplace_back([&, lane] { statuses[lane] = pair.on_device(ranges[lane], x[lane], results[lane]); });
    }
    for (std::thread& thread : threads) thread.join();
    expect(device->left_to_come() <= 0, "both runs were under way");
    for (int lane = 0; lane < DeviceExecutor::kLanes; lane++) {
      expect(statuses[lane].ok() && pair.right(ranges[lane], x[lane], results[lane]),
             "two under way: each has its own ranges");
    }
    if (round >= kSettled) expect(device->replayed - replayed == DeviceExecutor::kLanes, "both replay a recording");
  }
  expect(device->recorded == DeviceExecutor::kLanes, "one recording for each that may be under way");
}

}  // namespace
}  // namespace mome

int main() {
  std::string why = mome::device_library().reason;
  if (mome::device_library().api == nullptr) {
    const char* required = std::getenv("MOME_REQUIRE");
    std::printf("device_replay: no kernels: %s\n", why.c_str());
    return required != nullptr && std::string(required) == "cuda" ? 1 : 0;
  }
  mome::one_after_the_other();
  mome::two_under_way();
  std::printf("device_replay: %d checks, %d failed\n", mome::test::checks, mome::test::failures);
  return mome::test::failures == 0 && mome::test::checks > 0 ? 0 : 1;
}
