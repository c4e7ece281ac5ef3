// Runs programs on a device: one arena there, inputs and outputs by way of pinned memory, launches recorded once a
// shape comes back. Two threads may run at a time: the inputs of one run go up while the kernels of the other work.
#pragma once

#include <atomic>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <vector>

#include "core/compiled_program.h"
#include "core/device.h"

namespace mome {

class DeviceExecutor {
 public:
  static constexpr int kLanes = 2;  // runs that may overlap

  DeviceExecutor(std::shared_ptr<Device> device, ThreadPool& pool) : device_(std::move(device)), pool_(pool) {}
  ~DeviceExecutor();

  // As Engine::run. Called on at most kLanes threads at a time.
  Status run(CompiledProgram& compiled, WeightStore& weights, const RunRequest& request,
             const std::function<bool()>& cancelled, RunResult& result);
  // Brings every parameter `compiled` reads to the device.
  Status prepare(CompiledProgram& compiled, WeightStore& weights);

  // Bytes on the device for values and inputs.
  size_t arena_bytes() const { return arena_bytes_.load(std::memory_order_relaxed); }

 private:
  // The launches of one run as a whole. Two runs whose decoded arguments are the same bytes are the same launches:
  // lengths, indices, pixels and device numbers are read from device memory, sizes and addresses are in the arguments.
  struct Recording {
    std::vector<std::byte> arguments;
    void* handle = nullptr;  // null: seen once, not recorded yet
  };

  // The memory of one run: its inputs on the device, and pinned memory of this processor that inputs and outputs pass
  // through.
  struct Lane {
    DeviceMemory inputs, up, down;
    void* done = nullptr;  // mark of the end of its work
    bool taken = false;
  };
  // Where inputs and outputs lie in a lane's memory. Device numbers (core/device_numbers.h) go up before the inputs.
  struct Transfers {
    std::vector<int32_t> numbers;
    std::vector<size_t> input_places, output_places, output_bytes;
    size_t up = 0, down = 0;
  };

  Lane& take_lane();
  static void place(const Program& program, const RunRequest& request, const std::vector<Located>& inputs,
                    Transfers& transfers);
  Status begin(Lane& lane, CompiledProgram& compiled, WeightStore& weights, const RunRequest& request,
               const std::function<bool()>& cancelled, Transfers& transfers, RunResult& result);
  Status reserve(Lane& lane, const Transfers& transfers, size_t arena_bytes);
  Status launch_all(const CompiledProgram& compiled, const DecodedPlan& decoded, size_t workspace,
                    const RunRequest& request, const std::function<bool()>& cancelled, RunResult& result);
  Status run_calls(const CompiledProgram& compiled, const DecodedPlan& decoded, size_t workspace,
                   const RunRequest& request, const std::function<bool()>& cancelled, RunResult& result);
  void forget_recordings();

  std::shared_ptr<Device> device_;
  ThreadPool& pool_;
  Status send_weights(CompiledProgram& compiled, WeightStore& weights);
  Status send_inputs(Lane& lane, const RunRequest& request, const std::vector<Located>& inputs,
                     const Transfers& transfers);

  std::mutex mutex_;    // held while work is given to the device
  DeviceMemory arena_;  // values of the program, then workspace
  size_t workspace_offset_ = 0;
  std::mutex lanes_mutex_;
  Lane lanes_[kLanes];
  std::list<Recording> recordings_;  // last used first
  std::atomic<size_t> arena_bytes_{0};
};

}  // namespace mome
