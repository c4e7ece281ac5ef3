#include "core/expert_bounds.h"

#include <string>

namespace mome {
namespace {

// begin0, end0, begin1, ... of an expert_ffn.
bool is_range_key(std::string_view key) {
  return (key.starts_with("begin") || key.starts_with("end")) && key.back() >= '0' && key.back() <= '9';
}

}  // namespace

Status expert_bounds(const Program& program, std::span<const int64_t> dims, const ArenaPlan& plan, std::vector<int32_t>& bounds) {
  bounds.clear();
  for (const Instruction& instruction : program.instructions) {
    if (instruction.op != Op::expert_ffn) continue;
    const auto number = [&](const Operand& operand) { return operand.dim >= 0 ? dims[operand.dim] : static_cast<int64_t>(operand.number); };
    const Operand* out = instruction.find("out");
    if (out == nullptr || out->kind != Operand::Kind::buffer) return error(Code::invalid_argument, "expert_ffn: expected a buffer as out");
    const std::vector<int64_t>& shape = plan.shapes[out->index];
    const int64_t rows = shape.empty() ? 1 : shape[0];
    int64_t last = 0;
    int experts = 0;
    for (int e = 0; e < kMaxExperts; e++) {
      const Operand* begin = instruction.find("begin" + std::to_string(e));
      const Operand* end = instruction.find("end" + std::to_string(e));
      if ((instruction.find("fc1_" + std::to_string(e)) != nullptr) != (begin != nullptr && end != nullptr)) {
        return error(Code::invalid_argument, "expert_ffn: expected a row range for every expert");
      }
      if (begin == nullptr) break;
      if (begin->kind != Operand::Kind::number || end->kind != Operand::Kind::number) return error(Code::invalid_argument, "expert_ffn: expected row ranges as numbers");
      const int64_t first = number(*begin);
      if (e == 0) bounds.push_back(static_cast<int32_t>(last = first));
      if (first != last || number(*end) < last || first < 0 || number(*end) > rows || rows > INT32_MAX) {
        return error(Code::invalid_shape, "expert_ffn: expected row ranges in order without gaps inside %lld rows", static_cast<long long>(rows));
      }
      bounds.push_back(static_cast<int32_t>(last = number(*end)));
      experts++;
    }
    if (experts == 0) return error(Code::invalid_argument, "expert_ffn: expected a row range");
    bounds.resize(bounds.size() + static_cast<size_t>(kMaxExperts - experts), static_cast<int32_t>(last));
  }
  return {};
}

std::vector<bool> launch_dims(const Program& program) {
  std::vector<bool> read(program.dims.size(), false);
  const auto mark = [&](int dim) {
    if (dim >= 0) read[static_cast<size_t>(dim)] = true;
  };
  for (const ProgramBuffer& buffer : program.buffers) {
    for (const Extent& extent : buffer.shape) mark(extent.dim);
    mark(buffer.begin.dim);
  }
  for (const Instruction& instruction : program.instructions) {
    for (const Operand& operand : instruction.operands) {
      if (instruction.op != Op::expert_ffn || !is_range_key(operand.key)) mark(operand.dim);
    }
  }
  return read;
}

}  // namespace mome
