// Cases of attention: ragged sequences of one or both modalities, with and without relative bias.
#include <algorithm>
#include <cmath>
#include <functional>

#include "core/ops/attention.h"
#include "test/harness.h"

namespace mome::test {
namespace {

// Text of text-only | text of fused | image of fused | image of image-only, as batches are laid out.
struct Layout {
  std::vector<Sequence> sequences;
  int64_t rows = 0;
  int32_t longest_text() const {
    int32_t longest = 0;
    for (const Sequence& sequence : sequences) longest = std::max(longest, sequence.text_length);
    return longest;
  }
};

Layout lay_out(const std::vector<int32_t>& texts, const std::vector<int32_t>& fused, int64_t images, int32_t tokens) {
  Layout layout;
  int32_t row = 0;
  for (const int32_t length : texts) {
    layout.sequences.push_back({row, length, 0, 0});
    row += length;
  }
  const size_t first = layout.sequences.size();
  for (const int32_t length : fused) {
    layout.sequences.push_back({row, length, 0, tokens});
    row += length;
  }
  for (size_t i = 0; i < fused.size(); i++, row += tokens) layout.sequences[first + i].image_begin = row;
  for (int64_t i = 0; i < images; i++, row += tokens) layout.sequences.push_back({0, 0, row, tokens});
  layout.rows = row;
  return layout;
}

// Sets the rows of [rows, width] that nobody reads to 0; `read_every` 0 = all are read.
void clear_unread(Tensor& values, int64_t width, int64_t read_every) {
  for (size_t i = 0; read_every > 0 && i < values.size(); i++) {
    if (static_cast<int64_t>(i) / width % read_every != 1) values[i] = 0;
  }
}

// Of the result, only every `read_every`-th row counts, as after the last block. `longest_text`: for which the table is
// sized.
OpCase attention(const std::string& name, Layout layout, int64_t width, int64_t heads, int32_t grid, bool relative,
                 int64_t read_every = 0, int32_t longest_text = 20) {
  Random random(21);
  const RelativePosition position{grid, std::max(longest_text, layout.longest_text())};
  const int64_t rows = layout.rows, columns = 3 * heads, column = heads;
  OpCase test{"attention/" + name, "attention", {}, {}, {}};
  test.roundings = 2;  // the result and the probabilities
  test.inputs = {{"qkv", random.normal(rows * 3 * width)}};
  if (relative) test.inputs["table"] = random.normal(position.rows() * columns);
  const float scale = 1 / std::sqrt(static_cast<float>(width / heads));
  test.forward = [=](Runner& run, const Tensors& in, Tensors& out) {
    out["y"].assign(rows * width, NAN);
    out["lse"].assign(rows * heads, 0);
    AttentionForward args{rows,
                          width,
                          heads,
                          static_cast<int64_t>(layout.sequences.size()),
                          layout.sequences.data(),
                          in.at("qkv").data(),
                          relative ? in.at("table").data() : nullptr,
                          columns,
                          column,
                          position,
                          scale,
                          out["y"].data(),
                          out["lse"].data(),
                          0,
                          false,
                          run.product_type()};
    summarise_sequences(layout.sequences.data(), args);
    const Status status = run.run(args);
    clear_unread(out["y"], width, read_every);
    return status;
  };
  test.backward = [=](Runner& run, const Tensors& in, const Tensors& out, const Tensors& dout, Tensors& g) {
    g["qkv"].assign(rows * 3 * width, NAN);
    if (relative) g["table"].assign(position.rows() * columns, 0);
    Tensor dy = dout.at("y");
    clear_unread(dy, width, read_every);
    return run.run(AttentionBackward{
        rows, width, heads, static_cast<int64_t>(layout.sequences.size()), layout.sequences.data(), in.at("qkv").data(),
        relative ? in.at("table").data() : nullptr, columns, column, position, scale, out.at("y").data(),
        out.at("lse").data(), dy.data(), g["qkv"].data(), relative ? g["table"].data() : nullptr});
  };
  test.bound = 5e-6;
  return test;
}

// A case whose q, k and v are value(row, column of the head, random number) each; a head of one sequence has them
// alike.
using Value = std::function<float(int64_t row, int64_t column, float random)>;
OpCase attention_of(const std::string& name, int32_t tokens, int64_t head_width, const Value& q, const Value& k,
                    const Value& v) {
  OpCase test = attention(name, lay_out({tokens}, {}, 0, 0), head_width, 1, 2, false);
  Tensor& qkv = test.inputs["qkv"];
  for (int64_t i = 0; i < static_cast<int64_t>(qkv.size()); i++) {
    const int64_t row = i / (3 * head_width), part = i / head_width % 3;
    float& each = qkv[static_cast<size_t>(i)];
    each = (part == 0 ? q : part == 1 ? k : v)(row, i % head_width, each);
  }
  return on_processors(with_weights(test, WeightType::i8));
}

// What 16-bit integers could overflow at, lose or pass on.
void add_extremes(std::vector<OpCase>& cases) {
  const auto constant = [](float value) { return [=](int64_t, int64_t, float) { return value; }; };
  const Value any = [](int64_t, int64_t, float random) { return random; };
  const Value zero = constant(0);
  // Every product at its limit, with one sign: the largest sums of scores and, in flat rows, of results.
  for (const int64_t head_width : {1, 2, 3, 31, 64, 128, 2048}) {
    const std::string head = "_head_" + std::to_string(head_width);
    constexpr int32_t kTokens = 101;
    for (const float sign : {1.0f, -1.0f}) {
      const float size = 3 * sign;
      cases.push_back(attention_of(std::string("largest_sums") + (sign < 0 ? "_below" : "") + head, kTokens, head_width,
                                   constant(3), constant(size), constant(size)));
      if (head_width == 2048) cases.back().bound = 2e-5;  // of float32, which adds equal numbers 2,048 times
    }
  }
  for (const int32_t tokens : {96, 97, 197, 1000, 4096, 4097}) {  // the last one is too long for 16 bits
    const std::string count = "_" + std::to_string(tokens);
    cases.push_back(attention_of("flat" + count, tokens, 2, zero, any, constant(-1)));
    if (tokens > 1000) continue;
    cases.push_back(attention_of("flat_signs" + count, tokens, 2, zero, any,
                                 [](int64_t row, int64_t, float) { return row % 2 == 0 ? 1.0f : -0.5f; }));
  }
  cases.push_back(attention_of("wide_head", 97, 2049, any, any, any));  // too wide for 16 bits
  // One key takes everything: probabilities at their limit, beside values at theirs.
  cases.push_back(attention_of(
      "one_hot", 200, 16, [](int64_t, int64_t column, float random) { return column == 0 ? 90.0f : random; },
      [](int64_t row, int64_t column, float random) { return column == 0 && row == 77 ? 90.0f : random; },
      constant(5)));
  // Rows of zeros, of numbers that count as 0, and of small ones that do not.
  const auto sized = [](int64_t row, int64_t, float random) {
    constexpr float kSizes[] = {1, 0, 1e-40f, 1e-30f, 1e-15f, 8};
    return kSizes[row % 6] * random;
  };
  cases.push_back(attention_of("sizes", 110, 20, sized, sized, sized));
  cases.push_back(attention_of("tiny_values", 110, 20, any, any, [](int64_t, int64_t column, float random) {
    return column % 2 == 0 ? random * 1e-42f : random;
  }));
  // A query, a key or a value that is not a number, in the second of three sequences.
  for (const int64_t part : {0, 1, 2}) {
    OpCase test = attention("not_a_number_" + std::to_string(part), lay_out({120, 97, 230}, {}, 0, 0), 24, 2, 2, true);
    float& damaged = test.inputs["qkv"][static_cast<size_t>((120 + 3) * 72 + part * 24 + 5)];
    damaged = NAN;
    cases.push_back(on_processors(with_weights(test, WeightType::i8)));
    damaged = INFINITY;
    test.name = "attention/infinite_" + std::to_string(part);
    cases.push_back(on_processors(with_weights(test, WeightType::i8)));
  }
}

}  // namespace

void add_attention_cases(std::vector<OpCase>& cases) {
  cases.push_back(attention("text", lay_out({1, 7, 20}, {}, 0, 0), 24, 3, 2, false));
  cases.push_back(attention("text_relative", lay_out({1, 7, 20}, {}, 0, 0), 24, 3, 2, true));
  cases.push_back(attention("images_relative", lay_out({}, {}, 3, 17), 32, 2, 4, true));
  cases.push_back(attention("mixed_relative", lay_out({3, 12}, {5, 1, 9}, 2, 26), 48, 3, 5, true));
  cases.push_back(attention("mixed_head_34", lay_out({3, 12}, {5, 1, 9}, 2, 26), 68, 2, 5, false));
  cases.push_back(attention("long_image", lay_out({2}, {20}, 1, 197), 64, 1, 14, true));
  cases.push_back(attention("few_rows_read", lay_out({3, 12}, {5, 1, 9}, 2, 26), 48, 3, 5, true, 13));
  cases.push_back(attention("few_sequences_read", lay_out({3, 12}, {5, 1, 9}, 2, 26), 48, 3, 5, true, 40));
  // Every width a device has a kernel of its own for, one that is read element by element, and one that no tensor-core
  // kernel takes.
  for (const int64_t head_width : {7, 16, 32, 128, 136}) {
    for (const bool relative : {false, true}) {
      cases.push_back(attention("head_" + std::to_string(head_width) + (relative ? "_relative" : ""),
                                lay_out({3, 12}, {5, 19}, 1, 82), 2 * head_width, 2, 9, relative));
    }
  }
  // Lengths around whole vectors of 8 and 16 keys, whole tiles of 6, 12 and 32 queries, and a device's tiles of 64
  // keys: each alone, then all of them together as words and a picture of 5 tokens, with heads around whole vectors
  // too.
  const std::vector<int32_t> lengths = {8, 9, 11, 12, 13, 15, 16, 24, 31, 32, 33, 63, 64, 65, 128};
  std::vector<int32_t> fused;
  for (const int32_t length : lengths) fused.push_back(length - 5);
  for (const bool relative : {false, true}) {
    const std::string suffix = relative ? "_relative" : "";
    for (const int32_t length : lengths)
      cases.push_back(
          attention("tokens_" + std::to_string(length) + suffix, lay_out({length}, {}, 0, 0), 32, 2, 2, relative));
    cases.push_back(attention("lengths_head_16" + suffix, lay_out({}, fused, 0, 5), 16, 1, 2, relative));
    for (const int64_t head_width : {8, 9, 15, 17}) {
      cases.push_back(on_processors(attention("lengths_head_" + std::to_string(head_width) + suffix,
                                              lay_out({}, fused, 0, 5), head_width, 1, 2, relative)));
    }
  }
  // Where weights are narrower, targets that multiply bfloat16 do so here: pairs of tokens and of columns, whole or
  // not.
  for (const WeightType type : {WeightType::bf16, WeightType::i8}) {
    cases.push_back(on_processors(
        with_weights(attention("mixed_head_34", lay_out({3, 12}, {5, 1, 9}, 2, 26), 68, 2, 5, false), type)));
    cases.push_back(
        on_processors(with_weights(attention("long_image", lay_out({2}, {20}, 1, 197), 64, 1, 14, true), type)));
  }
  std::vector<int32_t>
      long_fused;  // around the least that attend in 16 bits, and whole vectors and tiles from there on
  for (const int32_t length : {95, 96, 97, 98, 103, 104, 105, 108, 109, 111, 112, 113, 119, 127, 128, 129})
    long_fused.push_back(length - 5);
  for (const WeightType type : {WeightType::bf16, WeightType::i8}) {
    const std::vector<int32_t>& texts = type == WeightType::i8 ? long_fused : fused;
    for (const int64_t head_width : {1, 7, 8, 9, 15, 16, 17, 32, 33, 128}) {
      cases.push_back(on_processors(with_weights(
          attention("lengths_head_" + std::to_string(head_width), lay_out({}, texts, 0, 5), head_width, 1, 2, true),
          type)));
    }
    cases.push_back(
        on_processors(with_weights(attention("tokens_1_2", lay_out({1, 2}, {}, 0, 0), 24, 3, 2, false), type)));
  }
  add_extremes(cases);
  // With the table of pictures of 384 px heads of 128 need more shared memory than some devices have.
  cases.push_back(attention("head_128_large_table", lay_out({}, {}, 1, 1 + 24 * 24), 128, 1, 24, true));
  cases.push_back(attention("nothing", lay_out({}, {}, 0, 5), 16, 2, 2, true));
  Layout gap = lay_out({4, 6}, {}, 0, 0);
  gap.sequences.erase(gap.sequences.begin());  // rows of no sequence
  cases.push_back(attention("gap", gap, 16, 2, 2, false));
}

// Pictures of 197 tokens at the base model's width, alone or with 12 tokens of text.
void add_attention_perf_cases(std::vector<PerfCase>& cases) {
  constexpr int32_t kGrid = 14, kTokens = 1 + kGrid * kGrid, kTextTokens = 12, kTextOfInit = 196;
  constexpr int64_t kWidth = 768, kHeads = 12;
  for (const auto& [direction, type] : {std::pair{Direction::forward, WeightType::f32},
                                        {Direction::forward, WeightType::bf16},
                                        {Direction::forward, WeightType::i8},
                                        {Direction::backward, WeightType::f32}}) {
    for (const auto& [count, fused] : {std::pair<int64_t, bool>{1, false}, {8, false}, {8, true}}) {
      const int64_t tokens = kTokens + (fused ? kTextTokens : 0);
      const double products = direction == Direction::backward ? 5 : 2;
      const std::string shape = std::to_string(count) + "x" + std::to_string(tokens) + "x" + std::to_string(kWidth);
      cases.push_back({"attention", direction, shape, type, products * 2.0 * count * tokens * tokens * kWidth, 0,
                       [=, type = type, count = count, fused = fused] {
                         const Layout layout = fused ? lay_out({}, std::vector<int32_t>(count, kTextTokens), 0, kTokens)
                                                     : lay_out({}, {}, count, kTokens);
                         OpCase test = attention("perf", layout, kWidth, kHeads, kGrid, true, 0, kTextOfInit);
                         return type == WeightType::f32 ? test : with_weights(test, type);
                       }});
    }
  }
}

}  // namespace mome::test
