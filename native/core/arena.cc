#include "core/arena.h"

#include <algorithm>

#include "core/memory.h"

namespace mome {
namespace {

// Most elements of one value: a product of sizes is refused long before it overflows.
constexpr int64_t kMaxElements = int64_t{1} << 40;

size_t align(size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

}  // namespace

Status bind_shape(const Extents& extents, std::span<const int64_t> dims, std::vector<int64_t>& shape) {
  int64_t count = 1;
  shape.clear();
  for (const Extent& extent : extents) {
    const int64_t size = extent.dim >= 0 ? dims[extent.dim] : extent.size;
    if (size < 0 || (size > 0 && count > kMaxElements / size))
      return error(Code::too_large, "run: a value is too large");
    count *= size;
    shape.push_back(size);
  }
  return {};
}

Status plan_arena(const Program& program, std::span<const int64_t> dims, std::span<const WeightType> types,
                  ArenaPlan& plan) {
  const size_t count = program.buffers.size();
  plan.offsets.assign(count, 0);
  plan.shapes.assign(count, {});
  std::vector<int> own;
  for (size_t i = 0; i < count; i++) {
    MOME_RETURN_IF_ERROR(bind_shape(program.buffers[i].shape, dims, plan.shapes[i]));
    if (program.buffers[i].kind == ProgramBuffer::Kind::own) own.push_back(static_cast<int>(i));
  }
  const auto element_bytes = [&](int index) {
    return types.empty() || types[index] == WeightType::f32 ? sizeof(float) : size_t{2};
  };
  const auto bytes_of = [&](int index) {
    size_t elements = 1;
    for (const int64_t size : plan.shapes[index]) elements *= static_cast<size_t>(size);
    return elements * element_bytes(index);
  };
  // Places the largest buffer first, and each at the lowest offset that no buffer alive at the same time occupies.
  std::stable_sort(own.begin(), own.end(), [&](int a, int b) { return bytes_of(a) > bytes_of(b); });
  std::vector<int> placed;
  for (const int index : own) {
    const ProgramBuffer& buffer = program.buffers[index];
    const size_t bytes = align(bytes_of(index));
    std::vector<std::pair<size_t, size_t>> taken;
    for (const int other : placed) {
      const ProgramBuffer& neighbour = program.buffers[other];
      if (neighbour.first > buffer.last || buffer.first > neighbour.last) continue;
      taken.emplace_back(plan.offsets[other], plan.offsets[other] + align(bytes_of(other)));
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
      if (begin < 0 || begin > rows)
        return error(Code::invalid_shape, "run: expected a row range inside %lld rows", static_cast<long long>(rows));
      size_t row_bytes = element_bytes(buffer.of);
      for (size_t d = 1; d < whole.size(); d++) row_bytes *= static_cast<size_t>(whole[d]);
      offset = static_cast<size_t>(begin) * row_bytes;
    }
    if (offset + bytes_of(static_cast<int>(i)) > bytes_of(buffer.of))
      return error(Code::invalid_shape, "run: expected a view inside its buffer");
    plan.offsets[i] = plan.offsets[buffer.of] + offset;
  }
  return {};
}

}  // namespace mome
