#include "test/harness.h"

namespace mome::test {
namespace {

// Written past the workspace; a kernel that touches it is caught.
constexpr size_t kGuardBytes = 256;
constexpr std::byte kGuard{0xa5};

}  // namespace

Matrix Runner::matrix(const Tensor& weight, int64_t rows, int64_t columns) {
  WeightStore store(type_);
  Matrix matrix{rows, columns, weight.data(), nullptr, nullptr, type_};
  if (!store.add("w", {rows, columns}, weight.data(), rows * columns).ok()) return {};
  if (device_) {
    if (!store.send(0, &type_, device_, pool_).ok()) return {};
    kept_on_device_.push_back(std::move(store.at(0).on_device[kPackedForm]));
    return {rows, columns, nullptr, kept_on_device_.back().data(), nullptr, type_};
  }
  for (const Packing packing : {Packing::forward, Packing::input_gradient}) {
    if (packing == Packing::input_gradient && type_ != WeightType::f32) continue;
    if (!store.pack(0, packing, target_, type_, pool_).ok()) return {};
  }
  Parameter& parameter = store.at(0);
  matrix.packed = parameter.packed[0].data();
  matrix.packed_transposed = parameter.packed[1].floats();
  if (type_ != WeightType::f32) matrix.data = parameter.data.floats();
  for (AlignedMemory* memory : {&parameter.data, &parameter.packed[0], &parameter.packed[1]}) kept_.push_back(std::move(*memory));
  return matrix;
}

Status Runner::run(Op op, Direction direction, const void* args) {
  const Kernel* kernel = kernel_table(target_).find(op, direction, target_);
  if (kernel == nullptr) return error(Code::unsupported, "no kernel %s", op_name(op).data());
  const size_t bytes = kernel->workspace == nullptr ? 0 : kernel->workspace(args, pool_.threads());
  AlignedMemory memory;
  if (!memory.reserve(bytes + kGuardBytes)) return error(Code::out_of_memory, "no memory");
  std::memset(memory.data(), 0xff, bytes);  // NaNs: reading before writing shows
  std::memset(memory.data() + bytes, static_cast<int>(kGuard), kGuardBytes);
  OpContext context{pool_, memory.data(), bytes};
  MOME_RETURN_IF_ERROR(kernel->run(args, context));
  for (size_t i = 0; i < kGuardBytes; i++) {
    if (memory.data()[bytes + i] != kGuard) return error(Code::internal, "%s wrote past its workspace of %zu bytes", op_name(op).data(), bytes);
  }
  return {};
}

OpCase with_weights(OpCase test, WeightType type) {
  test.name += "/" + std::string(weight_type_name(type));
  test.type = type;
  test.backward = nullptr;
  if (type == WeightType::i8 && test.op == Op::expert_ffn) {
    const size_t width = test.inputs.at("norm_gamma0").size(), hidden = test.inputs.at("fc1_bias0").size(), rows = test.inputs.at("x").size() / width;
    const size_t activations = rows * (width + hidden);
    // Three times what was seen, and one; in a small case even one would hide too much.
    if (activations >= 80000) test.ties = {static_cast<int64_t>(rows), static_cast<int64_t>(1 + activations / 250000)};
  }
  return test;
}

OpCase on_processors(OpCase test) {
  test.processor_only = true;
  return test;
}

std::vector<OpCase> all_cases() {
  std::vector<OpCase> cases;
  add_norm_cases(cases);
  add_linear_cases(cases);
  add_expert_cases(cases);
  add_tail_cases(cases);
  add_damaged_cases(cases);
  add_attention_cases(cases);
  add_embed_cases(cases);
  add_head_cases(cases);
  add_loss_cases(cases);
  add_optimizer_cases(cases);
  return cases;
}

}  // namespace mome::test
