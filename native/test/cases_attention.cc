// Cases of attention: ragged sequences of one or both modalities, with and without relative bias.
#include <algorithm>
#include <cmath>

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
  for (const int64_t head_width : {1, 7, 8, 9, 15, 16, 17, 32, 33, 128}) {
    cases.push_back(on_processors(with_weights(
        attention("lengths_head_" + std::to_string(head_width), lay_out({}, fused, 0, 5), head_width, 1, 2, true),
        WeightType::bf16)));
  }
  cases.push_back(on_processors(
      with_weights(attention("tokens_1_2", lay_out({1, 2}, {}, 0, 0), 24, 3, 2, false), WeightType::bf16)));
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
