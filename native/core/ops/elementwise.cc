#include "core/ops/elementwise.h"

#include "core/ops/spec.h"

namespace mome {
namespace {

// y = f(x), element by element.
template <typename Args>
void map_forward(Decoder& d, Args& a) {
  a.count = d.count("x");
  a.x = d.tensor("x", a.count);
  a.y = d.output("y", a.count);
}

void tanh_backward(Decoder& d, TanhBackward& a) {
  a.count = d.count("y");
  a.y = d.tensor("y", a.count);
  a.dy = d.tensor("dy", a.count);
  a.dx = d.output("dx", a.count);
}

void gelu_backward(Decoder& d, GeluBackward& a) {
  a.count = d.count("x");
  a.x = d.tensor("x", a.count);
  a.dy = d.tensor("dy", a.count);
  a.dx = d.output("dx", a.count);
}

void add_forward(Decoder& d, AddForward& a) {
  a.count = d.count("a");
  a.a = d.tensor("a", a.count);
  a.b = d.tensor("b", a.count);
  a.y = d.output("y", a.count);
}

void l2_normalize_forward(Decoder& d, L2NormalizeForward& a) {
  a.rows = d.rows("x");
  a.width = d.columns("x");
  a.x = d.tensor("x", a.rows * a.width);
  a.y = d.output("y", a.rows * a.width);
}

void l2_normalize_backward(Decoder& d, L2NormalizeBackward& a) {
  a.rows = d.rows("x");
  a.width = d.columns("x");
  a.x = d.tensor("x", a.rows * a.width);
  a.dy = d.tensor("dy", a.rows * a.width);
  a.dx = d.output("dx", a.rows * a.width);
}

}  // namespace

constinit const OpSpec tanh_op = {
    .name = TanhForward::kOp,
    .forward = decode_with<map_forward<TanhForward>>,
    .backward = decode_with<tanh_backward>,
    .rows = {"x"},
    .results = {"y"},
    .backward_results = {"dx"},
};

constinit const OpSpec gelu_op = {
    .name = GeluForward::kOp,
    .forward = decode_with<map_forward<GeluForward>>,
    .backward = decode_with<gelu_backward>,
    .rows = {"x"},
    .results = {"y"},
    .backward_results = {"dx"},
};

constinit const OpSpec add_op = {
    .name = AddForward::kOp,
    .forward = decode_with<add_forward>,
    .rows = {"a", "b"},
    .results = {"y"},
};

constinit const OpSpec l2_normalize_op = {
    .name = L2NormalizeForward::kOp,
    .forward = decode_with<l2_normalize_forward>,
    .backward = decode_with<l2_normalize_backward>,
    .rows = {"x"},
    .results = {"y"},
    .backward_results = {"dx"},
    .device_rows = DeviceRows::to_float32,
};

}  // namespace mome
