#include "core/device_types.h"

#include "core/ops/spec.h"

namespace mome {
namespace {

int root_of(const Program& program, int buffer) {
  while (program.buffers[buffer].of >= 0) buffer = program.buffers[buffer].of;
  return buffer;
}

}  // namespace

Status infer_types(const Program& program, WeightType weights, std::vector<WeightType>& types,
                   std::vector<WeightType>& rows) {
  if (weights == WeightType::i8)
    return error(Code::unsupported, "device: expected float32 or bfloat16 weights, got int8");
  const size_t count = program.buffers.size();
  std::vector<bool> known(count, false);  // of roots
  std::vector<WeightType> root(count, WeightType::f32);
  rows.assign(program.instructions.size(), WeightType::f32);
  for (size_t i = 0; i < program.instructions.size(); i++) {
    const Instruction& instruction = program.instructions[i];
    const OpSpec& op = *instruction.op;
    const bool follows = op.device_rows == DeviceRows::same || op.device_rows == DeviceRows::to_float32;
    WeightType read = op.device_rows == DeviceRows::encoder ? weights : WeightType::f32;
    for (const Operand& operand : instruction.operands) {
      if (operand.kind != Operand::Kind::buffer && operand.kind != Operand::Kind::input) continue;
      if (!op.rows.has(operand.key)) {
        if (operand.kind == Operand::Kind::input || op.results.has(operand.key)) continue;
        return error(Code::unsupported, "device: %s: expected %s to be one of the op's rows or results", op.name.data(),
                     operand.key.c_str());
      }
      const WeightType found =
          operand.kind == Operand::Kind::input ? WeightType::f32 : root[root_of(program, operand.index)];
      if (follows) {
        read = found;
      } else if (found != read) {
        return error(Code::unsupported, "device: %s: expected %s rows in %s, got %s", op.name.data(),
                     weight_type_name(read).data(), operand.key.c_str(), weight_type_name(found).data());
      }
    }
    rows[i] = read;
    const bool keeps = op.device_rows == DeviceRows::encoder || op.device_rows == DeviceRows::same;
    for (const Operand& operand : instruction.operands) {
      if (operand.kind != Operand::Kind::buffer || !op.results.has(operand.key)) continue;
      const int to = root_of(program, operand.index);
      const WeightType type = keeps && !op.float32_results.has(operand.key) ? read : WeightType::f32;
      if (known[to] && root[to] != type) {
        return error(Code::unsupported, "device: %s: expected one type of all that is written to a buffer",
                     op.name.data());
      }
      known[to] = true;
      root[to] = type;
    }
  }
  types.resize(count);
  for (size_t i = 0; i < count; i++) types[i] = root[root_of(program, static_cast<int>(i))];
  return {};
}

}  // namespace mome
