// A program tied to the weights it reads, and the decoded plans that runs of one shape share.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "core/arena.h"
#include "core/blocking.h"
#include "core/decode.h"
#include "core/program.h"
#include "core/weights.h"

namespace mome {

// The bit that stands for an input or a scalar of a program. In a program with more than 32 of them several share a
// bit: then a call is decoded again although nothing that it reads has changed.
constexpr uint64_t input_bit(size_t input) { return uint64_t{1} << (input % 32); }
constexpr uint64_t scalar_bit(size_t scalar) { return uint64_t{1} << (32 + scalar % 32); }

class CompiledProgram;

// The arguments of DecodedPlan::decode: a compiled program and the values of one run.
struct DecodeRequest {
  const CompiledProgram& compiled;
  WeightStore& weights;
  const std::byte* arena;  // memory of the plan's bytes
  int threads;
  std::span<const int64_t> dims;
  std::span<const double> scalars;
  std::span<const Located> inputs;
  uint64_t fresh_reads = ~uint64_t{0};      // The inputs and scalars that changed: input_bit, scalar_bit.
  const int32_t* device_numbers = nullptr;  // The run's numbers in the device's memory (core/device_numbers.h).
};

// A plan with its instructions decoded. The next run of the same shape reuses the decoded calls. They are invalid once
// the arena moves, weights change or work is cut in another way.
struct DecodedPlan {
  ArenaPlan plan;
  const std::byte* arena = nullptr;
  uint64_t generation = 0;  // of the weights; 0 = nothing decoded yet
  const Blocking* cut = nullptr;
  std::vector<Located> buffers;
  std::vector<Call> calls;
  std::vector<size_t> workspaces;          // bytes each call asks for
  std::vector<std::vector<int32_t>> kept;  // the last run's inputs of integers, at the addresses that its calls read
  std::vector<double> scalars;             // of the last run

  // Returns which inputs and scalars changed since the last run: input_bit and scalar_bit. Inputs of integers are
  // copied to the addresses that the last run's calls read, and `inputs` point there afterwards; one whose values are
  // equal has not changed. For runs on this processor.
  uint64_t take_inputs(std::vector<Located>& inputs, std::span<const double> run_scalars);

  // Decodes the calls that read something fresh and keeps the others. `workspace` becomes the most bytes that a call
  // asks for.
  Status decode(const DecodeRequest& request, size_t& workspace);
};

// A program tied to the weights it reads. It keeps the plans of the last few shapes.
class CompiledProgram {
 public:
  static Status create(std::string_view text, WeightStore& weights, Target target,
                       std::shared_ptr<CompiledProgram>& compiled);
  // With other ops and kernels than those of core/ops/table.cc and kernel_table; both must live as long as the program.
  static Status create(std::string_view text, WeightStore& weights, Target target, OpTable ops,
                       const KernelTable& table, std::shared_ptr<CompiledProgram>& compiled);

  std::unique_ptr<Program> program;
  Target target = Target::ref;
  std::vector<int> parameters;         // program parameter -> weight store index
  std::vector<const Kernel*> kernels;  // per instruction
  // Per instruction, the inputs and scalars that it reads: input_bit, scalar_bit. All bits where it reads numbers from
  // a device's memory.
  std::vector<uint64_t> run_reads;
  // The dimensions that plans depend on: on a processor all, on a device launch_dims (core/device_numbers.h).
  std::vector<bool> plan_dims;
  std::vector<WeightType> types;      // per buffer; of a device only
  std::vector<WeightType> row_types;  // per instruction, the type of its rows; of a device only
  uint64_t prepared = 0;              // generation of the weights for which all are loaded and packed
  // The memory of a run that stopped before its last instruction and is to go on; empty where there is none.
  struct {
    AlignedMemory arena;
    std::vector<int64_t> dims;
    size_t next = 0;  // the instruction it goes on with
  } paused;
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
  std::vector<int64_t> dims;     // as Program::dims
  std::vector<double> scalars;   // as Program::scalars
  std::vector<RunInput> inputs;  // as Program::inputs
  // The instructions to run, [first, end). A run from the first one may end early and `keep` its memory; the next run
  // of the program, with the same sizes and other inputs only where no instruction read them yet, goes on from there.
  size_t first = 0, end = SIZE_MAX;
  bool keep = false;
  std::function<void(size_t)> after;  // called after each instruction, with its number
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
    start_nanoseconds =
        std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now() - request.asked).count();
  }
};

// Checks a request against the program and gives its inputs their shapes.
Status bind_inputs(const Program& program, const RunRequest& request, std::vector<Located>& inputs);

}  // namespace mome
