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
    if (!store.send(0, Form::packed, type_, device_, pool_).ok()) return {};
    kept_on_device_.push_back(std::move(store.at(0).device[Form::packed]));
    return {rows, columns, nullptr, kept_on_device_.back().data(), nullptr, type_};
  }
  for (const Form form : {Form::packed, Form::packed_transposed}) {
    if (form == Form::packed_transposed && type_ != WeightType::f32) continue;
    if (!store.pack(0, form, target_, type_, pool_).ok()) return {};
  }
  PerForm<AlignedMemory>& forms = store.at(0).host;
  matrix.packed = forms[Form::packed].data();
  matrix.packed_transposed = forms[Form::packed_transposed].floats();
  if (type_ != WeightType::f32) matrix.data = forms[Form::plain].floats();
  for (AlignedMemory& memory : forms.values) kept_.push_back(std::move(memory));
  return matrix;
}

Status Runner::run(std::string_view op, Direction direction, const void* args) {
  const Kernel* kernel = kernel_table(target_).find(op, direction, target_);
  if (kernel == nullptr) return error(Code::unsupported, "no kernel %s", op.data());
  const size_t bytes = kernel->workspace == nullptr ? 0 : kernel->workspace(args, pool_.threads());
  AlignedMemory memory;
  if (!memory.reserve(bytes + kGuardBytes)) return error(Code::out_of_memory, "no memory");
  std::memset(memory.data(), 0xff, bytes);  // NaNs: reading before writing shows
  std::memset(memory.data() + bytes, static_cast<int>(kGuard), kGuardBytes);
  OpContext context{pool_, memory.data(), bytes};
  MOME_RETURN_IF_ERROR(kernel->run(args, context));
  for (size_t i = 0; i < kGuardBytes; i++) {
    if (memory.data()[bytes + i] != kGuard) return error(Code::internal, "%s wrote past its workspace of %zu bytes", op.data(), bytes);
  }
  return {};
}

OpCase with_weights(OpCase test, WeightType type) {
  test.name += "/" + std::string(weight_type_name(type));
  test.type = type;
  test.backward = nullptr;
  if (type == WeightType::i8) test.ties = test.int8_ties;
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
