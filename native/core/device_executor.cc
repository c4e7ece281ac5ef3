#include "core/device_executor.h"

#include <algorithm>
#include <bit>
#include <chrono>
#include <cstring>

namespace mome {
namespace {

constexpr size_t kMaxRecordings = 16;
constexpr size_t kDeviceAlignment = 256;  // of every input and of the workspace

size_t align(size_t bytes) { return (bytes + kDeviceAlignment - 1) / kDeviceAlignment * kDeviceAlignment; }

size_t element_bytes(ElementType type) { return type == ElementType::u8 ? 1 : 4; }
size_t element_bytes(WeightType type) { return type == WeightType::bf16 ? 2 : 4; }

}  // namespace

DeviceExecutor::~DeviceExecutor() {
  (void)device_->finish();
  forget_recordings();
}

void DeviceExecutor::forget_recordings() {
  for (const Recording& recording : recordings_) {
    if (recording.handle != nullptr) device_->release_recording(recording.handle);
  }
  recordings_.clear();
}

Status DeviceExecutor::prepare(CompiledProgram& compiled, WeightStore& weights) {
  if (compiled.prepared == weights.generation()) return {};
  for (const Instruction& instruction : compiled.program->instructions) {
    for (const Operand& operand : instruction.operands) {
      if (operand.kind != Operand::Kind::parameter) continue;
      const WeightType type = matrix_type(instruction.op, weights.type());
      const bool matrix = is_matrix_key(instruction.op, operand.key);
      MOME_RETURN_IF_ERROR(weights.send(compiled.parameters[operand.index], matrix ? &type : nullptr, device_, pool_));
    }
  }
  compiled.prepared = weights.generation();
  return {};
}

// Grows memory where it is too small: the recordings hold its old address.
Status DeviceExecutor::reserve(const ArenaPlan& plan, size_t transfer, size_t workspace) {
  const size_t total = align(plan.bytes) + align(transfer) + workspace;
  if (arena_.bytes() < total) {
    MOME_RETURN_IF_ERROR(device_->finish());
    forget_recordings();
    arena_bytes_.store(0, std::memory_order_relaxed);
    MOME_RETURN_IF_ERROR(arena_.reserve(device_, total));
    arena_bytes_.store(total, std::memory_order_relaxed);
  }
  if (transfer_.bytes() < transfer) MOME_RETURN_IF_ERROR(transfer_.reserve(device_, transfer, true));
  return {};
}

Status DeviceExecutor::run(CompiledProgram& compiled, WeightStore& weights, const RunRequest& request, const std::function<bool()>& cancelled,
                           RunResult& result) {
  const Program& program = *compiled.program;
  std::vector<Located> inputs;
  MOME_RETURN_IF_ERROR(device_->use());
  MOME_RETURN_IF_ERROR(bind_inputs(program, request, inputs));
  std::shared_ptr<DecodedPlan> decoded;
  MOME_RETURN_IF_ERROR(compiled.plan(request.dims, decoded));
  MOME_RETURN_IF_ERROR(prepare(compiled, weights));
  const ArenaPlan& plan = decoded->plan;

  // Inputs lie behind the values, outputs travel through the same pinned memory once the inputs are up.
  std::vector<size_t> places(inputs.size());
  size_t up = 0, down = 0;
  for (size_t i = 0; i < inputs.size(); i++) {
    places[i] = up;
    up += align(request.inputs[i].count * element_bytes(inputs[i].type));
  }
  std::vector<size_t> output_places(program.outputs.size()), output_bytes(program.outputs.size());
  for (size_t i = 0; i < program.outputs.size(); i++) {
    const int buffer = program.outputs[i].buffer;
    size_t count = 1;
    for (const int64_t size : plan.shapes[buffer]) count *= static_cast<size_t>(size);
    output_places[i] = up + down;
    output_bytes[i] = count * element_bytes(compiled.types[buffer]);
    down += align(output_bytes[i]);
  }

  size_t workspace = 0;
  const auto decode = [&]() -> Status {
    MOME_RETURN_IF_ERROR(reserve(plan, up + down, workspace));
    for (size_t i = 0; i < inputs.size(); i++) {
      inputs[i].host = request.inputs[i].data;
      inputs[i].data = arena_.data() == nullptr ? nullptr : arena_.data() + align(plan.bytes) + places[i];
    }
    workspace_offset_ = align(plan.bytes) + align(up + down);
    return decoded->decode(program, weights, Target::cuda, compiled.parameters, compiled.per_run, arena_.data(), pool_.threads(), request.dims, request.scalars,
                           inputs, workspace);
  };
  MOME_RETURN_IF_ERROR(decode());
  if (arena_.bytes() < workspace_offset_ + workspace) MOME_RETURN_IF_ERROR(decode());

  for (size_t i = 0; i < inputs.size(); i++) {
    const size_t bytes = request.inputs[i].count * element_bytes(inputs[i].type);
    if (bytes == 0) continue;
    std::memcpy(transfer_.data() + places[i], request.inputs[i].data, bytes);
    MOME_RETURN_IF_ERROR(device_->upload(inputs[i].data, transfer_.data() + places[i], bytes));
  }
  Status status = run_calls(compiled, *decoded, workspace, request, cancelled, result);
  for (size_t i = 0; i < program.outputs.size() && status.ok(); i++) {
    if (output_bytes[i] == 0) continue;
    status = device_->download(transfer_.data() + output_places[i], decoded->buffers[program.outputs[i].buffer].data, output_bytes[i]);
  }
  const Status finished = device_->finish();  // whatever was begun ends before its memory is used again
  if (!status.ok()) return status;
  MOME_RETURN_IF_ERROR(finished);

  result.outputs.resize(program.outputs.size());
  for (size_t i = 0; i < program.outputs.size(); i++) {
    const WeightType type = compiled.types[program.outputs[i].buffer];
    const size_t count = output_bytes[i] / element_bytes(type);
    const std::byte* from = transfer_.data() + output_places[i];
    result.outputs[i].resize(count);
    if (count == 0) continue;
    if (type == WeightType::f32) {
      std::memcpy(result.outputs[i].data(), from, output_bytes[i]);
      continue;
    }
    for (size_t e = 0; e < count; e++) {
      uint16_t half;
      std::memcpy(&half, from + 2 * e, sizeof half);
      result.outputs[i][e] = std::bit_cast<float>(static_cast<uint32_t>(half) << 16);
    }
  }
  return {};
}

Status DeviceExecutor::launch_all(const CompiledProgram& compiled, const DecodedPlan& decoded, size_t workspace, const RunRequest& request,
                                  const std::function<bool()>& cancelled, RunResult& result) {
  OpContext context{pool_, arena_.data() + workspace_offset_, workspace, device_->queue()};
  for (size_t i = 0; i < decoded.calls.size(); i++) {
    if (cancelled()) return error(Code::aborted, "run: aborted");
    const auto started = std::chrono::steady_clock::now();
    context.device.rows = compiled.row_types[i];
    MOME_RETURN_IF_ERROR(decoded.calls[i].kernel->run(decoded.calls[i].args, context));
    if (!request.profile) continue;
    MOME_RETURN_IF_ERROR(device_->finish());
    result.nanoseconds[i] = std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now() - started).count();
  }
  return {};
}

Status DeviceExecutor::run_calls(const CompiledProgram& compiled, const DecodedPlan& decoded, size_t workspace, const RunRequest& request,
                                 const std::function<bool()>& cancelled, RunResult& result) {
  if (request.profile) {
    result.nanoseconds.assign(decoded.calls.size(), 0);
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
  const auto found = std::find_if(recordings_.begin(), recordings_.end(), [&](const Recording& r) { return r.arguments == arguments; });
  if (found == recordings_.end()) {
    recordings_.push_front({std::move(arguments), nullptr});
    if (recordings_.size() > kMaxRecordings) {
      if (recordings_.back().handle != nullptr) device_->release_recording(recordings_.back().handle);
      recordings_.pop_back();
    }
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
  } else {
    replays_++;
  }
  return device_->replay(found->handle);
}

}  // namespace mome
