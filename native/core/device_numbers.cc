#include "core/device_numbers.h"

#include "core/ops/spec.h"

namespace mome {

Status device_numbers(const Program& program, std::span<const int64_t> dims, const ArenaPlan& plan,
                      std::vector<int32_t>& numbers) {
  numbers.clear();
  for (const Instruction& instruction : program.instructions) {
    const DeviceNumbers& wanted = instruction.op->device_numbers;
    if (wanted.count == 0) continue;
    const size_t first = numbers.size();
    numbers.resize(first + static_cast<size_t>(wanted.count));
    MOME_RETURN_IF_ERROR(wanted.read(instruction, dims, plan, numbers.data() + first));
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
      if (!instruction.op->device_numbers.keys.has(operand.key)) mark(operand.dim);
    }
  }
  return read;
}

}  // namespace mome
