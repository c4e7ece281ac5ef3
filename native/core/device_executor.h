// Runs programs on a device: one arena there, inputs and outputs by way of pinned memory, launches recorded once a shape comes back.
#pragma once

#include <atomic>
#include <functional>
#include <list>
#include <memory>
#include <vector>

#include "core/compiled_program.h"
#include "core/device.h"

namespace mome {

class DeviceExecutor {
 public:
  DeviceExecutor(std::shared_ptr<Device> device, ThreadPool& pool) : device_(std::move(device)), pool_(pool) {}
  ~DeviceExecutor();

  // As Engine::run. Called on one thread at a time.
  Status run(CompiledProgram& compiled, WeightStore& weights, const RunRequest& request, const std::function<bool()>& cancelled, RunResult& result);
  // Brings every parameter `compiled` reads to the device.
  Status prepare(CompiledProgram& compiled, WeightStore& weights);

  size_t arena_bytes() const { return arena_bytes_.load(std::memory_order_relaxed); }
  // Runs that were replays of a recording.
  int64_t replays() const { return replays_; }

 private:
  // The launches of one run as a whole. Two runs whose decoded arguments are the same bytes are the same launches: lengths, indices and
  // pixels are read from device memory, sizes and addresses are in the arguments.
  struct Recording {
    std::vector<std::byte> arguments;
    void* handle = nullptr;  // null: seen once, not recorded yet
  };

  Status reserve(const ArenaPlan& plan, size_t transfer, size_t workspace);
  Status launch_all(const CompiledProgram& compiled, const DecodedPlan& decoded, size_t workspace, const RunRequest& request,
                    const std::function<bool()>& cancelled, RunResult& result);
  Status run_calls(const CompiledProgram& compiled, const DecodedPlan& decoded, size_t workspace, const RunRequest& request,
                   const std::function<bool()>& cancelled, RunResult& result);
  void forget_recordings();

  std::shared_ptr<Device> device_;
  ThreadPool& pool_;
  DeviceMemory arena_;     // inputs and values of the program, then workspace
  DeviceMemory transfer_;  // pinned: inputs on their way up, then outputs on their way down
  size_t workspace_offset_ = 0;
  std::list<Recording> recordings_;  // last used first
  std::atomic<size_t> arena_bytes_{0};
  int64_t replays_ = 0;
};

}  // namespace mome
