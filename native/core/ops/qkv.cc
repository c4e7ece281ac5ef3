#include "core/ops/qkv.h"

#include "core/ops/spec.h"

namespace mome {
namespace {

void decode_forward(Decoder& d, QkvForward& a) {
  a.rows = d.rows("x");
  a.width = d.columns("x");
  a.x = d.tensor("x", a.rows * a.width);
  a.weight = d.matrix("weight", 3 * a.width, a.width);
  a.q_bias = d.tensor("q_bias", a.width);
  a.v_bias = d.tensor("v_bias", a.width);
  a.y = d.output("y", a.rows * 3 * a.width);
}

void decode_backward(Decoder& d, QkvBackward& a) {
  a.rows = d.rows("x");
  a.width = d.columns("x");
  a.x = d.tensor("x", a.rows * a.width);
  a.weight = d.matrix("weight", 3 * a.width, a.width);
  a.dy = d.tensor("dy", a.rows * 3 * a.width);
  a.dx = d.output("dx", a.rows * a.width);
  a.dweight = d.gradient("dweight", 3 * a.width * a.width);
  a.dq_bias = d.gradient("dq_bias", a.width);
  a.dv_bias = d.gradient("dv_bias", a.width);
}

}  // namespace

constinit const OpSpec qkv_op = {
    .name = QkvForward::kOp,
    .forward = decode_with<decode_forward>,
    .backward = decode_with<decode_backward>,
    .matrices = {"weight"},
    .rows = {"x"},
    .results = {"y"},
    .backward_results = {"dx"},
    .int8_matrices = true,
    .device_rows = DeviceRows::encoder,
};

}  // namespace mome
