// Which fields of the forward argument structs point to what, so that a test can move them to a device: `rows` are kept
// in the type of the run, everything else as it is.
#pragma once

#include "core/ops/attention.h"
#include "core/ops/elementwise.h"
#include "core/ops/expert_ffn.h"
#include "core/ops/gather_rows.h"
#include "core/ops/layer_norm.h"
#include "core/ops/linear.h"
#include "core/ops/losses.h"
#include "core/ops/patch_embed.h"
#include "core/ops/proj_residual.h"
#include "core/ops/qkv.h"
#include "core/ops/text_embed.h"

namespace mome::test {

template <typename Visitor>
void visit(LayerNormForward& a, Visitor& v) {
  v.rows(a.x, a.rows * a.width), v.plain(a.gamma, a.width), v.plain(a.beta, a.width), v.rows_out(a.y, a.rows * a.width);
}
template <typename Visitor>
void visit(LinearForward& a, Visitor& v) {
  v.rows(a.x, a.rows * a.weight.columns), v.plain(a.bias, a.weight.rows), v.plain_out(a.y, a.rows * a.weight.rows);
}
template <typename Visitor>
void visit(QkvForward& a, Visitor& v) {
  v.rows(a.x, a.rows * a.width), v.plain(a.q_bias, a.width), v.plain(a.v_bias, a.width),
      v.rows_out(a.y, a.rows * 3 * a.width);
}
template <typename Visitor>
void visit(ProjResidualForward& a, Visitor& v) {
  v.rows(a.x, a.rows * a.width), v.rows(a.a, a.rows * a.width), v.plain(a.bias, a.width), v.plain(a.gamma, a.width),
      v.plain(a.row_scale, a.rows);
  v.rows_out(a.out, a.rows * a.width);
}
template <typename Visitor>
void visit(ExpertFfnForward& a, Visitor& v) {
  v.rows(a.x, a.rows * a.width), v.plain(a.bounds, a.experts + 1), v.plain(a.gamma, a.width),
      v.plain(a.row_scale, a.rows);
  for (int e = 0; e < a.experts; e++) {
    ExpertForward& expert = a.expert[e];
    v.plain(expert.norm_gamma, a.width), v.plain(expert.norm_beta, a.width), v.plain(expert.fc1_bias, a.hidden),
        v.plain(expert.fc2_bias, a.width);
  }
  v.rows_out(a.out, a.rows * a.width), v.plain_out(a.pre_activation, a.rows * a.hidden);
}
template <typename Visitor>
void visit(AttentionForward& a, Visitor& v) {
  v.plain(a.sequences, a.sequence_count), v.rows(a.qkv, a.rows * 3 * a.width),
      v.plain(a.table, a.position.rows() * a.table_columns);
  v.rows_out(a.out, a.rows * a.width), v.plain_out(a.lse, a.rows * a.heads);
}
template <typename Visitor>
void visit(PatchEmbedForward& a, Visitor& v) {
  int64_t pictures = 0;  // as many as are shown
  for (int64_t i = 0; i < a.images; i++) pictures = a.picture[i] < pictures ? pictures : a.picture[i] + 1;
  const int64_t pixels = pictures * 3 * a.image_size * a.image_size,
                tokens = 1 + (a.image_size / a.patch_size) * (a.image_size / a.patch_size);
  v.plain(a.pixels, pixels), v.plain(a.bytes, pixels), v.plain(a.picture, a.images), v.plain(a.type_index, a.images),
      v.plain(a.bias, a.width), v.plain(a.cls, a.width);
  v.plain(a.position, tokens * a.width), v.plain(a.type, a.type_rows * a.width);
  v.plain(a.mask, a.images * (tokens - 1)), v.plain(a.mask_token, a.width),
      v.rows_out(a.out, a.images * tokens * a.width);
}
template <typename Visitor>
void visit(TextEmbedForward& a, Visitor& v) {
  v.plain(a.ids, a.rows), v.plain(a.index, a.rows), v.plain(a.word, a.vocabulary * a.width),
      v.plain(a.segment, a.width), v.plain(a.position, a.max_length * a.width);
  v.plain(a.gamma, a.width), v.plain(a.beta, a.width), v.plain(a.type, a.width), v.rows_out(a.out, a.rows * a.width);
}
template <typename Visitor>
void visit(GatherRowsForward& a, Visitor& v) {
  v.rows(a.x, a.rows * a.width), v.plain(a.index, a.count), v.rows_out(a.y, a.count * a.width);
}
template <typename Visitor>
void visit(TanhForward& a, Visitor& v) {
  v.plain(a.x, a.count), v.plain_out(a.y, a.count);
}
template <typename Visitor>
void visit(GeluForward& a, Visitor& v) {
  v.plain(a.x, a.count), v.plain_out(a.y, a.count);
}
template <typename Visitor>
void visit(AddForward& a, Visitor& v) {
  v.plain(a.a, a.count), v.plain(a.b, a.count), v.plain_out(a.y, a.count);
}
template <typename Visitor>
void visit(L2NormalizeForward& a, Visitor& v) {
  v.rows(a.x, a.rows * a.width), v.plain_out(a.y, a.rows * a.width);
}
template <typename Visitor>
void visit(CrossEntropyForward& a, Visitor& v) {
  v.plain(a.logits, a.rows * a.classes), v.plain(a.labels, a.rows), v.plain_out(a.loss, 1);
}
template <typename Visitor>
void visit(SoftBceForward& a, Visitor& v) {
  v.plain(a.logits, a.rows * a.classes), v.plain(a.targets, a.rows * a.classes), v.plain_out(a.loss, 1);
}
template <typename Visitor>
void visit(ContrastiveForward& a, Visitor& v) {
  v.plain(a.image, a.rows * a.width), v.plain(a.text, a.rows * a.width), v.plain(a.log_scale, 1),
      v.plain(a.group, a.rows);
  v.plain_out(a.similarity, a.rows * a.rows), v.plain_out(a.loss, 1);
}

}  // namespace mome::test
