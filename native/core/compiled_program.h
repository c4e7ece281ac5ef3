// A program tied to the weights it reads, with what runs of one shape leave for the next.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <list>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "core/arena.h"
#include "core/decode.h"
#include "core/program.h"
#include "core/weights.h"

namespace mome {

// The bit that stands for an input or a scalar of a program. Programs with many share bits: then more is decoded than need be.
constexpr uint64_t input_bit(size_t input) { return uint64_t{1} << (input % 32); }
constexpr uint64_t scalar_bit(size_t scalar) { return uint64_t{1} << (32 + scalar % 32); }

// A plan with its instructions decoded: what the next run of the same shape takes over. Valid for one place of the arena and one
// generation of the weights.
struct DecodedPlan {
  ArenaPlan plan;
  const std::byte* arena = nullptr;
  uint64_t generation = 0;            // of the weights; 0 = nothing decoded yet
  std::vector<Located> buffers;
  std::vector<Call> calls;
  std::vector<size_t> workspaces;     // bytes each call asks for
  std::vector<std::vector<int32_t>> kept;  // inputs of integers of the last run, where its calls read them
  std::vector<double> scalars;             // of the last run

  // What a run gives anew: bits as in CompiledProgram::run_reads. Inputs of integers are copied to where the calls of the last run read
  // them, and `inputs` lie there afterwards: those whose values are the same are not new. For runs on this processor.
  uint64_t take_inputs(std::vector<Located>& inputs, std::span<const double> run_scalars);

  // Fills all of it for this run, taking over what an earlier run of the shape left; `workspace` is the most a call asks for.
  // `run_reads`: of each instruction; those that read nothing of `fresh_reads` are taken over.
  // `expert_bounds`: where a device has those of the run (core/expert_bounds.h).
  Status decode(const Program& program, WeightStore& weights, Target target, std::span<const int> parameters, std::span<const uint64_t> run_reads,
                uint64_t fresh_reads, const std::byte* arena_memory, int threads, std::span<const int64_t> dims, std::span<const double> run_scalars,
                std::span<const Located> inputs, size_t& workspace, const int32_t* expert_bounds = nullptr);
};

// A program tied to the weights it reads; keeps the plans of the last few shapes.
class CompiledProgram {
 public:
  static Status create(std::string_view text, WeightStore& weights, Target target, std::shared_ptr<CompiledProgram>& compiled);

  std::unique_ptr<Program> program;
  std::vector<int> parameters;  // program parameter -> weight store index
  std::vector<uint64_t> run_reads;  // what each instruction reads of a run: input_bit, scalar_bit; on a device all bits for expert bounds
  std::vector<bool> plan_dims;  // dimensions that plans depend on: all, but on a device those of core/expert_bounds.h
  std::vector<WeightType> types;      // per buffer, and what each instruction's rows are: cuda only
  std::vector<WeightType> row_types;
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
  std::chrono::steady_clock::time_point asked;  // when the run was asked for, where it is profiled
  std::shared_ptr<std::atomic<bool>> cancelled;
};

struct RunResult {
  std::vector<std::vector<float>> outputs;  // as Program::outputs
  std::vector<double> nanoseconds;          // per instruction, when profiled
  double start_nanoseconds = 0;             // from `asked` to the first instruction, when profiled

  // Before the first instruction.
  void start_profile(const RunRequest& request, size_t instructions) {
    nanoseconds.assign(instructions, 0);
    start_nanoseconds = std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now() - request.asked).count();
  }
};

// Checks a request against the program and gives its inputs their shapes.
Status bind_inputs(const Program& program, const RunRequest& request, std::vector<Located>& inputs);

}  // namespace mome
