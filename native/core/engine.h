// Runs programs: binds dimensions, plans the arena, decodes and calls kernels. One engine owns its threads and its
// arena; runs are handed to its coordinator thread and done one after the other. An engine of a device has two
// coordinators: while one waits for its run, the other brings up the inputs of the next.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "core/compiled_program.h"
#include "core/device_executor.h"
#include "core/memory.h"
#include "core/thread_lease.h"

namespace mome {

class Engine {
 public:
  // Throws std::system_error where no thread can be started. threads 0 = available cores. Target::cuda comes with the
  // device it runs on; its threads only pack weights.
  Engine(int threads, Target target, std::shared_ptr<Device> device = nullptr);
  ~Engine();  // waits for the run in progress; queued tasks are still called, cancelled

  int threads() const { return pool_.threads(); }
  Target target() const { return target_; }
  ThreadPool& pool() { return pool_; }

  // Queues work for the coordinators. Tasks begin in order and run one at a time, except that `shared` tasks on a
  // device may overlap each other. On a processor each task waits for its turn at the cores (core/thread_lease.h). The
  // engines of a process together therefore never run more threads than there are cores, and none waits for long.
  void post(std::function<void()> task, bool shared = false);
  // True once the engine is being destroyed: queued tasks should give up.
  bool closing() const { return closing_.load(std::memory_order_relaxed); }

  // Runs a program. Called on a coordinator thread (or by a test, on any one thread).
  Status run(CompiledProgram& compiled, WeightStore& weights, const RunRequest& request, RunResult& result);
  // Packs every matrix `compiled` reads and drops their row-major form: for inference.
  Status release_plain(CompiledProgram& compiled, WeightStore& weights);

  size_t arena_bytes() const { return device_ ? device_->arena_bytes() : arena_bytes_.load(std::memory_order_relaxed); }

 private:
  void coordinate();
  void ask_for_turn();
  Status pack_weights(CompiledProgram& compiled, WeightStore& weights, const std::atomic<bool>* cancelled);

  ThreadPool pool_;
  Target target_;
  std::unique_ptr<DeviceExecutor> device_;
  AlignedMemory arena_;
  std::atomic<size_t> arena_bytes_{0};
  std::mutex mutex_;
  std::condition_variable wake_;
  struct Task {
    std::function<void()> work;
    bool shared;
  };
  std::deque<Task> tasks_;
  std::unique_ptr<ThreadLease> turn_;  // of the task that runs next, while none runs
  int running_ = 0;                    // tasks under way
  bool running_alone_ = false;         // one of them must not overlap
  std::atomic<bool> closing_{false};
  std::vector<std::thread> coordinators_;
};

}  // namespace mome
