#include "core/engine.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <new>

namespace mome {
namespace {

constexpr size_t kMaxPlans = 16;                   // shapes a program remembers
constexpr int64_t kMaxElements = int64_t{1} << 40;  // of one value; catches overflow long before it happens

size_t align(size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

Status bind_shape(const Extents& extents, std::span<const int64_t> dims, std::vector<int64_t>& shape) {
  int64_t count = 1;
  shape.clear();
  for (const Extent& extent : extents) {
    const int64_t size = extent.dim >= 0 ? dims[extent.dim] : extent.size;
    if (size < 0 || (size > 0 && count > kMaxElements / size)) return error(Code::too_large, "run: a value is too large");
    count *= size;
    shape.push_back(size);
  }
  return {};
}

size_t bytes_of(const std::vector<int64_t>& shape) {
  size_t count = 1;
  for (const int64_t size : shape) count *= static_cast<size_t>(size);
  return count * sizeof(float);
}

// Threads that may still start: engines of one process share it.
class ThreadLease {
 public:
  explicit ThreadLease(int threads) : threads_(threads) {
    std::unique_lock lock(mutex());
    freed().wait(lock, [&] { return running() == 0 || running() + threads_ <= available_cores(); });
    running() += threads_;
  }
  ~ThreadLease() {
    {
      const std::lock_guard lock(mutex());
      running() -= threads_;
    }
    freed().notify_all();
  }
  ThreadLease(const ThreadLease&) = delete;
  ThreadLease& operator=(const ThreadLease&) = delete;

 private:
  static std::mutex& mutex() {
    static std::mutex& shared = *new std::mutex();  // never destroyed: engines may outlive main
    return shared;
  }
  static std::condition_variable& freed() {
    static std::condition_variable& shared = *new std::condition_variable();
    return shared;
  }
  static int& running() {
    static int shared = 0;
    return shared;
  }
  int threads_;
};

}  // namespace

Status plan_arena(const Program& program, std::span<const int64_t> dims, ArenaPlan& plan) {
  const size_t count = program.buffers.size();
  plan.offsets.assign(count, 0);
  plan.shapes.assign(count, {});
  std::vector<int> own;
  for (size_t i = 0; i < count; i++) {
    MOME_RETURN_IF_ERROR(bind_shape(program.buffers[i].shape, dims, plan.shapes[i]));
    if (program.buffers[i].kind == ProgramBuffer::Kind::own) own.push_back(static_cast<int>(i));
  }
  // Largest first, each at the lowest offset where nothing alive at the same time lies.
  std::stable_sort(own.begin(), own.end(), [&](int a, int b) { return bytes_of(plan.shapes[a]) > bytes_of(plan.shapes[b]); });
  std::vector<int> placed;
  for (const int index : own) {
    const ProgramBuffer& buffer = program.buffers[index];
    const size_t bytes = align(bytes_of(plan.shapes[index]));
    std::vector<std::pair<size_t, size_t>> taken;
    for (const int other : placed) {
      const ProgramBuffer& neighbour = program.buffers[other];
      if (neighbour.first > buffer.last || buffer.first > neighbour.last) continue;
      taken.emplace_back(plan.offsets[other], plan.offsets[other] + align(bytes_of(plan.shapes[other])));
    }
    std::sort(taken.begin(), taken.end());
    size_t offset = 0;
    for (const auto& [begin, end] : taken) {
      if (begin >= offset + bytes) break;
      offset = std::max(offset, end);
    }
    plan.offsets[index] = offset;
    plan.bytes = std::max(plan.bytes, offset + bytes);
    placed.push_back(index);
  }
  for (size_t i = 0; i < count; i++) {
    const ProgramBuffer& buffer = program.buffers[i];
    if (buffer.kind == ProgramBuffer::Kind::own) continue;
    const std::vector<int64_t>& whole = plan.shapes[buffer.of];
    size_t offset = 0;
    if (buffer.kind == ProgramBuffer::Kind::rows) {
      const int64_t begin = buffer.begin.dim >= 0 ? dims[buffer.begin.dim] : buffer.begin.size;
      const int64_t rows = whole.empty() ? 0 : whole[0];
      if (begin < 0 || begin > rows) return error(Code::invalid_shape, "run: expected a row range inside %lld rows", static_cast<long long>(rows));
      size_t row_bytes = sizeof(float);
      for (size_t d = 1; d < whole.size(); d++) row_bytes *= static_cast<size_t>(whole[d]);
      offset = static_cast<size_t>(begin) * row_bytes;
    }
    if (offset + bytes_of(plan.shapes[i]) > bytes_of(whole)) return error(Code::invalid_shape, "run: expected a view inside its buffer");
    plan.offsets[i] = plan.offsets[buffer.of] + offset;
  }
  return {};
}

Status CompiledProgram::create(std::string_view text, WeightStore& weights, Target target, std::shared_ptr<CompiledProgram>& compiled) {
  auto fresh = std::make_shared<CompiledProgram>();
  MOME_RETURN_IF_ERROR(Program::parse(text, fresh->program));
  for (const ProgramParameter& parameter : fresh->program->parameters) {
    const int index = weights.find(parameter.name);
    if (index < 0) return error(Code::not_found, "program: expected a parameter %s, the weights have none", parameter.name.c_str());
    int64_t count = 1;
    for (const Extent& extent : parameter.shape) count *= extent.size;
    if (weights.at(index).count != count) {
      return error(Code::invalid_shape, "program: expected %lld values in %s, got %lld", static_cast<long long>(count), parameter.name.c_str(),
                   static_cast<long long>(weights.at(index).count));
    }
    fresh->parameters.push_back(index);
  }
  for (const Instruction& instruction : fresh->program->instructions) {
    if (kernel_table().find(instruction.op, instruction.direction, target) == nullptr) {
      return error(Code::unsupported, "program: no kernel %s.%s for target %s", op_name(instruction.op).data(),
                   direction_name(instruction.direction).data(), target_name(target).data());
    }
    fresh->per_run.push_back(std::any_of(instruction.operands.begin(), instruction.operands.end(), [](const Operand& operand) {
      return operand.kind == Operand::Kind::input || operand.kind == Operand::Kind::scalar;
    }));
  }
  compiled = std::move(fresh);
  return {};
}

Status CompiledProgram::plan(std::span<const int64_t> dims, std::shared_ptr<DecodedPlan>& plan) {
  for (auto entry = plans_.begin(); entry != plans_.end(); ++entry) {
    if (!std::equal(entry->first.begin(), entry->first.end(), dims.begin(), dims.end())) continue;
    plans_.splice(plans_.begin(), plans_, entry);
    plan = entry->second;
    return {};
  }
  auto fresh = std::make_shared<DecodedPlan>();
  MOME_RETURN_IF_ERROR(plan_arena(*program, dims, fresh->plan));
  plans_.emplace_front(std::vector<int64_t>(dims.begin(), dims.end()), fresh);
  if (plans_.size() > kMaxPlans) plans_.pop_back();
  plan = std::move(fresh);
  return {};
}

Engine::Engine(int threads, Target target) : pool_(threads), target_(target), coordinator_([this] { coordinate(); }) {}

Engine::~Engine() {
  {
    const std::lock_guard lock(mutex_);
    closing_.store(true, std::memory_order_relaxed);
  }
  wake_.notify_all();
  coordinator_.join();
}

void Engine::post(std::function<void()> task) {
  {
    const std::lock_guard lock(mutex_);
    tasks_.push_back(std::move(task));
  }
  wake_.notify_one();
}

void Engine::coordinate() {
  for (;;) {
    std::function<void()> task;
    {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [&] { return closing() || !tasks_.empty(); });
      if (tasks_.empty()) return;
      task = std::move(tasks_.front());
      tasks_.pop_front();
    }
    const ThreadLease lease(pool_.threads());
    task();
  }
}

Status Engine::pack_weights(CompiledProgram& compiled, WeightStore& weights) {
  if (compiled.prepared == weights.generation()) return {};
  for (const Instruction& instruction : compiled.program->instructions) {
    for (const Operand& operand : instruction.operands) {
      if (operand.kind != Operand::Kind::parameter) continue;
      const int index = compiled.parameters[operand.index];
      if (!is_matrix_key(instruction.op, operand.key)) {
        MOME_RETURN_IF_ERROR(weights.load(index));
        continue;
      }
      const Packing packing = instruction.direction == Direction::forward ? Packing::forward : Packing::input_gradient;
      MOME_RETURN_IF_ERROR(weights.pack(index, packing, target_, matrix_type(instruction.op, weights.type()), pool_));
    }
  }
  compiled.prepared = weights.generation();
  return {};
}

Status Engine::release_plain(CompiledProgram& compiled, WeightStore& weights) {
  if (kernel_table().packer(target_) == nullptr) return {};
  MOME_RETURN_IF_ERROR(pack_weights(compiled, weights));
  std::vector<bool> packed_only(weights.size(), false);
  for (const Instruction& instruction : compiled.program->instructions) {
    for (const Operand& operand : instruction.operands) {
      if (operand.kind == Operand::Kind::parameter && is_matrix_key(instruction.op, operand.key)) {
        packed_only[compiled.parameters[operand.index]] = true;
      }
    }
  }
  weights.release_plain(packed_only);
  return {};
}

Status Engine::decode_all(CompiledProgram& compiled, WeightStore& weights, const RunRequest& request, std::span<const Located> inputs,
                          DecodedPlan& decoded, size_t& workspace) {
  const Program& program = *compiled.program;
  const size_t count = program.instructions.size();
  const bool fresh = decoded.generation != weights.generation() || decoded.arena != arena_.data();
  if (fresh) {
    decoded.generation = 0;  // until all went well
    decoded.arena = arena_.data();
    decoded.buffers.resize(program.buffers.size());
    for (size_t i = 0; i < decoded.buffers.size(); i++) {
      decoded.buffers[i].data = arena_.data() == nullptr ? nullptr : arena_.data() + decoded.plan.offsets[i];
      decoded.buffers[i].shape = decoded.plan.shapes[i];
    }
    decoded.calls.resize(count);
    decoded.workspaces.assign(count, 0);
  }
  const Binding binding{program, weights, target_, compiled.parameters, request.dims, request.scalars, inputs, decoded.buffers};
  workspace = 0;
  for (size_t i = 0; i < count; i++) {
    if (fresh || compiled.per_run[i]) {
      Call& call = decoded.calls[i];
      MOME_RETURN_IF_ERROR(decode(program.instructions[i], binding, call));
      decoded.workspaces[i] = call.kernel->workspace == nullptr ? 0 : call.kernel->workspace(call.args, pool_.threads());
    }
    workspace = std::max(workspace, decoded.workspaces[i]);
  }
  decoded.generation = weights.generation();
  return {};
}

Status Engine::run(CompiledProgram& compiled, WeightStore& weights, const RunRequest& request, RunResult& result) {
  const Program& program = *compiled.program;
  const auto cancelled = [&] { return (request.cancelled && request.cancelled->load(std::memory_order_relaxed)) || closing(); };
  if (cancelled()) return error(Code::aborted, "run: aborted before it started");
  if (request.dims.size() != program.dims.size() || request.inputs.size() != program.inputs.size() ||
      request.scalars.size() != program.scalars.size()) {
    return error(Code::invalid_argument, "run: expected every dimension, scalar and input of the program");
  }

  // Bind sizes and inputs.
  std::shared_ptr<DecodedPlan> decoded;
  MOME_RETURN_IF_ERROR(compiled.plan(request.dims, decoded));
  const ArenaPlan& plan = decoded->plan;
  std::vector<Located> inputs(program.inputs.size());
  for (size_t i = 0; i < inputs.size(); i++) {
    const ProgramInput& declared = program.inputs[i];
    inputs[i].type = declared.type;
    inputs[i].data = const_cast<void*>(request.inputs[i].data);
    MOME_RETURN_IF_ERROR(bind_shape(declared.shape, request.dims, inputs[i].shape));
    if (request.inputs[i].type != declared.type || static_cast<int64_t>(request.inputs[i].count) != inputs[i].count()) {
      return error(Code::invalid_shape, "run: expected %lld elements in input %s, got %zu (or of another type)",
                   static_cast<long long>(inputs[i].count()), declared.name.c_str(), request.inputs[i].count);
    }
  }
  MOME_RETURN_IF_ERROR(pack_weights(compiled, weights));

  // Decode with the memory there is, to learn the workspace; once more where the arena has to grow for it.
  const auto reserve = [&](size_t bytes) -> Status {
    if (arena_.bytes() >= bytes) return {};
    if (arena_.reserve(bytes)) return {};
    arena_bytes_.store(0, std::memory_order_relaxed);
    return error(Code::out_of_memory, "run: no memory for an arena of %zu bytes", bytes);
  };
  MOME_RETURN_IF_ERROR(reserve(plan.bytes));
  size_t workspace = 0;
  MOME_RETURN_IF_ERROR(decode_all(compiled, weights, request, inputs, *decoded, workspace));
  if (const size_t total = align(plan.bytes) + workspace; arena_.bytes() < total) {
    MOME_RETURN_IF_ERROR(reserve(total));
    MOME_RETURN_IF_ERROR(decode_all(compiled, weights, request, inputs, *decoded, workspace));
  }
  arena_bytes_.store(arena_.bytes(), std::memory_order_relaxed);

  // Run.
  std::vector<Call>& calls = decoded->calls;
  OpContext context{pool_, arena_.data() == nullptr ? nullptr : arena_.data() + align(plan.bytes), workspace};
  if (request.profile) result.nanoseconds.assign(calls.size(), 0);
  for (size_t i = 0; i < calls.size(); i++) {
    if (cancelled()) return error(Code::aborted, "run: aborted");
    const auto started = std::chrono::steady_clock::now();
    MOME_RETURN_IF_ERROR(calls[i].kernel->run(calls[i].args, context));
    if (request.profile) result.nanoseconds[i] = std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now() - started).count();
  }

  // Hand out the outputs.
  result.outputs.resize(program.outputs.size());
  for (size_t i = 0; i < program.outputs.size(); i++) {
    const Located& located = decoded->buffers[program.outputs[i].buffer];
    const float* values = static_cast<const float*>(located.data);
    if (located.count() > 0) result.outputs[i].assign(values, values + located.count());
  }
  return {};
}

}  // namespace mome
