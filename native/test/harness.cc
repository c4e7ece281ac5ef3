#include "test/harness.h"

#include <sys/mman.h>

#include <cstdlib>
#include <new>

namespace mome::test {
namespace {

constexpr size_t kOffset = 16;     // of tensors that may lie anywhere
constexpr std::byte kGuard{0xa5};  // past the workspace; a kernel that writes there is caught

}  // namespace

void* allocate_placed(size_t bytes) {
  const bool huge = placement == Placement::arena && bytes >= kHugePage;
  const size_t alignment = huge ? kHugePage : kAlignment;
  void* memory = std::aligned_alloc(alignment, (bytes + kOffset + alignment - 1) / alignment * alignment);
  if (memory == nullptr) throw std::bad_alloc();
  if (huge) madvise(memory, bytes, MADV_HUGEPAGE);
  return static_cast<std::byte*>(memory) + (placement == Placement::arena ? 0 : kOffset);
}

void release_placed(void* memory) {
  std::free(static_cast<std::byte*>(memory) - (placement == Placement::arena ? 0 : kOffset));
}

Matrix Runner::matrix(const Tensor& weight, int64_t rows, int64_t columns) {
  columns_ = rows;
  WeightStore store(type_);
  Matrix matrix{
      rows, columns, weight.data(), nullptr, nullptr, type_, multiplies_bf16(rounding_) && type_ == WeightType::bf16};
  if (!store.add("w", {rows, columns}, weight.data(), rows * columns).ok()) return {};
  if (device_) {
    if (!store.send(0, Form::packed, type_, device_, pool_).ok()) return {};
    kept_on_device_.push_back(std::move(store.at(0).device[Form::packed]));
    return {rows, columns, nullptr, kept_on_device_.back().data(), nullptr, type_, false};
  }
  for (const Form form : {Form::packed, Form::packed_transposed}) {
    const bool differentiable = type_ == WeightType::f32 || (type_ == WeightType::bf16 && multiplies_bf16(rounding_));
    if (form == Form::packed_transposed && !differentiable) continue;
    if (!store.pack(0, form, target_, type_, pool_).ok()) return {};
  }
  PerForm<AlignedMemory>& forms = store.at(0).host;
  matrix.packed = forms[Form::packed].data();
  matrix.packed_transposed = forms[Form::packed_transposed].data();
  if (type_ != WeightType::f32) matrix.data = forms[Form::plain].floats();
  if (type_ == WeightType::i8 && target_ == Target::ref)
    round_weights(rows, columns, weight_sum_limit(rounding_), forms[Form::plain].floats());
  for (AlignedMemory& memory : forms.values) kept_.push_back(std::move(memory));
  return matrix;
}

Status Runner::run(KernelCall& call) {
  const size_t bytes = call.workspace_bytes();
  std::memset(call.workspace(), 0xff, bytes);  // NaNs: reading before writing shows
  std::memset(call.workspace() + bytes, static_cast<int>(kGuard), kGuardBytes);
  MOME_RETURN_IF_ERROR(call.run());
  for (size_t i = 0; i < kGuardBytes; i++) {
    if (call.workspace()[bytes + i] != kGuard) {
      return error(Code::internal, "%s wrote past its workspace of %zu bytes", call.kernel().op.data(), bytes);
    }
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

std::vector<PerfCase> perf_cases() {
  std::vector<PerfCase> cases;
  add_layer_perf_cases(cases);
  add_attention_perf_cases(cases);
  add_optimizer_perf_cases(cases);
  return cases;
}

}  // namespace mome::test
