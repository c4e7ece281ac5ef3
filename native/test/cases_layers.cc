// Cases of layer_norm, linear, qkv, proj_residual and expert_ffn.
#include "core/ops/expert_ffn.h"
#include "core/ops/layer_norm.h"
#include "core/ops/linear.h"
#include "core/ops/proj_residual.h"
#include "core/ops/qkv.h"
#include "test/harness.h"

namespace mome::test {
namespace {

// More than a processor packs at a time, forward or summed over rows: 1,024 and 2,048 at most, several blocks of either
// and of 512.
constexpr int64_t kManyRows = 2100;

std::string sized(const char* name, int64_t rows, int64_t width) {
  return std::string(name) + "/" + std::to_string(rows) + "x" + std::to_string(width);
}

OpCase layer_norm(int64_t rows, int64_t width) {
  Random random(11);
  OpCase test{sized("layer_norm", rows, width), "layer_norm", {}, {}, {}};
  test.inputs = {
      {"x", random.normal(rows * width, 2, 1)}, {"gamma", random.normal(width)}, {"beta", random.normal(width)}};
  test.forward = [=](Runner& run, const Tensors& in, Tensors& out) {
    out["y"].resize(rows * width);
    return run.run(LayerNormForward{rows, width, in.at("x").data(), in.at("gamma").data(), in.at("beta").data(), 1e-6f,
                                    out["y"].data()});
  };
  test.backward = [=](Runner& run, const Tensors& in, const Tensors&, const Tensors& dout, Tensors& g) {
    g["x"].assign(rows * width, 0.5f);  // accumulated upon
    g["gamma"].assign(width, 0);
    g["beta"].assign(width, 0);
    const Status status =
        run.run(LayerNormBackward{rows, width, in.at("x").data(), in.at("gamma").data(), 1e-6f, dout.at("y").data(),
                                  true, g["x"].data(), g["gamma"].data(), g["beta"].data()});
    for (float& value : g["x"]) value -= 0.5f;
    return status;
  };
  return test;
}

OpCase linear(int64_t rows, int64_t inputs, int64_t outputs, bool bias) {
  Random random(12);
  OpCase test{
      sized("linear", rows, inputs) + "x" + std::to_string(outputs) + (bias ? "" : "/no_bias"), "linear", {}, {}, {}};
  test.inputs = {{"x", random.normal(rows * inputs)}, {"weight", random.normal(outputs * inputs, 0.1f)}};
  if (bias) test.inputs["bias"] = random.normal(outputs);
  test.forward = [=](Runner& run, const Tensors& in, Tensors& out) {
    out["y"].resize(rows * outputs);
    return run.run(LinearForward{rows, in.at("x").data(), run.matrix(in.at("weight"), outputs, inputs),
                                 bias ? in.at("bias").data() : nullptr, out["y"].data()});
  };
  test.backward = [=](Runner& run, const Tensors& in, const Tensors&, const Tensors& dout, Tensors& g) {
    g["x"].resize(rows * inputs);
    g["weight"].assign(outputs * inputs, 0);
    if (bias) g["bias"].assign(outputs, 0);
    return run.run(LinearBackward{rows, in.at("x").data(), run.matrix(in.at("weight"), outputs, inputs),
                                  dout.at("y").data(), g["x"].data(), g["weight"].data(),
                                  bias ? g["bias"].data() : nullptr});
  };
  return test;
}

OpCase qkv(int64_t rows, int64_t width) {
  Random random(13);
  OpCase test{sized("qkv", rows, width), "qkv", {}, {}, {}};
  test.inputs = {{"x", random.normal(rows * width)},
                 {"weight", random.normal(3 * width * width, 0.1f)},
                 {"q_bias", random.normal(width)},
                 {"v_bias", random.normal(width)}};
  test.forward = [=](Runner& run, const Tensors& in, Tensors& out) {
    out["y"].resize(rows * 3 * width);
    return run.run(QkvForward{rows, width, in.at("x").data(), run.matrix(in.at("weight"), 3 * width, width),
                              in.at("q_bias").data(), in.at("v_bias").data(), out["y"].data()});
  };
  test.backward = [=](Runner& run, const Tensors& in, const Tensors&, const Tensors& dout, Tensors& g) {
    g["x"].resize(rows * width);
    g["weight"].assign(3 * width * width, 0);
    g["q_bias"].assign(width, 0);
    g["v_bias"].assign(width, 0);
    return run.run(QkvBackward{rows, width, in.at("x").data(), run.matrix(in.at("weight"), 3 * width, width),
                               dout.at("y").data(), g["x"].data(), g["weight"].data(), g["q_bias"].data(),
                               g["v_bias"].data()});
  };
  return test;
}

// Drop path of a few rows.
Tensor row_scales(int64_t rows) {
  Tensor scales(static_cast<size_t>(rows), 1.25f);
  for (int64_t row = 0; row < rows; row += 3) scales[row] = 0;
  return scales;
}

// With layer scale, or without; then with drop path, or without.
OpCase proj_residual(int64_t rows, int64_t width, bool scaled, bool dropped) {
  Random random(14);
  OpCase test{sized("proj_residual", rows, width) + (scaled ? "/scaled" : ""), "proj_residual", {}, {}, {}};
  test.inputs = {{"x", random.normal(rows * width)},
                 {"a", random.normal(rows * width)},
                 {"weight", random.normal(width * width, 0.1f)},
                 {"bias", random.normal(width)}};
  if (scaled) test.inputs["gamma"] = random.normal(width, 0.3f);
  const Tensor scales = row_scales(rows);
  test.forward = [=](Runner& run, const Tensors& in, Tensors& out) {
    out["y"].resize(rows * width);
    return run.run(ProjResidualForward{rows, width, in.at("x").data(), in.at("a").data(),
                                       run.matrix(in.at("weight"), width, width), in.at("bias").data(),
                                       scaled ? in.at("gamma").data() : nullptr, dropped ? scales.data() : nullptr,
                                       out["y"].data()});
  };
  test.backward = [=](Runner& run, const Tensors& in, const Tensors&, const Tensors& dout, Tensors& g) {
    g["a"].resize(rows * width);
    g["weight"].assign(width * width, 0);
    g["bias"].assign(width, 0);
    if (scaled) g["gamma"].assign(width, 0);
    g["x"] = dout.at("y");
    return run.run(ProjResidualBackward{rows, width, in.at("a").data(), run.matrix(in.at("weight"), width, width),
                                        in.at("bias").data(), scaled ? in.at("gamma").data() : nullptr,
                                        dropped ? scales.data() : nullptr, dout.at("y").data(), g["a"].data(),
                                        g["weight"].data(), g["bias"].data(), scaled ? g["gamma"].data() : nullptr});
  };
  return test;
}

OpCase proj_residual(int64_t rows, int64_t width, bool scaled) { return proj_residual(rows, width, scaled, scaled); }

const char* const kExpertKeys[] = {"norm_gamma", "norm_beta", "fc1", "fc1_bias", "fc2", "fc2_bias"};

// The experts of a case; `bounds` are the begin of the first row range and the end of each.
void fill_experts(Runner& run, const Tensors& in, const std::vector<int64_t>& bounds, int64_t width, int64_t hidden,
                  ExpertForward* expert) {
  for (size_t e = 0; e + 1 < bounds.size(); e++) {
    const auto at = [&](const char* key) -> const Tensor& { return in.at(key + std::to_string(e)); };
    expert[e] = {bounds[e],
                 bounds[e + 1],
                 at("norm_gamma").data(),
                 at("norm_beta").data(),
                 run.matrix(at("fc1"), hidden, width),
                 at("fc1_bias").data(),
                 run.matrix(at("fc2"), width, hidden),
                 at("fc2_bias").data()};
  }
}

// `given`: what a device is told instead of the bounds.
OpCase expert_rows(int64_t rows, std::vector<int64_t> bounds, std::vector<int32_t> given, int64_t width, int64_t hidden,
                   bool scaled, bool dropped) {
  Random random(15);
  const size_t experts = bounds.size() - 1;
  OpCase test{sized("expert_ffn", rows, width) + "/" + std::to_string(experts) + (scaled ? "_scaled" : ""),
              "expert_ffn",
              {},
              {},
              {}};
  test.roundings = 3;  // the result, the normalised rows and the hidden rows
  // Three times what was seen, and one; in a small case even one would hide too much.
  if (const int64_t activations = rows * (width + hidden); activations >= 75000)
    test.int8_ties = {rows, 1 + activations / 250000};
  test.inputs["x"] = random.normal(rows * width);
  if (scaled) test.inputs["gamma"] = random.normal(width, 0.3f);
  for (size_t e = 0; e < experts; e++) {
    const int64_t counts[] = {width, width, hidden * width, hidden, width * hidden, width};
    for (int key = 0; key < 6; key++) {
      test.inputs[kExpertKeys[key] + std::to_string(e)] =
          random.normal(counts[key], key == 0 ? 0.3f : 0.15f, key == 0 ? 1.0f : 0.0f);
    }
  }
  const Tensor scales = row_scales(rows);
  test.forward = [=](Runner& run, const Tensors& in, Tensors& out) {
    out["y"].resize(rows * width);
    const bool saved = run.saves();
    if (saved) out["u"].resize(rows * hidden);
    ExpertFfnForward args{};
    args.rows = rows, args.width = width, args.hidden = hidden, args.eps = 1e-6f, args.x = in.at("x").data(),
    args.experts = static_cast<int>(experts);
    fill_experts(run, in, bounds, width, hidden, args.expert);
    args.bounds = given.data();
    args.gamma = scaled ? in.at("gamma").data() : nullptr;
    args.row_scale = dropped ? scales.data() : nullptr;
    args.out = out["y"].data(), args.pre_activation = saved ? out["u"].data() : nullptr;
    return run.run(args);
  };
  test.backward = [=](Runner& run, const Tensors& in, const Tensors& out, const Tensors& dout, Tensors& g) {
    ExpertFfnBackward args{};
    args.rows = rows, args.width = width, args.hidden = hidden, args.eps = 1e-6f, args.x = in.at("x").data(),
    args.experts = static_cast<int>(experts);
    fill_experts(run, in, bounds, width, hidden, args.expert);
    args.gamma = scaled ? in.at("gamma").data() : nullptr;
    args.row_scale = dropped ? scales.data() : nullptr;
    args.pre_activation = out.at("u").data();
    g["x"] = dout.at("y");  // in place
    args.dout = g["x"].data(), args.dx = g["x"].data();
    for (size_t e = 0; e < experts; e++) {
      float* pointers[6];
      for (int key = 0; key < 6; key++) {
        const std::string name = kExpertKeys[key] + std::to_string(e);
        g[name].assign(in.at(name).size(), 0);
        pointers[key] = g[name].data();
      }
      args.gradient[e] = {pointers[0], pointers[1], pointers[2], pointers[3], pointers[4], pointers[5]};
    }
    if (scaled) {
      g["gamma"].assign(width, 0);
      args.dgamma = g["gamma"].data();
    }
    return run.run(args);
  };
  return test;
}

// Experts that take all rows; `ends` are the ends of their row ranges.
OpCase expert_ffn(std::vector<int64_t> ends, int64_t width, int64_t hidden, bool scaled) {
  const int64_t rows = ends.back();
  ends.insert(ends.begin(), 0);
  return expert_rows(rows, ends, {ends.begin(), ends.end()}, width, hidden, scaled, scaled);
}

// Rows of no expert before and behind the ranges: NaNs, which must not be read, and results that must stay as they
// were.
OpCase surplus_rows(int64_t rows, std::vector<int64_t> bounds, std::vector<int32_t> given, int64_t width,
                    int64_t hidden) {
  OpCase test = expert_rows(rows, bounds, given.empty() ? std::vector<int32_t>(bounds.begin(), bounds.end()) : given,
                            width, hidden, rows % 2 == 0, rows % 2 == 0);
  test.name += "/" + std::to_string(bounds.front()) + "_to_" + std::to_string(bounds.back()) +
               (given.empty() ? "" : "_given_wrong");
  Tensor& x = test.inputs["x"];
  std::fill(x.begin(), x.begin() + bounds.front() * width, NAN);
  std::fill(x.begin() + bounds.back() * width, x.end(), NAN);
  test.backward = nullptr;
  return test;
}

}  // namespace

void add_norm_cases(std::vector<OpCase>& cases) {
  for (const auto& [rows, width] :
       {std::pair<int64_t, int64_t>{0, 8}, {1, 1}, {37, 34}, {70, 192}, {5, 512}, {5, 768}, {5, 1024}})
    cases.push_back(layer_norm(rows, width));
  for (const int64_t width : {7, 8, 9, 15, 16, 17}) cases.push_back(layer_norm(3, width));  // around one vector
}

namespace {

// Whole numbers with 127 in every row of both operands: scales are 1, every product and sum is exact, and so must be
// the result. `extreme`: all rows are at +-127, in runs of one sign or of two, and weights at the most that fits, or
// they have one sign within eight columns and add up to the most that four may, for targets with such a limit.
OpCase exact_qkv(int64_t rows, int64_t width, int sum_limit, bool extreme) {
  OpCase test = with_weights(qkv(rows, width), WeightType::i8);
  test.name += (extreme ? "/extreme_" : "/exact_") + std::to_string(sum_limit);
  test.bound = 0;
  test.sum_limit = sum_limit;
  Random random(16);
  Tensor& x = test.inputs["x"];
  Tensor& weight = test.inputs["weight"];
  const size_t columns = static_cast<size_t>(width);
  const auto negative = [](size_t row, size_t column) {
    return row % 2 == 1 && (row % 4 == 1 || column / 16 % 2 == 1);
  };
  const std::vector<int32_t> whole = random.integers(static_cast<int64_t>(x.size()), -127, 128);
  for (size_t i = 0; i < x.size(); i++) {
    const bool most = extreme || i % columns == 0;
    x[i] = most ? (negative(i / columns, i % columns) ? -127.0f : 127.0f) : static_cast<float>(whole[i]);
  }
  // Four weights of a sum in 16 bits: {0, 1, 4, 5} or {2, 3, 6, 7} of eight.
  const int rest = std::min(127, (sum_limit - 127) / 3), even = sum_limit / 4;
  const std::vector<int32_t> small = random.integers(static_cast<int64_t>(weight.size()), -even, even + 1);
  for (size_t i = 0; i < weight.size(); i++) {
    const size_t row = i / columns, column = i % columns;
    int32_t value = small[i];
    if (extreme) value = negative(row, column) ? -even : even;
    if (extreme && row % 3 == 0) value = column % 8 == 0 || column % 8 == 2 ? 127 : rest;
    if (column < 8) value = column == 0 ? 127 : column == 1 ? std::min(127, sum_limit - 127) : 0;
    if (extreme && column < 8 && negative(row, column)) value = -value;
    weight[i] = static_cast<float>(value);
  }
  for (const char* name : {"q_bias", "v_bias"}) test.inputs[name].assign(static_cast<size_t>(width), 3.0f);
  return test;
}

}  // namespace

void add_linear_cases(std::vector<OpCase>& cases) {
  for (const bool bias : {true, false}) {
    cases.push_back(linear(0, 16, 8, bias));
    cases.push_back(linear(1, 3, 2, bias));
    cases.push_back(linear(13, 34, 65, bias));
    cases.push_back(linear(29, 400, 33, bias));
    cases.push_back(linear(230, 48, 100, bias));
    cases.push_back(linear(70, 64, 72, bias));  // whole runs of 8 columns and a depth that Hopper's copies take
    cases.push_back(on_processors(linear(kManyRows, 20, 17, bias)));
  }
  for (const auto& [rows, width] : {std::pair<int64_t, int64_t>{1, 8}, {17, 34}, {45, 96}})
    cases.push_back(qkv(rows, width));
  for (const bool scaled : {false, true}) {
    for (const auto& [rows, width] : {std::pair<int64_t, int64_t>{1, 8}, {17, 34}, {45, 96}})
      cases.push_back(proj_residual(rows, width, scaled));
  }
  for (const WeightType type : {WeightType::bf16, WeightType::i8}) {
    for (const auto& [rows, width] : {std::pair<int64_t, int64_t>{0, 16},
                                      {1, 1},
                                      {1, 8},
                                      {3, 31},
                                      {17, 34},
                                      {45, 96},
                                      {230, 48},
                                      {15, 544},
                                      {5, 768}}) {
      cases.push_back(with_weights(qkv(rows, width), type));
      cases.push_back(with_weights(proj_residual(rows, width, rows % 2 == 1), type));
    }
  }
  for (const auto& [rows, width] :
       {std::pair<int64_t, int64_t>{1, 1}, {2, 3}, {13, 33}, {14, 64}, {15, 65}, {29, 300}, {197, 20}})
    for (const Target target : {Target::avx2, Target::avx512_vnni}) {
      for (const bool extreme : {false, true})
        cases.push_back(exact_qkv(rows, width, weight_sum_limit(target), extreme));
    }
  for (const int64_t rows : {1, 13, 230}) cases.push_back(with_weights(linear(rows, 48, 100, true), WeightType::bf16));
}

void add_expert_cases(std::vector<OpCase>& cases) {
  cases.push_back(expert_ffn({1}, 8, 32, false));
  cases.push_back(expert_ffn({9, 9, 31}, 34, 136, true));
  cases.push_back(expert_ffn({40, 100}, 48, 192, false));
  cases.push_back(expert_ffn({0, 300, 310}, 20, 40, true));
  cases.push_back(on_processors(expert_ffn({0, kManyRows, kManyRows + 10}, 20, 530, true)));
  cases.push_back(on_processors(expert_ffn({2, 600}, 8, 8200, false)));  // a deeper product than rows are packed for
  // Ranges that end anywhere, empty ones, and rows of none.
  cases.push_back(surplus_rows(200, {7, 7, 71, 133}, {}, 48, 192));
  cases.push_back(surplus_rows(333, {0, 64, 192, 257}, {}, 64, 64));
  cases.push_back(surplus_rows(130, {128, 129, 130, 130}, {}, 48, 96));
  cases.push_back(surplus_rows(129, {0, 1, 2, 3}, {}, 34, 136));
  cases.push_back(surplus_rows(40, {0, 40, 40, 40}, {}, 48, 96));
  cases.push_back(surplus_rows(10, {3, 3, 3, 3}, {}, 16, 32));
  cases.push_back(surplus_rows(65, {1, 64}, {}, 48, 96));
  // Numbers a device must not believe: what is left of them lies inside the rows, in order.
  cases.push_back(surplus_rows(131, {0, 9, 9, 131}, {-5, 9, 4, 1000}, 48, 96));
  cases.push_back(surplus_rows(66, {66, 66, 66, 66}, {INT32_MAX, 3, 70, INT32_MIN}, 48, 96));
  cases.push_back(surplus_rows(70, {0, 0, 65, 65}, {INT32_MIN, INT32_MIN, 65, 64}, 48, 96));
  for (const WeightType type : {WeightType::bf16, WeightType::i8}) {
    cases.push_back(with_weights(expert_ffn({1}, 8, 32, false), type));
    cases.push_back(with_weights(expert_ffn({9, 9, 31}, 34, 136, true), type));
    cases.push_back(with_weights(expert_ffn({40, 100}, 48, 300, false), type));
    cases.push_back(with_weights(expert_ffn({0, 1030, 1040}, 20, 530, true), type));
    cases.push_back(on_processors(with_weights(expert_ffn({0, kManyRows, kManyRows + 10}, 8, 34, true), type)));
    cases.push_back(with_weights(expert_ffn({3, 33}, 192, 768, true), type));
  }
  cases.push_back(with_weights(expert_ffn({520}, 8200, 16, false),
                               WeightType::i8));  // so wide that fewer rows than a block are packed at a time
}

// Every number of rows up to more than two of the largest tiles of vectors, two tiles in tile registers, and those of
// one or two pictures with their words: each height of a tile, alone and beside others, over few panels and many.
void add_tail_cases(std::vector<OpCase>& cases) {
  std::vector<int64_t> counts = {40, 50, 63, 64, 197, 237};
  for (int64_t rows = 1; rows <= 33; rows++) counts.push_back(rows);
  for (const int64_t rows : counts) {
    for (const WeightType type : {WeightType::f32, WeightType::bf16, WeightType::i8}) {
      for (OpCase test :
           {qkv(rows, 34), qkv(rows, 70), proj_residual(rows, 40, true), expert_ffn({rows}, 34, 300, rows % 2 == 0)}) {
        cases.push_back(on_processors(type == WeightType::f32 ? std::move(test) : with_weights(std::move(test), type)));
      }
    }
  }
}

namespace {

// A number that is not finite in some rows: all that is made of them must show it, and the other rows must not.
OpCase damaged(OpCase test, float value) {
  test.name += std::isnan(value) ? "/nan" : "/infinite";
  Tensor& x = test.inputs.at("x");
  const size_t width =
      test.inputs.count("norm_gamma0") != 0 ? test.inputs.at("norm_gamma0").size() : test.inputs.at("q_bias").size();
  x.at(2 * width + 3) = value;
  x.at(16 * width) = -value;
  test.backward = nullptr;
  const auto forward = test.forward;
  test.forward = [=](Runner& run, const Tensors& in, Tensors& out) {
    MOME_RETURN_IF_ERROR(forward(run, in, out));
    const Tensor& y = out.at("y");
    const size_t columns = y.size() / (in.at("x").size() / width);
    for (size_t i = 0; i < y.size(); i++) {
      const bool expected = i / columns == 2 || i / columns == 16;
      if (std::isnan(y[i]) != expected)
        return error(Code::internal, "element %zu of row %zu is %g", i % columns, i / columns, y[i]);
    }
    return Status();
  };
  return test;
}

// A row whose steps in 8 bits would leave float32 gives what a row of zeros does. The weights are so large that other
// integers would show.
OpCase negligible(OpCase test) {
  test.name += "/negligible";
  Tensor& x = test.inputs.at("x");
  const size_t width = test.inputs.at("q_bias").size();
  for (size_t i = 0; i < width; i++) x.at(2 * width + i) = i % 2 == 0 ? 3e-37f : -1e-38f;
  for (size_t i = 0; i < width; i++) x.at(3 * width + i) = 0;
  for (float& value : test.inputs.at("weight")) value *= 1e33f;
  const auto forward = test.forward;
  test.forward = [=](Runner& run, const Tensors& in, Tensors& out) {
    MOME_RETURN_IF_ERROR(forward(run, in, out));
    const Tensor& y = out.at("y");
    const size_t columns = y.size() / (in.at("x").size() / width);
    for (size_t i = 0; i < columns; i++) {
      if (y[2 * columns + i] != y[3 * columns + i])
        return error(Code::internal, "element %zu is %g, of a row of zeros %g", i, y[2 * columns + i],
                     y[3 * columns + i]);
    }
    return Status();
  };
  return test;
}

}  // namespace

void add_damaged_cases(std::vector<OpCase>& cases) {
  cases.push_back(negligible(with_weights(qkv(18, 48), WeightType::i8)));
  for (const OpCase& test : {qkv(18, 48), expert_ffn({0, 18}, 48, 530, false)}) {
    for (const WeightType type : {WeightType::f32, WeightType::bf16, WeightType::i8}) {
      const OpCase kept = type == WeightType::f32 ? test : with_weights(test, type);
      cases.push_back(damaged(kept, NAN));
      // 8 bits have no infinity: a row with one becomes NaN, and so it is after a layer norm.
      if (type == WeightType::i8 || test.inputs.contains("norm_gamma0")) cases.push_back(damaged(kept, INFINITY));
    }
  }
}

namespace {

constexpr int64_t kBaseWidth = 768, kBaseHidden = 3072;
constexpr WeightType kTypes[] = {WeightType::f32, WeightType::bf16, WeightType::i8};

OpCase of_type(OpCase test, WeightType type) {
  return type == WeightType::f32 ? test : with_weights(std::move(test), type);
}

std::string sizes(std::initializer_list<int64_t> numbers) {
  std::string text;
  for (const int64_t number : numbers) text += (text.empty() ? "" : "x") + std::to_string(number);
  return text;
}

}  // namespace

void add_layer_perf_cases(std::vector<PerfCase>& cases) {
  constexpr int64_t w = kBaseWidth, h = kBaseHidden;
  const auto add = [&](std::string_view op, Direction direction, std::string shape, WeightType type, double flops,
                       std::function<OpCase()> make) {
    cases.push_back({op, direction, std::move(shape), type, flops, 0, [=] { return of_type(make(), type); }});
  };
  for (const int64_t rows : {1, 12, 40, 197, 1576}) {
    for (const auto& [inputs, outputs] : {std::pair<int64_t, int64_t>{w, w}, {w, 3 * w}, {w, h}, {h, w}}) {
      for (const WeightType type : {WeightType::f32, WeightType::bf16}) {
        if (type == WeightType::bf16 && rows > 40) continue;
        add("linear", Direction::forward, sizes({rows, inputs, outputs}), type, 2.0 * rows * inputs * outputs,
            [rows, inputs = inputs, outputs = outputs] { return linear(rows, inputs, outputs, false); });
      }
    }
  }
  for (const int64_t rows : {12, 197, 1576}) {
    for (const WeightType type : kTypes) {
      add("qkv", Direction::forward, sizes({rows, w}), type, 6.0 * rows * w * w, [=] { return qkv(rows, w); });
      add("proj_residual", Direction::forward, sizes({rows, w}), type, 2.0 * rows * w * w,
          [=] { return proj_residual(rows, w, true, false); });
      add("expert_ffn", Direction::forward, sizes({rows, w, h}), type, 4.0 * rows * w * h,
          [=] { return expert_rows(rows, {0, rows}, {0, static_cast<int32_t>(rows)}, w, h, true, false); });
    }
  }
  add("linear", Direction::backward, sizes({1576, w, 3 * w}), WeightType::f32, 4.0 * 1576 * w * 3 * w,
      [] { return linear(1576, w, 3 * w, true); });
  add("expert_ffn", Direction::backward, sizes({1576, w, h}), WeightType::f32, 8.0 * 1576 * w * h,
      [] { return expert_rows(1576, {0, 1576}, {0, 1576}, w, h, true, false); });
  const int64_t rows = 64 * 197;  // more than any cache holds
  add("layer_norm", Direction::forward, sizes({rows, w}), WeightType::f32, 8.0 * rows * w,
      [=] { return layer_norm(rows, w); });
  cases.back().bytes = 2.0 * rows * w * sizeof(float);  // a row stays in cache between its two passes
}

}  // namespace mome::test
