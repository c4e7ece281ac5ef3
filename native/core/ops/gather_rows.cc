#include "core/ops/gather_rows.h"

#include "core/ops/spec.h"

namespace mome {
namespace {

void decode_forward(Decoder& d, GatherRowsForward& a) {
  a.rows = d.rows("x");
  a.width = d.columns("x");
  a.count = d.rows("index");
  a.x = d.tensor("x", a.rows * a.width);
  a.index = d.integers("index", a.count, 0, a.rows);
  a.y = d.output("y", a.count * a.width);
}

void decode_backward(Decoder& d, GatherRowsBackward& a) {
  a.rows = d.rows("dx");
  a.width = d.columns("dx");
  a.count = d.rows("index");
  a.index = d.integers("index", a.count, 0, a.rows);
  a.dy = d.tensor("dy", a.count * a.width);
  a.accumulate_dx = d.number("accumulate_dx", 0) != 0;
  a.dx = d.output("dx", a.rows * a.width);
}

}  // namespace

constinit const OpSpec gather_rows_op = {
    .name = GatherRowsForward::kOp,
    .forward = decode_with<decode_forward>,
    .backward = decode_with<decode_backward>,
    .rows = {"x"},
    .results = {"y"},
    .backward_results = {"dx"},
    .device_rows = DeviceRows::same,
};

}  // namespace mome
