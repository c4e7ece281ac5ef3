// Decoding of the ops of heads and losses, and the dispatch over all ops.
#include <cstring>
#include <type_traits>

#include "core/decode_ops.h"
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

namespace mome {
namespace {

void decode(Decoder& d, GatherRowsForward& a) {
  a.rows = d.rows("x");
  a.width = d.columns("x");
  a.count = d.rows("index");
  a.x = d.tensor("x", a.rows * a.width);
  a.index = d.integers("index", a.count, 0, a.rows);
  a.y = d.output("y", a.count * a.width);
}

void decode(Decoder& d, GatherRowsBackward& a) {
  a.rows = d.rows("dx");
  a.width = d.columns("dx");
  a.count = d.rows("index");
  a.index = d.integers("index", a.count, 0, a.rows);
  a.dy = d.tensor("dy", a.count * a.width);
  a.accumulate_dx = d.number("accumulate_dx", 0) != 0;
  a.dx = d.output("dx", a.rows * a.width);
}

void decode(Decoder& d, TanhForward& a) {
  a.count = d.count("x");
  a.x = d.tensor("x", a.count);
  a.y = d.output("y", a.count);
}

void decode(Decoder& d, TanhBackward& a) {
  a.count = d.count("y");
  a.y = d.tensor("y", a.count);
  a.dy = d.tensor("dy", a.count);
  a.dx = d.output("dx", a.count);
}

void decode(Decoder& d, GeluForward& a) {
  a.count = d.count("x");
  a.x = d.tensor("x", a.count);
  a.y = d.output("y", a.count);
}

void decode(Decoder& d, GeluBackward& a) {
  a.count = d.count("x");
  a.x = d.tensor("x", a.count);
  a.dy = d.tensor("dy", a.count);
  a.dx = d.output("dx", a.count);
}

void decode(Decoder& d, AddForward& a) {
  a.count = d.count("a");
  a.a = d.tensor("a", a.count);
  a.b = d.tensor("b", a.count);
  a.y = d.output("y", a.count);
}

void decode(Decoder& d, L2NormalizeForward& a) {
  a.rows = d.rows("x");
  a.width = d.columns("x");
  a.x = d.tensor("x", a.rows * a.width);
  a.y = d.output("y", a.rows * a.width);
}

void decode(Decoder& d, L2NormalizeBackward& a) {
  a.rows = d.rows("x");
  a.width = d.columns("x");
  a.x = d.tensor("x", a.rows * a.width);
  a.dy = d.tensor("dy", a.rows * a.width);
  a.dx = d.output("dx", a.rows * a.width);
}

template <typename Args>
void decode_logits(Decoder& d, Args& a) {
  a.rows = d.rows("logits");
  a.classes = d.columns("logits");
  a.logits = d.tensor("logits", a.rows * a.classes);
}

constexpr int64_t kIgnoredLabel = -100;

void decode(Decoder& d, CrossEntropyForward& a) {
  decode_logits(d, a);
  a.labels = d.integers("labels", a.rows, 0, a.classes, kIgnoredLabel);
  a.loss = d.output("loss", 1);
}

void decode(Decoder& d, CrossEntropyBackward& a) {
  decode_logits(d, a);
  a.labels = d.integers("labels", a.rows, 0, a.classes, kIgnoredLabel);
  a.weight = static_cast<float>(d.number("weight", 1));
  a.dlogits = d.output("dlogits", a.rows * a.classes);
}

void decode(Decoder& d, SoftBceForward& a) {
  decode_logits(d, a);
  a.targets = d.tensor("targets", a.rows * a.classes);
  a.loss = d.output("loss", 1);
}

void decode(Decoder& d, SoftBceBackward& a) {
  decode_logits(d, a);
  a.targets = d.tensor("targets", a.rows * a.classes);
  a.weight = static_cast<float>(d.number("weight", 1));
  a.dlogits = d.output("dlogits", a.rows * a.classes);
}

template <typename Args>
void decode_pairs(Decoder& d, Args& a) {
  a.rows = d.rows("image");
  a.width = d.columns("image");
  a.image = d.tensor("image", a.rows * a.width);
  a.text = d.tensor("text", a.rows * a.width);
  a.log_scale = d.tensor("log_scale", 1);
  a.group = d.integers("group", a.rows, INT32_MIN, int64_t{INT32_MAX} + 1, Decoder::kNothingElse, true);
}

void decode(Decoder& d, ContrastiveForward& a) {
  decode_pairs(d, a);
  a.similarity = d.output("similarity", a.rows * a.rows);
  a.loss = d.output("loss", 1);
}

void decode(Decoder& d, ContrastiveBackward& a) {
  decode_pairs(d, a);
  a.similarity = d.tensor("similarity", a.rows * a.rows);
  a.weight = static_cast<float>(d.number("weight", 1));
  a.dimage = d.output("dimage", a.rows * a.width);
  a.dtext = d.output("dtext", a.rows * a.width);
  a.dlog_scale = d.gradient("dlog_scale", 1);
}

template <typename Args>
Status decode_as(Decoder& decoder, Call& call) {
  static_assert(std::is_trivially_copyable_v<Args> && sizeof(Args) <= kArgsBytes);
  Args args{};
  decode(decoder, args);
  std::memcpy(call.args, &args, sizeof args);
  return decoder.status();
}

template <typename Forward, typename Backward>
Status decode_either(Direction direction, Decoder& decoder, Call& call) {
  return direction == Direction::forward ? decode_as<Forward>(decoder, call) : decode_as<Backward>(decoder, call);
}

}  // namespace

Status decode(const Instruction& instruction, const Binding& binding, Call& call) {
  const Direction direction = instruction.direction;
  call.kernel = kernel_table(binding.target).find(instruction.op, direction, binding.target);
  if (call.kernel == nullptr) {
    return error(Code::unsupported, "no %s kernel of %s for target %s", direction_name(direction).data(), op_name(instruction.op).data(),
                 target_name(binding.target).data());
  }
  std::memset(call.args, 0, sizeof call.args);  // equal arguments are equal bytes
  Decoder decoder(instruction, binding);
  switch (instruction.op) {
    case Op::patch_embed: return decode_either<PatchEmbedForward, PatchEmbedBackward>(direction, decoder, call);
    case Op::text_embed: return decode_either<TextEmbedForward, TextEmbedBackward>(direction, decoder, call);
    case Op::layer_norm: return decode_either<LayerNormForward, LayerNormBackward>(direction, decoder, call);
    case Op::qkv: return decode_either<QkvForward, QkvBackward>(direction, decoder, call);
    case Op::attention: return decode_either<AttentionForward, AttentionBackward>(direction, decoder, call);
    case Op::proj_residual: return decode_either<ProjResidualForward, ProjResidualBackward>(direction, decoder, call);
    case Op::expert_ffn: return decode_either<ExpertFfnForward, ExpertFfnBackward>(direction, decoder, call);
    case Op::gather_rows: return decode_either<GatherRowsForward, GatherRowsBackward>(direction, decoder, call);
    case Op::linear: return decode_either<LinearForward, LinearBackward>(direction, decoder, call);
    case Op::tanh: return decode_either<TanhForward, TanhBackward>(direction, decoder, call);
    case Op::gelu: return decode_either<GeluForward, GeluBackward>(direction, decoder, call);
    case Op::l2_normalize: return decode_either<L2NormalizeForward, L2NormalizeBackward>(direction, decoder, call);
    case Op::cross_entropy: return decode_either<CrossEntropyForward, CrossEntropyBackward>(direction, decoder, call);
    case Op::soft_bce: return decode_either<SoftBceForward, SoftBceBackward>(direction, decoder, call);
    case Op::contrastive: return decode_either<ContrastiveForward, ContrastiveBackward>(direction, decoder, call);
    case Op::add: return decode_as<AddForward>(decoder, call);
    case Op::adamw:
    case Op::squared_norm: break;  // run by the weight store's owner, never by a program
  }
  return error(Code::unsupported, "%s cannot be part of a program", op_name(instruction.op).data());
}

}  // namespace mome
