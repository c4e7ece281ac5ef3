#include "core/ops/losses.h"

#include "core/ops/spec.h"

namespace mome {
namespace {

constexpr int64_t kIgnoredLabel = -100;

template <typename Args>
void decode_logits(Decoder& d, Args& a) {
  a.rows = d.rows("logits");
  a.classes = d.columns("logits");
  a.logits = d.tensor("logits", a.rows * a.classes);
}

void cross_entropy_forward(Decoder& d, CrossEntropyForward& a) {
  decode_logits(d, a);
  a.labels = d.integers("labels", a.rows, 0, a.classes, kIgnoredLabel);
  a.loss = d.output("loss", 1);
}

void cross_entropy_backward(Decoder& d, CrossEntropyBackward& a) {
  decode_logits(d, a);
  a.labels = d.integers("labels", a.rows, 0, a.classes, kIgnoredLabel);
  a.weight = static_cast<float>(d.number("weight", 1));
  a.dlogits = d.output("dlogits", a.rows * a.classes);
}

void soft_bce_forward(Decoder& d, SoftBceForward& a) {
  decode_logits(d, a);
  a.targets = d.tensor("targets", a.rows * a.classes);
  a.loss = d.output("loss", 1);
}

void soft_bce_backward(Decoder& d, SoftBceBackward& a) {
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

void contrastive_forward(Decoder& d, ContrastiveForward& a) {
  decode_pairs(d, a);
  a.similarity = d.output("similarity", a.rows * a.rows);
  a.loss = d.output("loss", 1);
}

void contrastive_backward(Decoder& d, ContrastiveBackward& a) {
  decode_pairs(d, a);
  a.similarity = d.tensor("similarity", a.rows * a.rows);
  a.weight = static_cast<float>(d.number("weight", 1));
  a.dimage = d.output("dimage", a.rows * a.width);
  a.dtext = d.output("dtext", a.rows * a.width);
  a.dlog_scale = d.gradient("dlog_scale", 1);
}

}  // namespace

constinit const OpSpec cross_entropy_op = {
    .name = CrossEntropyForward::kOp,
    .forward = decode_with<cross_entropy_forward>,
    .backward = decode_with<cross_entropy_backward>,
    .rows = {"logits"},
    .results = {"loss"},
    .backward_results = {"dlogits"},
};

constinit const OpSpec soft_bce_op = {
    .name = SoftBceForward::kOp,
    .forward = decode_with<soft_bce_forward>,
    .backward = decode_with<soft_bce_backward>,
    .rows = {"logits", "targets"},
    .results = {"loss"},
    .backward_results = {"dlogits"},
};

constinit const OpSpec contrastive_op = {
    .name = ContrastiveForward::kOp,
    .forward = decode_with<contrastive_forward>,
    .backward = decode_with<contrastive_backward>,
    .rows = {"image", "text"},
    .results = {"similarity", "loss"},
    .backward_results = {"dimage", "dtext"},
};

}  // namespace mome
