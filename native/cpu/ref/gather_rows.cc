#include "core/ops/gather_rows.h"

#include <cstring>

namespace mome::ref {
namespace {

Status forward(const GatherRowsForward& a, OpContext&) {
  for (int64_t i = 0; i < a.count; i++) {
    std::memcpy(a.y + i * a.width, a.x + int64_t{a.index[i]} * a.width, static_cast<size_t>(a.width) * sizeof(float));
  }
  return {};
}

Status backward(const GatherRowsBackward& a, OpContext&) {
  for (int64_t i = 0; !a.accumulate_dx && i < a.rows * a.width; i++) a.dx[i] = 0;
  for (int64_t i = 0; i < a.count; i++) {
    for (int64_t c = 0; c < a.width; c++) a.dx[int64_t{a.index[i]} * a.width + c] += a.dy[i * a.width + c];
  }
  return {};
}

}  // namespace

void register_gather_rows(KernelTable& table) {
  table.add<GatherRowsForward, forward>(Target::ref);
  table.add<GatherRowsBackward, backward>(Target::ref);
}

}  // namespace mome::ref
