#include "core/ops/table.h"

#include "core/ops/attention.h"
#include "core/ops/elementwise.h"
#include "core/ops/expert_ffn.h"
#include "core/ops/gather_rows.h"
#include "core/ops/layer_norm.h"
#include "core/ops/linear.h"
#include "core/ops/losses.h"
#include "core/ops/optimizer.h"
#include "core/ops/patch_embed.h"
#include "core/ops/proj_residual.h"
#include "core/ops/qkv.h"
#include "core/ops/text_embed.h"

namespace mome {
namespace {

constexpr const OpSpec* kOps[] = {
    &patch_embed_op,   &text_embed_op,  &layer_norm_op,  &qkv_op,  &attention_op, &proj_residual_op,
    &expert_ffn_op,    &gather_rows_op, &linear_op,      &tanh_op, &gelu_op,      &l2_normalize_op,
    &cross_entropy_op, &soft_bce_op,    &contrastive_op, &add_op,  &adamw_op,     &squared_norm_op,
};

}  // namespace

OpTable op_table() { return kOps; }

const OpSpec* find_op(OpTable ops, std::string_view name) {
  for (const OpSpec* op : ops) {
    if (op->name == name) return op;
  }
  return nullptr;
}

std::string_view device_rows_name(DeviceRows rows) {
  switch (rows) {
    case DeviceRows::float32: return "float32";
    case DeviceRows::encoder: return "encoder";
    case DeviceRows::same: return "same";
    case DeviceRows::to_float32: return "to_float32";
  }
  return "";
}

}  // namespace mome
