#include "core/kernel.h"

namespace mome {
namespace {

constexpr std::string_view kTargetNames[kTargets] = {
    "ref", "avx2", "avx2_vnni", "avx512", "avx512_vnni", "avx512_bf16", "amx", "neon", "neon_dot", "neon_bf16", "cuda"};
constexpr std::string_view kWeightTypeNames[] = {"float32", "bfloat16", "int8"};

}  // namespace

std::string_view direction_name(Direction direction) {
  return direction == Direction::forward ? "forward" : "backward";
}
std::string_view target_name(Target target) { return kTargetNames[static_cast<int>(target)]; }

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

const Kernel* KernelTable::find(std::string_view op, Direction direction, Target target) const {
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
