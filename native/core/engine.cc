#include "core/engine.h"

#include <algorithm>
#include <chrono>
#include <system_error>

#include "core/ops/spec.h"

namespace mome {
namespace {

size_t align(size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

}  // namespace

Engine::Engine(int threads, Target target, std::shared_ptr<Device> device)
    : pool_(threads),
      target_(target),
      device_(device ? std::make_unique<DeviceExecutor>(std::move(device), pool_) : nullptr) {
  const int coordinators = device_ ? DeviceExecutor::kLanes : 1;
  coordinators_.reserve(static_cast<size_t>(coordinators));
  try {
    for (int i = 0; i < coordinators; i++) coordinators_.emplace_back([this] { coordinate(); });
  } catch (const std::system_error&) {
    if (coordinators_.empty()) throw;  // one is enough, only runs do not overlap
  }
}

Engine::~Engine() {
  {
    const std::lock_guard lock(mutex_);
    closing_.store(true, std::memory_order_relaxed);
  }
  wake_.notify_all();
  for (std::thread& coordinator : coordinators_) coordinator.join();
}

void Engine::post(std::function<void()> task, bool shared) {
  {
    const std::lock_guard lock(mutex_);
    tasks_.push_back({std::move(task), shared});
    ask_for_turn();
  }
  wake_.notify_one();
}

// Asks as soon as there is a task to run next, not when a coordinator has woken up for it. A task of a device waits for
// the device most of the time: its threads are not counted, because CPU engines would otherwise wait for them.
void Engine::ask_for_turn() {
  if (!turn_ && running_ == 0 && !tasks_.empty()) turn_ = std::make_unique<ThreadLease>(device_ ? 0 : pool_.threads());
}

void Engine::coordinate() {
  std::unique_lock lock(mutex_);
  for (;;) {
    wake_.wait(lock, [&] {
      if (tasks_.empty()) return closing();
      return tasks_.front().shared ? !running_alone_ : running_ == 0;
    });
    if (tasks_.empty()) return;
    Task task = std::move(tasks_.front());
    tasks_.pop_front();
    running_++;
    running_alone_ = !task.shared;
    std::unique_ptr<ThreadLease> turn = std::move(turn_);
    lock.unlock();
    if (turn) turn->begin();
    task.work();
    task.work = nullptr;  // frees what the task holds before the next task begins
    lock.lock();
    running_--;
    running_alone_ = false;
    ask_for_turn();  // before this turn is over, so that nobody who comes later gets between
    wake_.notify_all();
    lock.unlock();
    turn.reset();
    lock.lock();
  }
}

Status Engine::pack_weights(CompiledProgram& compiled, WeightStore& weights, const std::atomic<bool>* cancelled) {
  if (compiled.prepared == weights.generation()) return {};
  for (const Instruction& instruction : compiled.program->instructions) {
    // Between whole weights only: a weight that is packed in part must never be taken for a packed one.
    if (closing() || (cancelled != nullptr && cancelled->load(std::memory_order_relaxed)))
      return error(Code::aborted, "run: aborted while weights were packed");
    for (const Operand& operand : instruction.operands) {
      if (operand.kind != Operand::Kind::parameter) continue;
      const int index = compiled.parameters[operand.index];
      if (!instruction.op->matrices.has(operand.key)) {
        MOME_RETURN_IF_ERROR(weights.load(index));
        continue;
      }
      const Form form = instruction.direction == Direction::forward ? Form::packed : Form::packed_transposed;
      MOME_RETURN_IF_ERROR(weights.pack(index, form, target_, instruction.op->matrix_type(weights.type()), pool_));
    }
  }
  compiled.prepared = weights.generation();
  return {};
}

Status Engine::release_plain(CompiledProgram& compiled, WeightStore& weights) {
  if (device_) return device_->prepare(compiled, weights);
  if (kernel_table(target_).packer(target_) == nullptr) return {};
  MOME_RETURN_IF_ERROR(pack_weights(compiled, weights, nullptr));
  std::vector<bool> packed_only(weights.size(), false);
  for (const Instruction& instruction : compiled.program->instructions) {
    for (const Operand& operand : instruction.operands) {
      if (operand.kind == Operand::Kind::parameter && instruction.op->matrices.has(operand.key)) {
        packed_only[compiled.parameters[operand.index]] = true;
      }
    }
  }
  weights.release_plain(packed_only);
  return {};
}

Status Engine::run(CompiledProgram& compiled, WeightStore& weights, const RunRequest& request, RunResult& result) {
  const Program& program = *compiled.program;
  const auto cancelled = [&] {
    return (request.cancelled && request.cancelled->load(std::memory_order_relaxed)) || closing();
  };
  if (cancelled()) return error(Code::aborted, "run: aborted before it started");
  if (device_) {
    if (request.first > 0 || request.keep || request.after)
      return error(Code::unsupported, "run: expected a run of all instructions on a device");
    return device_->run(compiled, weights, request, cancelled, result);
  }

  // A run that goes on works in the memory it left; that of other runs, which came between, is smaller as a rule.
  AlignedMemory paused = std::move(compiled.paused.arena);
  if (request.first > 0) {
    if (compiled.paused.next != request.first || compiled.paused.dims != request.dims)
      return error(Code::invalid_argument, "run: expected to go on with a run of the same sizes that was stopped");
    arena_ = std::move(paused);
  } else if (paused.bytes() > arena_.bytes()) {
    arena_ = std::move(paused);  // of a run that nobody went on with
  }
  compiled.paused.next = 0;

  // Bind sizes and inputs.
  std::vector<Located> inputs;
  MOME_RETURN_IF_ERROR(bind_inputs(program, request, inputs));
  std::shared_ptr<DecodedPlan> decoded;
  MOME_RETURN_IF_ERROR(compiled.plan(request.dims, decoded));
  const ArenaPlan& plan = decoded->plan;
  MOME_RETURN_IF_ERROR(pack_weights(compiled, weights, request.cancelled.get()));

  // Decode with the memory there is, to learn the workspace; once more where the arena has to grow for it.
  const auto reserve = [&](size_t bytes) -> Status {
    if (arena_.bytes() >= bytes) return {};
    if (request.first > 0) return error(Code::internal, "run: expected the memory of a stopped run to suffice");
    if (arena_.reserve(bytes)) return {};
    arena_bytes_.store(0, std::memory_order_relaxed);
    return error(Code::out_of_memory, "run: no memory for an arena of %zu bytes", bytes);
  };
  MOME_RETURN_IF_ERROR(reserve(plan.bytes));
  const uint64_t fresh_reads = decoded->take_inputs(inputs, request.scalars);
  size_t workspace = 0;
  const auto decode = [&] {
    return decoded->decode(
        {compiled, weights, arena_.data(), pool_.threads(), request.dims, request.scalars, inputs, fresh_reads},
        workspace);
  };
  MOME_RETURN_IF_ERROR(decode());
  if (const size_t total = align(plan.bytes) + workspace; arena_.bytes() < total) {
    MOME_RETURN_IF_ERROR(reserve(total));
    MOME_RETURN_IF_ERROR(decode());
  }
  arena_bytes_.store(arena_.bytes(), std::memory_order_relaxed);

  // Run. Once the run is cancelled, loops of kernels end early, and their results are discarded.
  std::vector<Call>& calls = decoded->calls;
  const ThreadPool::StopScope stop(pool_, request.cancelled.get(), &closing_);
  OpContext context{pool_, arena_.data() == nullptr ? nullptr : arena_.data() + align(plan.bytes), workspace};
  if (request.profile) result.start_profile(request, calls.size());
  for (size_t i = request.first; i < std::min(calls.size(), request.end); i++) {
    if (cancelled()) return error(Code::aborted, "run: aborted");
    const auto started = std::chrono::steady_clock::now();
    MOME_RETURN_IF_ERROR(calls[i].kernel->run(calls[i].args, context));
    if (request.after) request.after(i);
    if (request.profile)
      result.nanoseconds[i] =
          std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now() - started).count();
  }

  if (cancelled()) return error(Code::aborted, "run: aborted");

  // Hand out the outputs.
  result.outputs.resize(program.outputs.size());
  for (size_t i = 0; i < program.outputs.size(); i++) {
    const Located& located = decoded->buffers[program.outputs[i].buffer];
    const float* values = static_cast<const float*>(located.data);
    if (located.count() > 0) result.outputs[i].assign(values, values + located.count());
  }
  if (request.keep) {
    compiled.paused.arena = std::move(arena_);
    compiled.paused.dims = request.dims;
    compiled.paused.next = request.end;
  }
  return {};
}

}  // namespace mome
