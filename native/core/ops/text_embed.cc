#include "core/ops/text_embed.h"

#include "core/ops/spec.h"

namespace mome {
namespace {

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

void decode_forward(Decoder& d, TextEmbedForward& a) {
  decode_tokens(d, a);
  a.beta = d.tensor("beta", a.width);
  a.type = d.tensor("type", d.count("type"));
  d.expect(d.columns("type") == a.width && d.rows("type") > 0, "expected a type table of the same width");
  a.out = d.output("out", a.rows * a.width);
}

void decode_backward(Decoder& d, TextEmbedBackward& a) {
  decode_tokens(d, a);
  a.dout = d.tensor("dout", a.rows * a.width);
  a.dword = d.gradient("dword", a.vocabulary * a.width);
  a.dsegment = d.gradient("dsegment", d.count("segment"));
  a.dposition = d.has("position") ? d.gradient("dposition", a.max_length * a.width) : nullptr;
  a.dgamma = d.gradient("dgamma", a.width);
  a.dbeta = d.gradient("dbeta", a.width);
  a.dtype = d.has("dtype") ? d.gradient("dtype", d.count("dtype")) : nullptr;
}

}  // namespace

constinit const OpSpec text_embed_op = {
    .name = TextEmbedForward::kOp,
    .forward = decode_with<decode_forward>,
    .backward = decode_with<decode_backward>,
    .results = {"out"},
    .device_rows = DeviceRows::encoder,
};

}  // namespace mome
