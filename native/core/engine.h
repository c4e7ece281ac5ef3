// Runs programs: binds dimensions, plans the arena, decodes and calls kernels. One engine owns its threads and its arena; runs are
// handed to its coordinator thread and done one after the other.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

#include "core/compiled_program.h"
#include "core/device_executor.h"
#include "core/memory.h"

namespace mome {

class Engine {
 public:
  // threads 0 = available cores. Target::cuda comes with the device it runs on; its threads only pack weights.
  Engine(int threads, Target target, std::shared_ptr<Device> device = nullptr);
  ~Engine();  // waits for the run in progress; queued tasks are still called, cancelled

  int threads() const { return pool_.threads(); }
  Target target() const { return target_; }
  ThreadPool& pool() { return pool_; }

  // Queues work for the coordinator thread. Tasks run in order, one at a time; each holds a lease on its threads, so that
  // several engines of a process never run more threads together than there are cores.
  void post(std::function<void()> task);
  // True once the engine is being destroyed: queued tasks should give up.
  bool closing() const { return closing_.load(std::memory_order_relaxed); }

  // Runs a program. Called on the coordinator thread (or by a test, on any one thread).
  Status run(CompiledProgram& compiled, WeightStore& weights, const RunRequest& request, RunResult& result);
  // Packs every matrix `compiled` reads and drops their row-major form: for inference.
  Status release_plain(CompiledProgram& compiled, WeightStore& weights);

  size_t arena_bytes() const { return device_ ? device_->arena_bytes() : arena_bytes_.load(std::memory_order_relaxed); }

 private:
  void coordinate();
  Status pack_weights(CompiledProgram& compiled, WeightStore& weights);

  ThreadPool pool_;
  Target target_;
  std::unique_ptr<DeviceExecutor> device_;
  AlignedMemory arena_;
  std::atomic<size_t> arena_bytes_{0};
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::function<void()>> tasks_;
  std::atomic<bool> closing_{false};
  std::thread coordinator_;
};

}  // namespace mome
