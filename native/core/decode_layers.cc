// Decoding of the ops that make the encoder: embeddings, normalisation, projections, attention, experts.
#include "core/decode_ops.h"
#include "core/ops/attention.h"
#include "core/ops/expert_ffn.h"
#include "core/ops/layer_norm.h"
#include "core/ops/linear.h"
#include "core/ops/patch_embed.h"
#include "core/ops/proj_residual.h"
#include "core/ops/qkv.h"
#include "core/ops/text_embed.h"

namespace mome {

void decode(Decoder& d, LayerNormForward& a) {
  a.rows = d.rows("x");
  a.width = d.columns("x");
  a.x = d.tensor("x", a.rows * a.width);
  a.gamma = d.tensor("gamma", a.width);
  a.beta = d.tensor("beta", a.width);
  a.eps = static_cast<float>(d.number("eps", 1e-6));
  a.y = d.output("y", a.rows * a.width);
}

void decode(Decoder& d, LayerNormBackward& a) {
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

void decode(Decoder& d, LinearForward& a) {
  const int64_t outputs = d.rows("weight");
  const int64_t inputs = d.columns("weight");
  a.rows = d.rows("x");
  a.x = d.tensor("x", a.rows * inputs);
  a.weight = d.matrix("weight", outputs, inputs);
  a.bias = d.tensor("bias", outputs, true);
  a.y = d.output("y", a.rows * outputs);
}

void decode(Decoder& d, LinearBackward& a) {
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

void decode(Decoder& d, QkvForward& a) {
  a.rows = d.rows("x");
  a.width = d.columns("x");
  a.x = d.tensor("x", a.rows * a.width);
  a.weight = d.matrix("weight", 3 * a.width, a.width);
  a.q_bias = d.tensor("q_bias", a.width);
  a.v_bias = d.tensor("v_bias", a.width);
  a.y = d.output("y", a.rows * 3 * a.width);
}

void decode(Decoder& d, QkvBackward& a) {
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

namespace {

// What forward and backward of attention share, sequences checked against the rows and the table.
template <typename Args>
void decode_attention(Decoder& d, Args& a) {
  a.rows = d.rows("qkv");
  a.width = d.columns("qkv") / 3;
  a.heads = d.integer("heads");
  d.expect(a.heads > 0 && a.width % a.heads == 0 && d.columns("qkv") == 3 * a.width, "expected width to be a multiple of heads");
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
    d.expect(a.table_column >= 0 && a.table_column + a.heads <= a.table_columns, "expected the layer's columns inside the table");
  }
  if (!d.status().ok()) return;
  const int64_t image_tokens = 1 + int64_t{a.position.grid} * a.position.grid;
  const auto* sequences = reinterpret_cast<const Sequence*>(d.host_integers("sequences"));
  for (int64_t i = 0; i < a.sequence_count; i++) {
    const Sequence& s = sequences[i];
    d.expect(int64_t{s.text_begin} + s.text_length <= a.rows && int64_t{s.image_begin} + s.image_length <= a.rows,
             "expected every sequence inside the rows");
    if (a.table != nullptr) {
      d.expect(s.text_length < a.position.text_init_length + 1 && (s.image_length == 0 || s.image_length == image_tokens),
               "expected sequence lengths that the relative table covers");
    }
  }
}

// `ranges_elsewhere`: a device reads the row ranges from its own memory, and they are no arguments.
template <typename Args>
void decode_experts(Decoder& d, Args& a, bool ranges_elsewhere) {
  a.rows = d.rows("x");
  a.width = d.columns("x");
  a.eps = static_cast<float>(d.number("eps", 1e-6));
  a.x = d.tensor("x", a.rows * a.width);
  a.gamma = d.tensor("gamma", a.width, true);
  a.row_scale = d.tensor("row_scale", a.rows, true);
  a.experts = 0;
  a.hidden = 0;
  int64_t covered = 0;
  for (int e = 0; e < kMaxExperts; e++) {
    const std::string i = std::to_string(e);
    if (!d.has("fc1_" + i)) break;
    ExpertForward& expert = a.expert[e];
    if (e == 0) a.hidden = d.rows("fc1_0");
    if (!ranges_elsewhere) {
      expert.begin = d.integer("begin" + i);
      expert.end = d.integer("end" + i);
      d.expect(expert.begin == covered && expert.end >= expert.begin, "expected row ranges in order without gaps");
      covered = expert.end;
    }
    expert.norm_gamma = d.tensor("norm_gamma_" + i, a.width);
    expert.norm_beta = d.tensor("norm_beta_" + i, a.width);
    expert.fc1 = d.matrix("fc1_" + i, a.hidden, a.width);
    expert.fc1_bias = d.tensor("fc1_bias_" + i, a.hidden);
    expert.fc2 = d.matrix("fc2_" + i, a.width, a.hidden);
    expert.fc2_bias = d.tensor("fc2_bias_" + i, a.width);
    a.experts++;
  }
  d.expect(a.experts > 0 && (ranges_elsewhere || covered == a.rows), "expected row ranges that cover all rows");
}

template <typename Args>
void decode_pictures(Decoder& d, Args& a) {
  a.images = d.rows("picture");
  a.image_size = d.integer("image_size");
  a.patch_size = d.integer("patch_size");
  d.expect(a.patch_size > 0 && a.image_size > 0 && a.image_size % a.patch_size == 0, "expected whole patches");
  d.expect(d.has("pixels") != d.has("bytes"), "expected either pixels or bytes");
  if (!d.status().ok()) return;
  const int64_t pictures = d.rows(d.has("pixels") ? "pixels" : "bytes");
  const int64_t count = pictures * 3 * a.image_size * a.image_size;
  a.pixels = d.tensor("pixels", count, true);
  a.bytes = d.bytes("bytes", count);
  a.picture = d.integers("picture", a.images, 0, pictures);
  d.expect(a.images == 0 || pictures > 0, "expected at least one picture");
}

template <typename Args>
void decode_tokens(Decoder& d, Args& a) {
  a.vocabulary = d.rows("word");
  a.width = d.columns("word");
  a.rows = d.rows("ids");
  a.position = nullptr;
  a.max_length = INT32_MAX;
  if (d.has("position")) {
    a.max_length = d.rows("position");
    a.position = d.tensor("position", a.max_length * a.width);
  }
  a.ids = d.integers("ids", a.rows, 0, a.vocabulary);
  a.index = d.integers("index", a.rows, 0, a.max_length);
  a.word = d.tensor("word", a.vocabulary * a.width);
  a.segment = d.tensor("segment", d.count("segment"));
  d.expect(d.columns("segment") == a.width && d.rows("segment") > 0, "expected a segment table of the same width");
  a.gamma = d.tensor("gamma", a.width);
  a.eps = static_cast<float>(d.number("eps", 1e-12));
  a.dropout = static_cast<float>(d.number("dropout", 0));
  a.seed = static_cast<uint64_t>(d.integer("seed"));
  d.expect(a.dropout >= 0 && a.dropout < 1, "expected dropout in [0, 1)");
}

}  // namespace

void decode(Decoder& d, AttentionForward& a) {
  decode_attention(d, a);
  a.out = d.output("out", a.rows * a.width);
  a.lse = d.output("lse", a.rows * a.heads, true);
  if (d.status().ok()) summarise_sequences(reinterpret_cast<const Sequence*>(d.host_integers("sequences")), a);
}

void decode(Decoder& d, AttentionBackward& a) {
  decode_attention(d, a);
  a.out = d.tensor("out", a.rows * a.width);
  a.lse = d.tensor("lse", a.rows * a.heads);
  a.dout = d.tensor("dout", a.rows * a.width);
  a.dqkv = d.output("dqkv", a.rows * 3 * a.width);
  a.dtable = d.gradient("dtable", a.position.rows() * a.table_columns);
}

void decode(Decoder& d, ProjResidualForward& a) {
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

void decode(Decoder& d, ProjResidualBackward& a) {
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

void decode(Decoder& d, ExpertFfnForward& a) {
  a.bounds = d.expert_bounds();
  decode_experts(d, a, a.bounds != nullptr);
  a.out = d.output("out", a.rows * a.width);
  a.pre_activation = d.output("pre_activation", a.rows * a.hidden, true);
  d.expect(a.pre_activation == nullptr || a.experts == 0 || a.expert[0].fc1.type == WeightType::f32, "expected float32 weights to save activations");
}

void decode(Decoder& d, ExpertFfnBackward& a) {
  decode_experts(d, a, false);
  a.pre_activation = d.tensor("pre_activation", a.rows * a.hidden);
  a.dout = d.tensor("dout", a.rows * a.width);
  a.dx = d.output("dx", a.rows * a.width);
  a.dgamma = d.gradient("dgamma", a.width);
  for (int e = 0; e < a.experts; e++) {
    const std::string i = std::to_string(e);
    a.gradient[e].norm_gamma = d.gradient("dnorm_gamma_" + i, a.width);
    a.gradient[e].norm_beta = d.gradient("dnorm_beta_" + i, a.width);
    a.gradient[e].fc1 = d.gradient("dfc1_" + i, a.hidden * a.width);
    a.gradient[e].fc1_bias = d.gradient("dfc1_bias_" + i, a.hidden);
    a.gradient[e].fc2 = d.gradient("dfc2_" + i, a.hidden * a.width);
    a.gradient[e].fc2_bias = d.gradient("dfc2_bias_" + i, a.width);
  }
}

void decode(Decoder& d, PatchEmbedForward& a) {
  decode_pictures(d, a);
  if (!d.status().ok()) return;
  const int64_t tokens = 1 + (a.image_size / a.patch_size) * (a.image_size / a.patch_size);
  a.width = d.rows("weight");
  a.type_rows = d.rows("type");
  a.type_index = d.integers("type_index", a.images, 0, a.type_rows);
  a.weight = d.matrix("weight", a.width, 3 * a.patch_size * a.patch_size);
  a.bias = d.tensor("bias", a.width);
  a.cls = d.tensor("cls", a.width);
  a.position = d.tensor("position", tokens * a.width, true);
  a.type = d.tensor("type", a.type_rows * a.width);
  a.out = d.output("out", a.images * tokens * a.width);
}

void decode(Decoder& d, PatchEmbedBackward& a) {
  decode_pictures(d, a);
  if (!d.status().ok()) return;
  const int64_t tokens = 1 + (a.image_size / a.patch_size) * (a.image_size / a.patch_size);
  a.width = d.columns("dout");
  a.type_rows = d.has("dtype") ? d.rows("dtype") : INT32_MAX;
  a.type_index = d.integers("type_index", a.images, 0, a.type_rows);
  a.dout = d.tensor("dout", a.images * tokens * a.width);
  a.dweight = d.gradient("dweight", a.width * 3 * a.patch_size * a.patch_size);
  a.dbias = d.gradient("dbias", a.width);
  a.dcls = d.gradient("dcls", a.width);
  a.dposition = d.gradient("dposition", tokens * a.width);
  a.dtype = d.gradient("dtype", d.has("dtype") ? a.type_rows * a.width : 0);
}

void decode(Decoder& d, TextEmbedForward& a) {
  decode_tokens(d, a);
  a.beta = d.tensor("beta", a.width);
  a.type = d.tensor("type", d.count("type"));
  d.expect(d.columns("type") == a.width && d.rows("type") > 0, "expected a type table of the same width");
  a.out = d.output("out", a.rows * a.width);
}

void decode(Decoder& d, TextEmbedBackward& a) {
  decode_tokens(d, a);
  a.dout = d.tensor("dout", a.rows * a.width);
  a.dword = d.gradient("dword", a.vocabulary * a.width);
  a.dsegment = d.gradient("dsegment", d.count("segment"));
  a.dposition = d.has("position") ? d.gradient("dposition", a.max_length * a.width) : nullptr;
  a.dgamma = d.gradient("dgamma", a.width);
  a.dbeta = d.gradient("dbeta", a.width);
  a.dtype = d.has("dtype") ? d.gradient("dtype", d.count("dtype")) : nullptr;
}

}  // namespace mome
