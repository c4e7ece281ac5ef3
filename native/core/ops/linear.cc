#include "core/ops/linear.h"

#include "core/ops/spec.h"

namespace mome {
namespace {

void decode_forward(Decoder& d, LinearForward& a) {
  const int64_t outputs = d.rows("weight");
  const int64_t inputs = d.columns("weight");
  a.rows = d.rows("x");
  a.x = d.tensor("x", a.rows * inputs);
  a.weight = d.matrix("weight", outputs, inputs);
  a.bias = d.tensor("bias", outputs, true);
  a.y = d.output("y", a.rows * outputs);
}

void decode_backward(Decoder& d, LinearBackward& a) {
  const int64_t outputs = d.rows("weight");
  const int64_t inputs = d.columns("weight");
  a.rows = d.rows("x");
  a.x = d.tensor("x", a.rows * inputs);
  a.weight = d.matrix("weight", outputs, inputs);
  a.dy = d.tensor("dy", a.rows * outputs);
  a.dx = d.output("dx", a.rows * inputs, true);
  a.dweight = d.gradient("dweight", outputs * inputs);
  a.dbias = d.gradient("dbias", outputs);
}

}  // namespace

constinit const OpSpec linear_op = {
    .name = LinearForward::kOp,
    .forward = decode_with<decode_forward>,
    .backward = decode_with<decode_backward>,
    .matrices = {"weight"},
    .rows = {"x"},
    .results = {"y"},
    .backward_results = {"dx"},
    .device_rows = DeviceRows::to_float32,
};

}  // namespace mome
