#include "core/compiled_program.h"

#include <algorithm>

#include "core/device_numbers.h"
#include "core/device_types.h"
#include "core/ops/table.h"

namespace mome {
namespace {

constexpr size_t kMaxPlans = 16;        // shapes a program remembers
constexpr size_t kMaxDevicePlans = 64;  // on a device, whose shapes come in buckets, as many as are recorded

}  // namespace

Status CompiledProgram::create(std::string_view text, WeightStore& weights, Target target,
                               std::shared_ptr<CompiledProgram>& compiled) {
  return create(text, weights, target, op_table(), kernel_table(target), compiled);
}

Status CompiledProgram::create(std::string_view text, WeightStore& weights, Target target, OpTable ops,
                               const KernelTable& table, std::shared_ptr<CompiledProgram>& compiled) {
  auto fresh = std::make_shared<CompiledProgram>();
  fresh->target = target;
  MOME_RETURN_IF_ERROR(Program::parse(text, ops, fresh->program));
  for (const ProgramParameter& parameter : fresh->program->parameters) {
    const int index = weights.find(parameter.name);
    if (index < 0)
      return error(Code::not_found, "program: expected a parameter %s, the weights have none", parameter.name.c_str());
    int64_t count = 1;
    for (const Extent& extent : parameter.shape) count *= extent.size;
    if (weights.at(index).count != count) {
      return error(Code::invalid_shape, "program: expected %lld values in %s, got %lld", static_cast<long long>(count),
                   parameter.name.c_str(), static_cast<long long>(weights.at(index).count));
    }
    fresh->parameters.push_back(index);
  }
  for (const Instruction& instruction : fresh->program->instructions) {
    const OpSpec& op = *instruction.op;
    const Kernel* kernel = table.find(op.name, instruction.direction, target);
    if (kernel == nullptr) {
      return error(Code::unsupported, "program: no kernel %s.%s for target %s", op.name.data(),
                   direction_name(instruction.direction).data(), target_name(target).data());
    }
    if (op.decoder(instruction.direction) == nullptr) {
      return error(Code::unsupported, "program: %s.%s cannot be part of a program", op.name.data(),
                   direction_name(instruction.direction).data());
    }
    fresh->kernels.push_back(kernel);
    uint64_t reads = target == Target::cuda && op.device_numbers.count > 0 ? ~uint64_t{0} : 0;
    for (const Operand& operand : instruction.operands) {
      if (operand.kind == Operand::Kind::input) reads |= input_bit(static_cast<size_t>(operand.index));
      if (operand.kind == Operand::Kind::scalar) reads |= scalar_bit(static_cast<size_t>(operand.index));
    }
    fresh->run_reads.push_back(reads);
  }
  fresh->plan_dims =
      target == Target::cuda ? launch_dims(*fresh->program) : std::vector<bool>(fresh->program->dims.size(), true);
  if (target == Target::cuda)
    MOME_RETURN_IF_ERROR(infer_types(*fresh->program, weights.type(), fresh->types, fresh->row_types));
  compiled = std::move(fresh);
  return {};
}

Status CompiledProgram::plan(std::span<const int64_t> dims, std::shared_ptr<DecodedPlan>& plan) {
  const auto same = [&](const std::vector<int64_t>& other) {
    for (size_t i = 0; i < dims.size(); i++) {
      if (plan_dims[i] && other[i] != dims[i]) return false;
    }
    return true;
  };
  for (auto entry = plans_.begin(); entry != plans_.end(); ++entry) {
    if (!same(entry->first)) continue;
    plans_.splice(plans_.begin(), plans_, entry);
    plan = entry->second;
    return {};
  }
  auto fresh = std::make_shared<DecodedPlan>();
  MOME_RETURN_IF_ERROR(plan_arena(*program, dims, types, fresh->plan));
  plans_.emplace_front(std::vector<int64_t>(dims.begin(), dims.end()), fresh);
  if (plans_.size() > (types.empty() ? kMaxPlans : kMaxDevicePlans)) plans_.pop_back();
  plan = std::move(fresh);
  return {};
}

uint64_t DecodedPlan::take_inputs(std::vector<Located>& inputs, std::span<const double> run_scalars) {
  uint64_t fresh = 0;
  kept.resize(inputs.size());
  for (size_t i = 0; i < inputs.size(); i++) {
    if (inputs[i].type != ElementType::i32) {
      fresh |= input_bit(i);
      continue;
    }
    const auto* values = static_cast<const int32_t*>(inputs[i].data);
    const auto count = static_cast<size_t>(inputs[i].count());
    if (kept[i].size() != count || !std::equal(values, values + count, kept[i].begin())) {
      kept[i].assign(values, values + count);
      fresh |= input_bit(i);
    }
    inputs[i].data = kept[i].data();
  }
  scalars.resize(run_scalars.size());
  for (size_t i = 0; i < scalars.size(); i++) {
    if (scalars[i] != run_scalars[i]) fresh |= scalar_bit(i);
    scalars[i] = run_scalars[i];
  }
  return fresh;
}

Status DecodedPlan::decode(const DecodeRequest& request, size_t& workspace) {
  const CompiledProgram& compiled = request.compiled;
  const Program& program = *compiled.program;
  const size_t count = program.instructions.size();
  const bool all = generation != request.weights.generation() || arena != request.arena || cut != &blocking();
  generation = 0;  // until all went well
  if (all) {
    arena = request.arena;
    cut = &blocking();
    buffers.resize(program.buffers.size());
    for (size_t i = 0; i < buffers.size(); i++) {
      buffers[i].data = arena == nullptr ? nullptr : const_cast<std::byte*>(arena) + plan.offsets[i];
      buffers[i].shape = plan.shapes[i];
    }
    calls.resize(count);
    workspaces.assign(count, 0);
  }
  const bool packed = kernel_table(compiled.target).packer(compiled.target) != nullptr;
  Binding binding{program,        request.weights, compiled.target, compiled.parameters, request.dims, request.scalars,
                  request.inputs, buffers,         packed};
  const int32_t* device_numbers = request.device_numbers;
  workspace = 0;
  for (size_t i = 0; i < count; i++) {
    const Instruction& instruction = program.instructions[i];
    const int numbers = device_numbers == nullptr ? 0 : instruction.op->device_numbers.count;
    binding.device_numbers = numbers > 0 ? device_numbers : nullptr;
    device_numbers += numbers;
    if (all || (compiled.run_reads[i] & request.fresh_reads) != 0) {
      const Kernel& kernel = *compiled.kernels[i];
      MOME_RETURN_IF_ERROR(mome::decode(instruction, kernel, binding, calls[i]));
      workspaces[i] = kernel.workspace == nullptr ? 0 : kernel.workspace(calls[i].args, request.threads);
    }
    workspace = std::max(workspace, workspaces[i]);
  }
  generation = request.weights.generation();
  return {};
}

Status bind_inputs(const Program& program, const RunRequest& request, std::vector<Located>& inputs) {
  if (request.dims.size() != program.dims.size() || request.inputs.size() != program.inputs.size() ||
      request.scalars.size() != program.scalars.size()) {
    return error(Code::invalid_argument, "run: expected every dimension, scalar and input of the program");
  }
  inputs.resize(program.inputs.size());
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
  return {};
}

}  // namespace mome
