// The engine of a device and its executor, on a device of this test's own: which tasks may overlap, what runs do to
// memory, recordings and failures. No kernels: programs are empty but for their inputs and outputs.
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>

#include "core/engine.h"
#include "test/expect.h"

namespace mome {
namespace {

using test::expect;

// Memory of this processor; counts what is held, and fails when told to.
class FakeDevice final : public Device {
 public:
  std::atomic<int64_t> held = 0, recorded = 0, replayed = 0, released_recordings = 0, marks = 0;
  std::atomic<bool> fail_upload = false, no_memory = false;

  Status use() override { return {}; }
  DeviceQueue queue() const override { return {}; }
  Status allocate(size_t bytes, void*& memory) override {
    if (no_memory) return error(Code::out_of_memory, "fake: full");
    memory = std::calloc(bytes, 1);
    held += static_cast<int64_t>(bytes);
    return {};
  }
  void release(void* memory, size_t bytes) override {
    std::free(memory);
    held -= static_cast<int64_t>(bytes);
  }
  Status allocate_host(size_t bytes, void*& memory) override {
    memory = std::calloc(bytes, 1);
    return {};
  }
  void release_host(void* memory) override { std::free(memory); }
  Status upload(void* to, const void* from, size_t bytes) override {
    std::memcpy(to, from, bytes);
    return {};
  }
  Status download(void* to, const void* from, size_t bytes) override {
    std::memcpy(to, from, bytes);
    return {};
  }
  Status upload_ahead(void* to, const void* from, size_t bytes) override {
    if (fail_upload) return error(Code::device_unavailable, "fake: lost");
    return upload(to, from, bytes);
  }
  Status finish() override { return {}; }
  Status make_mark(void*& mark) override {
    marks++;
    mark = this;
    return {};
  }
  Status set_mark(void*) override { return {}; }
  Status wait_mark(void*) override { return {}; }
  void release_mark(void*) override { marks--; }
  Status make_timed_mark(void*& mark) override { return make_mark(mark); }
  Status seconds_between(void*, void*, double&) override { return error(Code::unsupported, "fake: no clock"); }
  Status begin_recording() override { return {}; }
  Status end_recording(void*& recording) override {
    recorded++;
    recording = std::malloc(1);
    return {};
  }
  Status replay(void*) override {
    replayed++;
    return {};
  }
  void release_recording(void* recording) override {
    std::free(recording);
    released_recordings++;
  }
};

// Passes values of `alive` to the caller while it holds: more at once than ever wanted shows in `most`.
struct Alive {
  std::atomic<int>& alive;
  std::atomic<int>& most;
  Alive(std::atomic<int>& alive, std::atomic<int>& most) : alive(alive), most(most) {
    const int now = ++alive;
    int seen = most;
    while (now > seen && !most.compare_exchange_weak(seen, now)) {
    }
  }
  ~Alive() { alive--; }
};

void overlap() {
  std::atomic<int> alive = 0, most = 0, beside = 0, done = 0;
  std::atomic<int> order = 0;
  bool in_order = true;
  {
    Engine engine(1, Target::cuda, std::make_shared<FakeDevice>());
    for (int i = 0; i < 60; i++) {
      if (i % 10 == 9) {
        engine.post([&, i] {
          if (alive != 0) beside++;
          if (order.exchange(i) > i) in_order = false;
          done++;
        });
        continue;
      }
      engine.post(
          [&] {
            const Alive here(alive, most);
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
            done++;
          },
          true);
    }
  }
  expect(done == 60, "every task is done");
  expect(beside == 0, "a task that must not overlap runs alone");
  expect(in_order, "tasks that run alone keep their order");
  expect(most <= DeviceExecutor::kLanes, "no more overlap than there are lanes");
  if (available_cores() >= 2) expect(most == DeviceExecutor::kLanes, "shared tasks overlap");
}

// While a task of a device waits, an engine that takes every core of the processor runs.
void beside_a_processor() {
  std::atomic<bool> ran = false, in_time = false;
  {
    Engine device(0, Target::cuda, std::make_shared<FakeDevice>()), processor(0, Target::ref);
    std::atomic<bool> begun = false;
    device.post([&] {
      begun = true;
      for (int i = 0; i < 5000 && !ran; i++) std::this_thread::sleep_for(std::chrono::milliseconds(1));
      in_time = ran.load();
    });
    while (!begun) std::this_thread::yield();
    processor.post([&] { ran = true; });
  }
  expect(in_time, "an engine of the processor does not wait for a device");
}

constexpr const char* kProgram = R"(mome-program 1
dims n
input x f32 n
buffer 0 f32 n live 0 0
output y 0
)";

// kProgram, tied to `weights`; null after a failure, which is reported.
std::shared_ptr<CompiledProgram> compile(WeightStore& weights) {
  std::shared_ptr<CompiledProgram> compiled;
  expect(CompiledProgram::create(kProgram, weights, Target::cuda, compiled).ok(), "a program without kernels is taken");
  return compiled;
}

RunRequest request_of(const std::vector<float>& x) {
  RunRequest request;
  request.dims = {static_cast<int64_t>(x.size())};
  request.inputs = {{ElementType::f32, x.data(), x.size()}};
  return request;
}

void runs() {
  const auto device = std::make_shared<FakeDevice>();
  {
    WeightStore weights;
    const std::shared_ptr<CompiledProgram> compiled = compile(weights);
    if (!compiled) return;
    Engine engine(1, Target::cuda, device);
    const std::vector<float> few(4, 1.0f), many(4000, 1.0f);
    RunResult result;
    for (int i = 0; i < 3; i++)
      expect(engine.run(*compiled, weights, request_of(few), result).ok() && result.outputs.at(0).size() == 4,
             "a run gives its outputs");
    expect(device->recorded == 1 && device->replayed == 2, "launched, recorded, replayed");
    const int64_t before = device->held;
    expect(engine.run(*compiled, weights, request_of(many), result).ok() && device->held > before,
           "memory grows for a larger shape");
    expect(device->released_recordings == 1, "what was recorded for the old memory is gone");
    const int64_t after = device->held;
    for (int i = 0; i < 50; i++)
      expect(engine.run(*compiled, weights, request_of(i % 2 == 0 ? few : many), result).ok(), "shapes come back");
    expect(device->held == after, "and take no more memory");

    device->fail_upload = true;
    expect(engine.run(*compiled, weights, request_of(few), result).code() == Code::device_unavailable &&
               result.outputs.empty(),
           "a failure is reported, without outputs");
    device->fail_upload = false;
    expect(engine.run(*compiled, weights, request_of(few), result).ok(), "the lane was given back");
    device->no_memory = true;
    const std::vector<float> most(400000, 1.0f);
    expect(engine.run(*compiled, weights, request_of(most), result).code() == Code::out_of_memory,
           "memory that does not suffice is reported");
    device->no_memory = false;
    expect(engine.run(*compiled, weights, request_of(few), result).ok() &&
               engine.run(*compiled, weights, request_of(most), result).ok(),
           "and leaves the engine usable");

    RunRequest aborted = request_of(few);
    aborted.cancelled = std::make_shared<std::atomic<bool>>(true);
    expect(engine.run(*compiled, weights, aborted, result).code() == Code::aborted, "an aborted run is not begun");
    RunRequest wrong = request_of(few);
    wrong.inputs[0].count = 3;
    expect(engine.run(*compiled, weights, wrong, result).code() == Code::invalid_shape, "inputs are checked");
  }
  expect(device->held == 0 && device->marks == 0, "everything on the device is given back");
  expect(device->released_recordings == device->recorded, "and every recording");
}

// Two threads, one program: as calls that overlap. (That values are their own is tested where there are kernels.)
void two_lanes() {
  const auto device = std::make_shared<FakeDevice>();
  WeightStore weights;
  const std::shared_ptr<CompiledProgram> compiled = compile(weights);
  if (!compiled) return;
  Engine engine(1, Target::cuda, device);
  std::atomic<int> right = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < DeviceExecutor::kLanes; t++) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 200; i++) {
        const std::vector<float> x(static_cast<size_t>(1 + (i * 7 + t) % 50), 2.0f);
        RunResult result;
        if (engine.run(*compiled, weights, request_of(x), result).ok() && result.outputs.at(0).size() == x.size())
          right++;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  expect(right == DeviceExecutor::kLanes * 200, "overlapping runs give outputs of their own sizes");
}

}  // namespace
}  // namespace mome

int main() {
  mome::overlap();
  mome::beside_a_processor();
  mome::runs();
  mome::two_lanes();
  std::printf("device_engine: %d checks, %d failed\n", mome::test::checks, mome::test::failures);
  return mome::test::failures == 0 && mome::test::checks > 0 ? 0 : 1;
}
