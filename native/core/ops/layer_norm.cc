#include "core/ops/layer_norm.h"

#include "core/ops/spec.h"

namespace mome {
namespace {

void decode_forward(Decoder& d, LayerNormForward& a) {
  a.rows = d.rows("x");
  a.width = d.columns("x");
  a.x = d.tensor("x", a.rows * a.width);
  a.gamma = d.tensor("gamma", a.width);
  a.beta = d.tensor("beta", a.width);
  a.eps = static_cast<float>(d.number("eps", 1e-6));
  a.y = d.output("y", a.rows * a.width);
}

void decode_backward(Decoder& d, LayerNormBackward& a) {
  a.rows = d.rows("x");
  a.width = d.columns("x");
  a.x = d.tensor("x", a.rows * a.width);
  a.gamma = d.tensor("gamma", a.width);
  a.eps = static_cast<float>(d.number("eps", 1e-6));
  a.dy = d.tensor("dy", a.rows * a.width);
  a.accumulate_dx = d.number("accumulate_dx", 0) != 0;
  a.dx = d.output("dx", a.rows * a.width);
  a.dgamma = d.gradient("dgamma", a.width);
  a.dbeta = d.gradient("dbeta", a.width);
}

}  // namespace

constinit const OpSpec layer_norm_op = {
    .name = LayerNormForward::kOp,
    .forward = decode_with<decode_forward>,
    .backward = decode_with<decode_backward>,
    .rows = {"x"},
    .results = {"y"},
    .backward_results = {"dx"},
    .device_rows = DeviceRows::same,
};

}  // namespace mome
