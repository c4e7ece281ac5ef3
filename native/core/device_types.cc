#include "core/device_types.h"

namespace mome {
namespace {

// How an op's kernels treat types: `encoder` reads and writes the encoder's type, `same` writes what it reads, `to_f32` reads either and
// writes float32, `f32` does not know bfloat16.
enum class Typing { encoder, same, to_f32, f32 };

Typing typing_of(Op op) {
  switch (op) {
    case Op::patch_embed:
    case Op::text_embed:
    case Op::qkv:
    case Op::attention:
    case Op::proj_residual:
    case Op::expert_ffn:
      return Typing::encoder;
    case Op::layer_norm:
    case Op::gather_rows:
      return Typing::same;
    case Op::linear:
    case Op::l2_normalize:
      return Typing::to_f32;
    case Op::tanh:
    case Op::gelu:
    case Op::add:
    case Op::cross_entropy:
    case Op::soft_bce:
    case Op::contrastive:
    case Op::adamw:
    case Op::squared_norm:
      return Typing::f32;
  }
  return Typing::f32;
}

// Operands that are rows the op reads, and what it writes; everything else is parameters, indices and numbers.
bool is_rows(std::string_view key) {
  for (const std::string_view rows : {"x", "a", "b", "qkv", "logits", "targets", "image", "text", "similarity"}) {
    if (key == rows) return true;
  }
  return false;
}
bool is_output(Op op, std::string_view key) {
  if (op == Op::contrastive && key == "similarity") return true;
  return key == "y" || key == "out" || key == "loss" || key == "lse" || key == "pre_activation";
}
bool is_always_f32(std::string_view key) { return key == "lse" || key == "pre_activation" || key == "loss"; }

int root_of(const Program& program, int buffer) {
  while (program.buffers[buffer].of >= 0) buffer = program.buffers[buffer].of;
  return buffer;
}

}  // namespace

Status infer_types(const Program& program, WeightType weights, std::vector<WeightType>& types, std::vector<WeightType>& rows) {
  if (weights == WeightType::i8) return error(Code::unsupported, "device: expected float32 or bfloat16 weights, got int8");
  const size_t count = program.buffers.size();
  std::vector<bool> known(count, false);  // of roots
  std::vector<WeightType> root(count, WeightType::f32);
  rows.assign(program.instructions.size(), WeightType::f32);
  for (size_t i = 0; i < program.instructions.size(); i++) {
    const Instruction& instruction = program.instructions[i];
    const Typing typing = typing_of(instruction.op);
    WeightType read = typing == Typing::encoder ? weights : WeightType::f32;
    for (const Operand& operand : instruction.operands) {
      if (!is_rows(operand.key) || is_output(instruction.op, operand.key)) continue;
      if (operand.kind != Operand::Kind::buffer && operand.kind != Operand::Kind::input) continue;
      const WeightType found = operand.kind == Operand::Kind::input ? WeightType::f32 : root[root_of(program, operand.index)];
      if (typing == Typing::same || typing == Typing::to_f32) read = found;
      else if (found != read) {
        return error(Code::unsupported, "device: %s: expected %s rows in %s, got %s", op_name(instruction.op).data(), weight_type_name(read).data(),
                     operand.key.c_str(), weight_type_name(found).data());
      }
    }
    rows[i] = read;
    const WeightType written = typing == Typing::encoder || typing == Typing::same ? read : WeightType::f32;
    for (const Operand& operand : instruction.operands) {
      if (operand.kind != Operand::Kind::buffer || !is_output(instruction.op, operand.key)) continue;
      const int to = root_of(program, operand.index);
      const WeightType type = is_always_f32(operand.key) ? WeightType::f32 : written;
      if (known[to] && root[to] != type) {
        return error(Code::unsupported, "device: %s: expected one type of all that is written to a buffer", op_name(instruction.op).data());
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
