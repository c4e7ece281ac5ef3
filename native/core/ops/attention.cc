#include "core/ops/attention.h"

#include "core/ops/spec.h"

namespace mome {
namespace {

// What forward and backward share. Sequences are checked against the rows and the table.
template <typename Args>
void decode_attention(Decoder& d, Args& a) {
  a.rows = d.rows("qkv");
  a.width = d.columns("qkv") / 3;
  a.heads = d.integer("heads");
  d.expect(a.heads > 0 && a.width % a.heads == 0 && d.columns("qkv") == 3 * a.width,
           "expected width to be a multiple of heads");
  a.sequence_count = d.rows("sequences");
  a.sequences = reinterpret_cast<const Sequence*>(d.integers("sequences", 4 * a.sequence_count, 0, a.rows + 1));
  a.qkv = d.tensor("qkv", a.rows * 3 * a.width);
  a.scale = static_cast<float>(d.number("scale", 0));
  a.position.grid = static_cast<int32_t>(d.integer("grid"));
  a.position.text_init_length = static_cast<int32_t>(d.integer("text_init_length"));
  a.table_column = d.integer("table_column");
  a.table = nullptr;
  a.table_columns = 0;
  if (d.has("table")) {
    a.table_columns = d.columns("table");
    a.table = d.tensor("table", a.position.rows() * a.table_columns);
    d.expect(a.table_column >= 0 && a.table_column + a.heads <= a.table_columns,
             "expected the layer's columns inside the table");
  }
  if (!d.status().ok()) return;
  const int64_t image_tokens = 1 + int64_t{a.position.grid} * a.position.grid;
  const auto* sequences = reinterpret_cast<const Sequence*>(d.host_integers("sequences"));
  for (int64_t i = 0; i < a.sequence_count; i++) {
    const Sequence& s = sequences[i];
    d.expect(int64_t{s.text_begin} + s.text_length <= a.rows && int64_t{s.image_begin} + s.image_length <= a.rows,
             "expected every sequence inside the rows");
    if (a.table != nullptr) {
      d.expect(
          s.text_length < a.position.text_init_length + 1 && (s.image_length == 0 || s.image_length == image_tokens),
          "expected sequence lengths that the relative table covers");
    }
  }
}

void decode_forward(Decoder& d, AttentionForward& a) {
  decode_attention(d, a);
  a.out = d.output("out", a.rows * a.width);
  a.lse = d.output("lse", a.rows * a.heads, true);
  a.type = a.lse == nullptr ? d.product_type() : ProductType::f32;  // as backward makes them again
  if (d.status().ok()) summarise_sequences(reinterpret_cast<const Sequence*>(d.host_integers("sequences")), a);
}

void decode_backward(Decoder& d, AttentionBackward& a) {
  decode_attention(d, a);
  a.out = d.tensor("out", a.rows * a.width);
  a.lse = d.tensor("lse", a.rows * a.heads);
  a.dout = d.tensor("dout", a.rows * a.width);
  a.dqkv = d.output("dqkv", a.rows * 3 * a.width);
  a.dtable = d.gradient("dtable", a.position.rows() * a.table_columns);
}

}  // namespace

constinit const OpSpec attention_op = {
    .name = AttentionForward::kOp,
    .forward = decode_with<decode_forward>,
    .backward = decode_with<decode_backward>,
    .rows = {"qkv"},
    .results = {"out", "lse"},
    .backward_results = {"dqkv"},
    .device_rows = DeviceRows::encoder,
    .float32_results = {"lse"},
};

}  // namespace mome
