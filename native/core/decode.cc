#include "core/decode.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/ops/spec.h"

namespace mome {

Status decode(const Instruction& instruction, const Kernel& kernel, const Binding& binding, Call& call) {
  call.kernel = &kernel;
  std::memset(call.args, 0, sizeof call.args);  // equal arguments are equal bytes
  Decoder decoder(instruction, binding);
  return instruction.op->decoder(instruction.direction)(decoder, call.args);
}

Located Decoder::locate(std::string_view key) {
  const Operand* operand = instruction_.find(key);
  if (operand != nullptr) return locate(key, *operand);
  fail(Code::invalid_argument, key, "expected this operand, got none");
  return {};
}

Located Decoder::locate(std::string_view key, const Operand& operand) {
  switch (operand.kind) {
    case Operand::Kind::buffer: return binding_.buffers[operand.index];
    case Operand::Kind::input: return binding_.inputs[operand.index];
    case Operand::Kind::parameter:
    case Operand::Kind::gradient: {
      Parameter& parameter = binding_.weights.at(binding_.parameters[operand.index]);
      const bool gradient = operand.kind == Operand::Kind::gradient;
      Located located;
      if (binding_.target == Target::cuda)
        located.data = gradient ? nullptr : parameter.device[Form::plain].data();
      else
        located.data = gradient ? parameter.training.gradient.data() : parameter.host[Form::plain].data();
      for (const Extent& extent : binding_.program.parameters[operand.index].shape)
        located.shape.push_back(extent.size);
      return located;
    }
    case Operand::Kind::scalar:
    case Operand::Kind::number: break;
  }
  fail(Code::invalid_argument, key, "expected a tensor, got a number");
  return {};
}

void Decoder::fail(Code code, std::string_view key, const char* message) {
  if (!status_.ok()) return;
  status_ = error(code, "%s.%s: %.*s: %s", instruction_.op->name.data(), direction_name(instruction_.direction).data(),
                  static_cast<int>(key.size()), key.data(), message);
}

void Decoder::expect(bool condition, const char* message) {
  if (!condition) fail(Code::invalid_shape, "sizes", message);
}

const float* Decoder::tensor(std::string_view key, int64_t count, bool optional) {
  return floats(key, count, optional);
}

float* Decoder::output(std::string_view key, int64_t count, bool optional) {
  const OpSpec& op = *instruction_.op;
  const Keys& results = instruction_.direction == Direction::forward ? op.results : op.backward_results;
  if (!results.has(key)) fail(Code::internal, key, "expected the op's spec to name it among its results");
  return floats(key, count, optional);
}

float* Decoder::floats(std::string_view key, int64_t count, bool optional) {
  const Operand* operand = instruction_.find(key);
  if (operand == nullptr) {
    if (!optional) fail(Code::invalid_argument, key, "expected this operand, got none");
    return nullptr;
  }
  const Located located = locate(key, *operand);
  if (!status_.ok()) return nullptr;
  if (located.type != ElementType::f32) fail(Code::invalid_argument, key, "expected float32");
  const Operand::Kind kind = operand->kind;
  if (located.data == nullptr && count > 0 && (kind == Operand::Kind::parameter || kind == Operand::Kind::gradient)) {
    fail(Code::unsupported, key,
         kind == Operand::Kind::gradient ? "expected weights that are trained" : "this weight is kept packed only");
  }
  if (located.count() != count) {
    status_ = error(Code::invalid_shape, "%s.%s: %.*s: expected %lld elements, got %lld", instruction_.op->name.data(),
                    direction_name(instruction_.direction).data(), static_cast<int>(key.size()), key.data(),
                    static_cast<long long>(count), static_cast<long long>(located.count()));
  }
  return static_cast<float*>(located.data);
}

float* Decoder::gradient(std::string_view key, int64_t count) { return floats(key, count, true); }

const int32_t* Decoder::integers(std::string_view key, int64_t count, int64_t low, int64_t high, int64_t also,
                                 bool optional) {
  if (optional && !has(key)) return nullptr;
  const Located located = locate(key);
  if (!status_.ok()) return nullptr;
  if (located.type != ElementType::i32 || located.count() != count) {
    fail(Code::invalid_shape, key, "expected int32 of the right length");
    return nullptr;
  }
  const int32_t* values = static_cast<const int32_t*>(located.host != nullptr ? located.host : located.data);
  for (int64_t i = 0; i < count; i++) {
    if ((values[i] >= low && values[i] < high) || values[i] == also) continue;
    status_ = error(Code::invalid_argument, "%s: %.*s[%lld]: expected a value in [%lld, %lld), got %d",
                    instruction_.op->name.data(), static_cast<int>(key.size()), key.data(), static_cast<long long>(i),
                    static_cast<long long>(low), static_cast<long long>(high), values[i]);
    return nullptr;
  }
  return static_cast<const int32_t*>(located.data);
}

const int32_t* Decoder::host_integers(std::string_view key) {
  const Located located = locate(key);
  return static_cast<const int32_t*>(located.host != nullptr ? located.host : located.data);
}

const uint8_t* Decoder::bytes(std::string_view key, int64_t count) {
  if (!has(key)) return nullptr;
  const Located located = locate(key);
  if (located.type != ElementType::u8 || located.count() != count)
    fail(Code::invalid_shape, key, "expected bytes of the right length");
  return static_cast<const uint8_t*>(located.data);
}

Matrix Decoder::matrix(std::string_view key, int64_t rows, int64_t columns) {
  const OpSpec& op = *instruction_.op;
  if (!op.matrices.has(key)) {
    fail(Code::internal, key, "expected the op's spec to name it among its matrices");
    return {};
  }
  const Operand* operand = instruction_.find(key);
  if (operand == nullptr || operand->kind != Operand::Kind::parameter) {
    fail(Code::invalid_argument, key, "expected a parameter");
    return {};
  }
  const Parameter& parameter = binding_.weights.at(binding_.parameters[operand->index]);
  if (parameter.count != rows * columns) fail(Code::invalid_shape, key, "expected a weight of another shape");
  const WeightType type = op.matrix_type(binding_.weights.type());
  const bool forward = instruction_.direction == Direction::forward;
  const bool differentiable = type == WeightType::f32 || (type == WeightType::bf16 && multiplies_bf16(binding_.target));
  if (!forward && !differentiable) {
    fail(Code::unsupported, key,
         "expected weights in float32 to differentiate, or in bfloat16 where the target multiplies it");
  }
  Matrix matrix{rows, columns, nullptr, nullptr, nullptr, type, false};
  if (binding_.target == Target::cuda) {
    matrix.packed = parameter.device[Form::packed].data();
  } else {
    matrix.data = parameter.host[Form::plain].floats();
    matrix.packed = parameter.host[Form::packed].data();
    matrix.packed_transposed = parameter.host[Form::packed_transposed].data();
  }
  const void* read = forward ? matrix.packed : matrix.packed_transposed;
  if (binding_.packed && parameter.count > 0 && read == nullptr)
    fail(Code::internal, key, "expected a packed weight, got one that was not packed");
  return matrix;
}

double Decoder::number(std::string_view key, double fallback) {
  const Operand* operand = instruction_.find(key);
  if (operand == nullptr) return fallback;
  if (operand->kind == Operand::Kind::scalar) return binding_.scalars[operand->index];
  if (operand->kind != Operand::Kind::number) {
    fail(Code::invalid_argument, key, "expected a number");
    return fallback;
  }
  return operand->dim >= 0 ? static_cast<double>(binding_.dims[operand->dim]) : operand->number;
}

int64_t Decoder::integer(std::string_view key) {
  const double value = number(key, std::nan(""));
  if (!(std::abs(value) < 0x1p53) || value != std::floor(value)) {
    fail(Code::invalid_argument, key, "expected a whole number");
    return 0;
  }
  return static_cast<int64_t>(value);
}

int64_t Decoder::count(std::string_view key) { return locate(key).count(); }
int64_t Decoder::rows(std::string_view key) { return locate(key).rows(); }
int64_t Decoder::columns(std::string_view key) { return locate(key).columns(); }

}  // namespace mome
