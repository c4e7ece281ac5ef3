#include "core/kernel.h"

namespace mome {
namespace {

constexpr std::string_view kOpNames[kOps] = {
    "patch_embed", "text_embed",   "layer_norm",    "qkv",      "attention",   "proj_residual", "expert_ffn", "gather_rows", "linear",
    "tanh",        "gelu",         "l2_normalize",  "cross_entropy", "soft_bce", "contrastive", "add",        "adamw",       "squared_norm",
};
constexpr std::string_view kTargetNames[kTargets] = {"ref", "avx2", "avx512", "avx512_vnni", "cuda"};
constexpr std::string_view kWeightTypeNames[] = {"float32", "bfloat16", "int8"};

}  // namespace

std::string_view op_name(Op op) { return kOpNames[static_cast<int>(op)]; }
std::string_view direction_name(Direction direction) { return direction == Direction::forward ? "forward" : "backward"; }
std::string_view target_name(Target target) { return kTargetNames[static_cast<int>(target)]; }

bool parse_op(std::string_view name, Op& op) {
  for (int i = 0; i < kOps; i++) {
    if (kOpNames[i] != name) continue;
    op = static_cast<Op>(i);
    return true;
  }
  return false;
}

std::string_view weight_type_name(WeightType type) { return kWeightTypeNames[static_cast<int>(type)]; }

bool parse_weight_type(std::string_view name, WeightType& type) {
  for (int i = 0; i < 3; i++) {
    if (kWeightTypeNames[i] != name) continue;
    type = static_cast<WeightType>(i);
    return true;
  }
  return false;
}

bool parse_target(std::string_view name, Target& target) {
  for (int i = 0; i < kTargets; i++) {
    if (kTargetNames[i] != name) continue;
    target = static_cast<Target>(i);
    return true;
  }
  return false;
}

void KernelTable::add(const Kernel& kernel) { kernels_.push_back(kernel); }

void KernelTable::set_packer(Target target, const Packer& packer) { packers_[static_cast<int>(target)] = packer; }

const Kernel* KernelTable::find(Op op, Direction direction, Target target) const {
  for (const Kernel& kernel : kernels_) {
    if (kernel.op == op && kernel.direction == direction && kernel.target == target) return &kernel;
  }
  return nullptr;
}

const Packer* KernelTable::packer(Target target) const {
  const Packer& packer = packers_[static_cast<int>(target)];
  return packer.pack == nullptr ? nullptr : &packer;
}

}  // namespace mome
