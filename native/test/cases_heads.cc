// Cases of gather_rows, tanh, gelu, add, l2_normalize, the losses and the optimiser.
#include <array>
#include <cmath>

#include "core/ops/elementwise.h"
#include "core/ops/gather_rows.h"
#include "core/ops/losses.h"
#include "core/ops/optimizer.h"
#include "test/harness.h"

namespace mome::test {
namespace {

OpCase gather(int64_t rows, int64_t width, int64_t count) {
  Random random(41);
  const std::vector<int32_t> index =
      count == 0 ? std::vector<int32_t>{} : random.integers(count, 0, static_cast<int32_t>(rows));
  OpCase test{"gather_rows/" + std::to_string(count), "gather_rows", {{"x", random.normal(rows * width)}}, {}, {}};
  test.forward = [=](Runner& run, const Tensors& in, Tensors& out) {
    out["y"].resize(count * width);
    return run.run(GatherRowsForward{rows, width, count, in.at("x").data(), index.data(), out["y"].data()});
  };
  test.backward = [=](Runner& run, const Tensors&, const Tensors&, const Tensors& dout, Tensors& g) {
    g["x"].assign(rows * width, NAN);
    return run.run(GatherRowsBackward{rows, width, count, index.data(), dout.at("y").data(), false, g["x"].data()});
  };
  return test;
}

// One input, one output of the same size.
template <typename Forward>
OpCase unary(const std::string& name, std::string_view op, int64_t count, Forward forward) {
  Random random(42);
  OpCase test{name + "/" + std::to_string(count), op, {{"x", random.normal(count, 2)}}, {}, {}};
  test.forward = [=](Runner& run, const Tensors& in, Tensors& out) {
    out["y"].resize(count);
    return forward(run, in.at("x"), out["y"]);
  };
  return test;
}

OpCase tanh_case(int64_t count) {
  OpCase test = unary("tanh", "tanh", count, [=](Runner& run, const Tensor& x, Tensor& y) {
    return run.run(TanhForward{count, x.data(), y.data()});
  });
  test.backward = [=](Runner& run, const Tensors&, const Tensors& out, const Tensors& dout, Tensors& g) {
    g["x"].resize(count);
    return run.run(TanhBackward{count, out.at("y").data(), dout.at("y").data(), g["x"].data()});
  };
  return test;
}

OpCase gelu_case(int64_t count) {
  OpCase test = unary("gelu", "gelu", count, [=](Runner& run, const Tensor& x, Tensor& y) {
    return run.run(GeluForward{count, x.data(), y.data()});
  });
  test.backward = [=](Runner& run, const Tensors& in, const Tensors&, const Tensors& dout, Tensors& g) {
    g["x"].resize(count);
    return run.run(GeluBackward{count, in.at("x").data(), dout.at("y").data(), g["x"].data()});
  };
  return test;
}

OpCase add_case(int64_t count) {
  return unary("add", "add", count, [=](Runner& run, const Tensor& x, Tensor& y) {
    return run.run(AddForward{count, x.data(), x.data(), y.data()});
  });
}

OpCase l2_normalize(int64_t rows, int64_t width) {
  OpCase test = unary("l2_normalize", "l2_normalize", rows * width, [=](Runner& run, const Tensor& x, Tensor& y) {
    return run.run(L2NormalizeForward{rows, width, x.data(), y.data()});
  });
  test.backward = [=](Runner& run, const Tensors& in, const Tensors&, const Tensors& dout, Tensors& g) {
    g["x"].resize(rows * width);
    return run.run(L2NormalizeBackward{rows, width, in.at("x").data(), dout.at("y").data(), g["x"].data()});
  };
  return test;
}

OpCase cross_entropy(int64_t rows, int64_t classes, bool some_ignored) {
  Random random(43);
  std::vector<int32_t> labels =
      rows == 0 ? std::vector<int32_t>{} : random.integers(rows, 0, static_cast<int32_t>(classes));
  for (size_t row = 0; some_ignored && row < labels.size(); row += 2) labels[row] = -100;
  OpCase test{"cross_entropy/" + std::to_string(rows) + "x" + std::to_string(classes),
              "cross_entropy",
              {{"x", random.normal(rows * classes, 3)}},
              {},
              {}};
  test.forward = [=](Runner& run, const Tensors& in, Tensors& out) {
    out["y"].resize(1);
    return run.run(CrossEntropyForward{rows, classes, in.at("x").data(), labels.data(), out["y"].data()});
  };
  test.backward = [=](Runner& run, const Tensors& in, const Tensors&, const Tensors& dout, Tensors& g) {
    g["x"].resize(rows * classes);
    return run.run(
        CrossEntropyBackward{rows, classes, in.at("x").data(), labels.data(), dout.at("y")[0], g["x"].data()});
  };
  return test;
}

OpCase soft_bce(int64_t rows, int64_t classes) {
  Random random(44);
  Tensor targets = random.normal(rows * classes);
  for (float& target : targets) target = std::fmin(1.0f, std::fabs(target));
  OpCase test{"soft_bce/" + std::to_string(rows), "soft_bce", {{"x", random.normal(rows * classes, 3)}}, {}, {}};
  test.forward = [=](Runner& run, const Tensors& in, Tensors& out) {
    out["y"].resize(1);
    return run.run(SoftBceForward{rows, classes, in.at("x").data(), targets.data(), out["y"].data()});
  };
  test.backward = [=](Runner& run, const Tensors& in, const Tensors&, const Tensors& dout, Tensors& g) {
    g["x"].resize(rows * classes);
    return run.run(SoftBceBackward{rows, classes, in.at("x").data(), targets.data(), dout.at("y")[0], g["x"].data()});
  };
  return test;
}

OpCase contrastive(int64_t rows, int64_t width, bool grouped) {
  Random random(45);
  const std::vector<int32_t> group = random.integers(rows, 0, static_cast<int32_t>(rows / 2 + 1));
  OpCase test{"contrastive/" + std::to_string(rows) + (grouped ? "_grouped" : ""), "contrastive", {}, {}, {}};
  test.inputs = {
      {"image", random.normal(rows * width, 0.3f)}, {"text", random.normal(rows * width, 0.3f)}, {"log_scale", {1.2f}}};
  test.forward = [=](Runner& run, const Tensors& in, Tensors& out) {
    out["y"].resize(1);
    out["similarity"].resize(rows * rows);
    return run.run(ContrastiveForward{rows, width, in.at("image").data(), in.at("text").data(),
                                      in.at("log_scale").data(), grouped ? group.data() : nullptr,
                                      out["similarity"].data(), out["y"].data()});
  };
  test.backward = [=](Runner& run, const Tensors& in, const Tensors& out, const Tensors& dout, Tensors& g) {
    g["image"].resize(rows * width);
    g["text"].resize(rows * width);
    g["log_scale"].assign(1, 0);
    return run.run(ContrastiveBackward{rows, width, in.at("image").data(), in.at("text").data(),
                                       in.at("log_scale").data(), grouped ? group.data() : nullptr,
                                       out.at("similarity").data(), dout.at("y")[0], g["image"].data(),
                                       g["text"].data(), g["log_scale"].data()});
  };
  test.bound = 5e-6;
  return test;
}

// Parameters of so many values.
OpCase adamw(int64_t first, int64_t second) {
  Random random(46);
  const int64_t counts[] = {first, second};
  OpCase test{"adamw", "adamw", {}, {}, {}};
  for (int t = 0; t < 2; t++) {
    for (const char* key : {"p", "g", "m"}) test.inputs[key + std::to_string(t)] = random.normal(counts[t]);
    Tensor v = random.normal(counts[t]);
    for (float& value : v) value *= value;
    test.inputs["v" + std::to_string(t)] = v;
  }
  test.forward = [=, counts = std::array{first, second}](Runner& run, const Tensors& in, Tensors& out) {
    out = in;
    AdamwTensor tensors[2];
    for (int t = 0; t < 2; t++) {
      const std::string n = std::to_string(t);
      tensors[t] = {out["p" + n].data(), in.at("g" + n).data(), out["m" + n].data(), out["v" + n].data(),
                    counts[t],           t == 0 ? 0.0f : 0.05f, t == 0 ? 1.0f : 0.5f};
    }
    return run.run(AdamwForward{2, tensors, 7, 1e-2f, 0.9f, 0.98f, 1e-8f, 0.7f});
  };
  return test;
}

OpCase squared_norm() {
  Random random(47);
  OpCase test{"squared_norm", "squared_norm", {{"a", random.normal(3)}, {"b", random.normal(140001)}}, {}, {}};
  test.forward = [](Runner& run, const Tensors& in, Tensors& out) {
    const FlatTensor tensors[] = {{in.at("a").data(), static_cast<int64_t>(in.at("a").size())},
                                  {in.at("b").data(), static_cast<int64_t>(in.at("b").size())}};
    double sum = 0;
    const Status status = run.run(SquaredNormForward{2, tensors, &sum});
    out["y"] = {static_cast<float>(sum)};
    return status;
  };
  return test;
}

}  // namespace

void add_head_cases(std::vector<OpCase>& cases) {
  for (const int64_t count : {0, 1, 90}) cases.push_back(gather(20, 33, count));
  for (const int64_t count : {0, 1, 7, 8, 9, 15, 16, 17, 37, 20000}) {
    cases.push_back(tanh_case(count));
    cases.push_back(gelu_case(count));
    cases.push_back(add_case(count));
  }
  cases.push_back(l2_normalize(0, 4));
  cases.push_back(l2_normalize(70, 34));
}

void add_loss_cases(std::vector<OpCase>& cases) {
  cases.push_back(cross_entropy(0, 5, false));
  cases.push_back(cross_entropy(1, 2, true));  // nothing left to predict
  cases.push_back(cross_entropy(9, 37, true));
  cases.push_back(cross_entropy(40, 1000, false));
  cases.push_back(soft_bce(0, 3));
  cases.push_back(soft_bce(7, 29));
  for (const bool grouped : {false, true}) {
    cases.push_back(contrastive(1, 8, grouped));
    cases.push_back(contrastive(37, 34, grouped));
    cases.push_back(contrastive(100, 48, grouped));
  }
}

void add_optimizer_cases(std::vector<OpCase>& cases) {
  cases.push_back(adamw(1, 70000));
  cases.push_back(squared_norm());
}

void add_optimizer_perf_cases(std::vector<PerfCase>& cases) {
  const int64_t count = 10 << 20;
  const double bytes = 7.0 * count * sizeof(float);  // four tensors are read, three written
  cases.push_back({"adamw", Direction::forward, std::to_string(count), WeightType::f32, 15.0 * count, bytes,
                   [=] { return adamw(0, count); }});
}

}  // namespace mome::test
