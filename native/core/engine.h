// Runs programs: binds dimensions, plans the arena, decodes and calls kernels. One engine owns its threads and its arena; runs are
// handed to its coordinator thread and done one after the other.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

#include "core/decode.h"
#include "core/memory.h"
#include "core/program.h"
#include "core/weights.h"

namespace mome {

// Byte offsets of a program's buffers in the arena under one binding of its dimensions.
struct ArenaPlan {
  std::vector<size_t> offsets;                // per buffer
  std::vector<std::vector<int64_t>> shapes;   // per buffer
  size_t bytes = 0;
};

// Places every buffer so that no two that are alive at the same instruction overlap.
Status plan_arena(const Program& program, std::span<const int64_t> dims, ArenaPlan& plan);

// A plan with its instructions decoded: what the next run of the same shape takes over. Valid for one place of the arena and one
// generation of the weights.
struct DecodedPlan {
  ArenaPlan plan;
  const std::byte* arena = nullptr;
  uint64_t generation = 0;            // of the weights; 0 = nothing decoded yet
  std::vector<Located> buffers;
  std::vector<Call> calls;
  std::vector<size_t> workspaces;     // bytes each call asks for
};

// A program tied to the weights it reads; keeps the plans of the last few shapes.
class CompiledProgram {
 public:
  static Status create(std::string_view text, WeightStore& weights, Target target, std::shared_ptr<CompiledProgram>& compiled);

  std::unique_ptr<Program> program;
  std::vector<int> parameters;  // program parameter -> weight store index
  std::vector<bool> per_run;    // instructions that read an input or a scalar: decoded at every run
  uint64_t prepared = 0;        // generation of the weights for which all are loaded and packed
  Status plan(std::span<const int64_t> dims, std::shared_ptr<DecodedPlan>& plan);

 private:
  std::list<std::pair<std::vector<int64_t>, std::shared_ptr<DecodedPlan>>> plans_;
};

struct RunInput {
  ElementType type;
  const void* data = nullptr;
  size_t count = 0;  // elements
};

struct RunRequest {
  std::vector<int64_t> dims;      // as Program::dims
  std::vector<double> scalars;    // as Program::scalars
  std::vector<RunInput> inputs;   // as Program::inputs
  bool profile = false;
  std::shared_ptr<std::atomic<bool>> cancelled;
};

struct RunResult {
  std::vector<std::vector<float>> outputs;  // as Program::outputs
  std::vector<double> nanoseconds;          // per instruction, when profiled
};

class Engine {
 public:
  // threads 0 = available cores.
  Engine(int threads, Target target);
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

  size_t arena_bytes() const { return arena_bytes_.load(std::memory_order_relaxed); }

 private:
  void coordinate();
  Status pack_weights(CompiledProgram& compiled, WeightStore& weights);
  // Fills `decoded` for this run, taking over what an earlier run of the shape left; the bytes of workspace it needs.
  Status decode_all(CompiledProgram& compiled, WeightStore& weights, const RunRequest& request, std::span<const Located> inputs,
                    DecodedPlan& decoded, size_t& workspace);

  ThreadPool pool_;
  Target target_;
  AlignedMemory arena_;
  std::atomic<size_t> arena_bytes_{0};
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::function<void()>> tasks_;
  std::atomic<bool> closing_{false};
  std::thread coordinator_;
};

}  // namespace mome
