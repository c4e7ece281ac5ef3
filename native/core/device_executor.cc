#include "core/device_executor.h"

#include <algorithm>
#include <bit>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "core/device_numbers.h"
#include "core/ops/spec.h"

namespace mome {
namespace {

constexpr size_t kMaxRecordings = 64;
constexpr size_t kDeviceAlignment = 256;  // of every input and of the workspace

size_t align(size_t bytes) { return (bytes + kDeviceAlignment - 1) / kDeviceAlignment * kDeviceAlignment; }

size_t element_bytes(ElementType type) { return type == ElementType::u8 ? 1 : 4; }
size_t element_bytes(WeightType type) { return type == WeightType::bf16 ? 2 : 4; }

// MOME_TRACE=recordings prints for each run whether its work was launched, recorded or replayed.
void trace(const char* what, size_t kept) {
  const char* wanted = std::getenv("MOME_TRACE");
  if (wanted != nullptr && std::strcmp(wanted, "recordings") == 0)
    std::fprintf(stderr, "run: %s, %zu kept\n", what, kept);
}

}  // namespace

DeviceExecutor::~DeviceExecutor() {
  (void)device_->finish();
  forget_recordings();
  for (Lane& lane : lanes_) {
    if (lane.done != nullptr) device_->release_mark(lane.done);
  }
}

void DeviceExecutor::forget_recordings() {
  for (const Recording& recording : recordings_) {
    if (recording.handle != nullptr) device_->release_recording(recording.handle);
  }
  recordings_.clear();
}

DeviceExecutor::Lane& DeviceExecutor::take_lane() {
  const std::lock_guard lock(lanes_mutex_);
  Lane& lane = lanes_[lanes_[0].taken ? 1 : 0];
  lane.taken = true;
  return lane;
}

Status DeviceExecutor::prepare(CompiledProgram& compiled, WeightStore& weights) {
  const std::lock_guard lock(mutex_);
  MOME_RETURN_IF_ERROR(device_->use());
  return send_weights(compiled, weights);
}

Status DeviceExecutor::send_weights(CompiledProgram& compiled, WeightStore& weights) {
  if (compiled.prepared == weights.generation()) return {};
  for (const Instruction& instruction : compiled.program->instructions) {
    for (const Operand& operand : instruction.operands) {
      if (operand.kind != Operand::Kind::parameter) continue;
      const Form form = instruction.op->matrices.has(operand.key) ? Form::packed : Form::plain;
      const WeightType type = form == Form::packed ? instruction.op->matrix_type(weights.type()) : WeightType::f32;
      MOME_RETURN_IF_ERROR(weights.send(compiled.parameters[operand.index], form, type, device_, pool_));
    }
  }
  compiled.prepared = weights.generation();
  return {};
}

// Grows memory where it is too small: recordings hold its old address, and work under way may use it. Inputs of both
// lanes grow at once and by half at least, where the limit has room for that, so that the recordings are seldom lost.
Status DeviceExecutor::reserve(Lane& lane, const Transfers& transfers, size_t arena_bytes) {
  if (lane.done == nullptr) MOME_RETURN_IF_ERROR(device_->make_mark(lane.done));
  if (arena_.bytes() < arena_bytes || lane.inputs.bytes() < transfers.up) {
    MOME_RETURN_IF_ERROR(device_->finish());
    forget_recordings();
    if (arena_.bytes() < arena_bytes) MOME_RETURN_IF_ERROR(arena_.reserve(device_, arena_bytes));
    if (const size_t had = lane.inputs.bytes(); had < transfers.up) {
      for (Lane& each : lanes_) {
        if (!each.inputs.reserve(device_, std::max(transfers.up, had + had / 2)).ok())
          MOME_RETURN_IF_ERROR(each.inputs.reserve(device_, transfers.up));
      }
    }
    arena_bytes_.store(arena_.bytes() + lanes_[0].inputs.bytes() + lanes_[1].inputs.bytes(), std::memory_order_relaxed);
  }
  if (lane.up.bytes() < transfers.up) MOME_RETURN_IF_ERROR(lane.up.reserve(device_, transfers.up, true));
  if (lane.down.bytes() < transfers.down) MOME_RETURN_IF_ERROR(lane.down.reserve(device_, transfers.down, true));
  return {};
}

Status DeviceExecutor::send_inputs(Lane& lane, const RunRequest& request, const std::vector<Located>& inputs,
                                   const Transfers& transfers) {
  if (!transfers.numbers.empty())
    std::memcpy(lane.up.data(), transfers.numbers.data(), transfers.numbers.size() * sizeof(int32_t));
  for (size_t i = 0; i < inputs.size(); i++) {
    const size_t bytes = request.inputs[i].count * element_bytes(inputs[i].type);
    if (bytes == 0) continue;
    std::memcpy(lane.up.data() + transfers.input_places[i], request.inputs[i].data, bytes);
  }
  return transfers.up == 0 ? Status() : device_->upload_ahead(lane.inputs.data(), lane.up.data(), transfers.up);
}

// Inputs of bytes go behind all others: they are pictures, and runs whose number of those differs have everything else
// at the same addresses.
void DeviceExecutor::place(const Program& program, const RunRequest& request, const std::vector<Located>& inputs,
                           Transfers& transfers) {
  transfers.up = align(transfers.numbers.size() * sizeof(int32_t));
  transfers.input_places.assign(inputs.size(), 0);
  for (const bool bytes : {false, true}) {
    for (size_t i = 0; i < inputs.size(); i++) {
      if ((program.inputs[i].type == ElementType::u8) != bytes) continue;
      transfers.input_places[i] = transfers.up;
      transfers.up += align(request.inputs[i].count * element_bytes(inputs[i].type));
    }
  }
}

// Gives a run's work to the device, up to the mark of its end.
Status DeviceExecutor::begin(Lane& lane, CompiledProgram& compiled, WeightStore& weights, const RunRequest& request,
                             const std::function<bool()>& cancelled, Transfers& transfers, RunResult& result) {
  const std::lock_guard lock(mutex_);
  const Program& program = *compiled.program;
  std::vector<Located> inputs;
  MOME_RETURN_IF_ERROR(device_->use());
  MOME_RETURN_IF_ERROR(bind_inputs(program, request, inputs));
  std::shared_ptr<DecodedPlan> decoded;
  MOME_RETURN_IF_ERROR(compiled.plan(request.dims, decoded));
  MOME_RETURN_IF_ERROR(send_weights(compiled, weights));
  const ArenaPlan& plan = decoded->plan;

  MOME_RETURN_IF_ERROR(device_numbers(program, request.dims, plan, transfers.numbers));
  place(program, request, inputs, transfers);
  for (const ProgramOutput& output : program.outputs) {
    size_t count = 1;
    for (const int64_t size : plan.shapes[output.buffer]) count *= static_cast<size_t>(size);
    transfers.output_places.push_back(transfers.down);
    transfers.output_bytes.push_back(count * element_bytes(compiled.types[output.buffer]));
    transfers.down += align(transfers.output_bytes.back());
  }

  size_t workspace = 0;
  workspace_offset_ = align(plan.bytes);
  const auto decode = [&]() -> Status {
    MOME_RETURN_IF_ERROR(reserve(lane, transfers, workspace_offset_ + workspace));
    for (size_t i = 0; i < inputs.size(); i++) {
      inputs[i].host = request.inputs[i].data;
      inputs[i].data = lane.inputs.data() == nullptr ? nullptr : lane.inputs.data() + transfers.input_places[i];
    }
    const DecodeRequest bound{.compiled = compiled,
                              .weights = weights,
                              .arena = arena_.data(),
                              .threads = pool_.threads(),
                              .dims = request.dims,
                              .scalars = request.scalars,
                              .inputs = inputs,
                              .device_numbers = reinterpret_cast<const int32_t*>(lane.inputs.data())};
    return decoded->decode(bound, workspace);
  };
  MOME_RETURN_IF_ERROR(decode());
  if (arena_.bytes() < workspace_offset_ + workspace) MOME_RETURN_IF_ERROR(decode());

  MOME_RETURN_IF_ERROR(send_inputs(lane, request, inputs, transfers));
  MOME_RETURN_IF_ERROR(run_calls(compiled, *decoded, workspace, request, cancelled, result));
  for (size_t i = 0; i < program.outputs.size(); i++) {
    if (transfers.output_bytes[i] == 0) continue;
    MOME_RETURN_IF_ERROR(device_->download(lane.down.data() + transfers.output_places[i],
                                           decoded->buffers[program.outputs[i].buffer].data,
                                           transfers.output_bytes[i]));
  }
  return device_->set_mark(lane.done);
}

Status DeviceExecutor::run(CompiledProgram& compiled, WeightStore& weights, const RunRequest& request,
                           const std::function<bool()>& cancelled, RunResult& result) {
  Lane& lane = take_lane();
  const auto give_back = [this](Lane* taken) {
    const std::lock_guard lock(lanes_mutex_);
    taken->taken = false;
  };
  const std::unique_ptr<Lane, decltype(give_back)> given_back(&lane, give_back);
  Transfers transfers;
  result.outputs.clear();
  Status status = begin(lane, compiled, weights, request, cancelled, transfers, result);
  if (status.ok()) {
    status = device_->wait_mark(lane.done);
  } else {
    const std::lock_guard lock(mutex_);
    (void)device_->finish();  // whatever was begun ends before its memory is used again
  }
  for (size_t i = 0; i < compiled.program->outputs.size() && status.ok(); i++) {
    const WeightType type = compiled.types[compiled.program->outputs[i].buffer];
    const size_t count = transfers.output_bytes[i] / element_bytes(type);
    const std::byte* from = lane.down.data() + transfers.output_places[i];
    std::vector<float>& values = result.outputs.emplace_back(count);
    if (count == 0) continue;
    if (type == WeightType::f32) {
      std::memcpy(values.data(), from, transfers.output_bytes[i]);
      continue;
    }
    for (size_t e = 0; e < count; e++) {
      uint16_t half;
      std::memcpy(&half, from + 2 * e, sizeof half);
      values[e] = std::bit_cast<float>(static_cast<uint32_t>(half) << 16);
    }
  }
  return status;
}

Status DeviceExecutor::launch_all(const CompiledProgram& compiled, const DecodedPlan& decoded, size_t workspace,
                                  const RunRequest& request, const std::function<bool()>& cancelled,
                                  RunResult& result) {
  OpContext context{pool_, arena_.data() + workspace_offset_, workspace, device_->queue()};
  for (size_t i = 0; i < decoded.calls.size(); i++) {
    if (cancelled()) return error(Code::aborted, "run: aborted");
    const auto started = std::chrono::steady_clock::now();
    context.device.rows = compiled.row_types[i];
    MOME_RETURN_IF_ERROR(decoded.calls[i].kernel->run(decoded.calls[i].args, context));
    if (!request.profile) continue;
    MOME_RETURN_IF_ERROR(device_->finish());
    result.nanoseconds[i] =
        std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now() - started).count();
  }
  return {};
}

Status DeviceExecutor::run_calls(const CompiledProgram& compiled, const DecodedPlan& decoded, size_t workspace,
                                 const RunRequest& request, const std::function<bool()>& cancelled, RunResult& result) {
  if (request.profile) {
    result.start_profile(request, decoded.calls.size());
    return launch_all(compiled, decoded, workspace, request, cancelled, result);
  }
  std::vector<std::byte> arguments;
  arguments.reserve(decoded.calls.size() * (sizeof(Kernel*) + 1 + kArgsBytes));
  for (size_t i = 0; i < decoded.calls.size(); i++) {
    const Call& call = decoded.calls[i];
    const auto* kernel = reinterpret_cast<const std::byte*>(&call.kernel);
    arguments.insert(arguments.end(), kernel, kernel + sizeof call.kernel);
    arguments.push_back(static_cast<std::byte>(compiled.row_types[i]));
    arguments.insert(arguments.end(), call.args, call.args + kArgsBytes);
  }
  const auto found = std::find_if(recordings_.begin(), recordings_.end(),
                                  [&](const Recording& r) { return r.arguments == arguments; });
  if (found == recordings_.end()) {
    recordings_.push_front({std::move(arguments), nullptr});
    if (recordings_.size() > kMaxRecordings) {
      if (recordings_.back().handle != nullptr) device_->release_recording(recordings_.back().handle);
      recordings_.pop_back();
    }
    trace("launched", recordings_.size());
    return launch_all(compiled, decoded, workspace, request, cancelled, result);
  }
  recordings_.splice(recordings_.begin(), recordings_, found);
  if (found->handle == nullptr) {
    MOME_RETURN_IF_ERROR(device_->begin_recording());
    const Status launched = launch_all(compiled, decoded, workspace, request, cancelled, result);
    void* handle = nullptr;
    const Status ended = device_->end_recording(handle);
    if (!launched.ok() || !ended.ok()) {
      if (handle != nullptr) device_->release_recording(handle);
      return launched.ok() ? ended : launched;
    }
    found->handle = handle;
    trace("recorded", recordings_.size());
  } else {
    trace("replayed", recordings_.size());
  }
  return device_->replay(found->handle);
}

}  // namespace mome
