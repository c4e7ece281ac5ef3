#include "core/ops/proj_residual.h"

#include "core/ops/spec.h"

namespace mome {
namespace {

void decode_forward(Decoder& d, ProjResidualForward& a) {
  a.rows = d.rows("x");
  a.width = d.columns("x");
  a.x = d.tensor("x", a.rows * a.width);
  a.a = d.tensor("a", a.rows * a.width);
  a.weight = d.matrix("weight", a.width, a.width);
  a.bias = d.tensor("bias", a.width);
  a.gamma = d.tensor("gamma", a.width, true);
  a.row_scale = d.tensor("row_scale", a.rows, true);
  a.out = d.output("out", a.rows * a.width);
}

void decode_backward(Decoder& d, ProjResidualBackward& a) {
  a.rows = d.rows("a");
  a.width = d.columns("a");
  a.a = d.tensor("a", a.rows * a.width);
  a.weight = d.matrix("weight", a.width, a.width);
  a.bias = d.tensor("bias", a.width);
  a.gamma = d.tensor("gamma", a.width, true);
  a.row_scale = d.tensor("row_scale", a.rows, true);
  a.dout = d.tensor("dout", a.rows * a.width);
  a.da = d.output("da", a.rows * a.width);
  a.dweight = d.gradient("dweight", a.width * a.width);
  a.dbias = d.gradient("dbias", a.width);
  a.dgamma = d.gradient("dgamma", a.width);
}

}  // namespace

constinit const OpSpec proj_residual_op = {
    .name = ProjResidualForward::kOp,
    .forward = decode_with<decode_forward>,
    .backward = decode_with<decode_backward>,
    .matrices = {"weight"},
    .rows = {"x", "a"},
    .results = {"out"},
    .backward_results = {"da"},
    .int8_matrices = true,
    .device_rows = DeviceRows::encoder,
};

}  // namespace mome
