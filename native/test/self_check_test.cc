// The self-check of targets: the kernels of this machine pass, kernels that compute wrongly do not, and the target that
// is chosen is the fastest that passes.
#include "core/self_check.h"

#include <cmath>
#include <cstdio>

#include "core/ops/attention.h"
#include "core/ops/expert_ffn.h"
#include "core/ops/linear.h"
#include "test/expect.h"

namespace {

using namespace mome;
using test::expect;
using test::failures;

// Kernels of ref with one number of the result slightly wrong, as those of Target::avx2.
template <typename Args, float* Args::* kResult>
Status damaged(const void* args, OpContext& context) {
  const Kernel* kernel = kernel_table(Target::ref).find(Args::kOp, Args::kDirection, Target::ref);
  MOME_RETURN_IF_ERROR(kernel->run(args, context));
  float* result = static_cast<const Args*>(args)->*kResult;
  result[3] += 1e-3f * (1 + std::fabs(result[3]));
  return {};
}

// All kernels of ref as those of avx2, except for `replaced`.
KernelTable table_with(const Kernel& replaced) {
  KernelTable table;
  for (Kernel kernel : kernel_table(Target::ref).kernels()) {
    if (kernel.target != Target::ref) continue;
    if (kernel.op == replaced.op && kernel.direction == replaced.direction) kernel.run = replaced.run;
    kernel.target = Target::avx2;
    table.add(kernel);
  }
  return table;
}

void test_kernels() {
  for (const Target target : kCpuTargets) {
    if (!target_supported(target)) continue;
    const TargetCheck check = check_target(target, kernel_table(target));
    const std::string name(target_name(target));
    expect(check.passed && check.wrong.empty(), name + " passes: " + check.wrong);
    std::printf("%s: %.2f ms\n", name.c_str(), check.milliseconds);
  }
}

void test_damage() {
  const Kernel nothing{"", Direction::forward, Target::avx2, nullptr, nullptr};
  expect(check_target(Target::avx2, table_with(nothing)).passed, "a table without damage passes");
  const Kernel wrong[] = {
      {LinearForward::kOp, Direction::forward, Target::avx2, damaged<LinearForward, &LinearForward::y>, nullptr},
      {ExpertFfnForward::kOp, Direction::forward, Target::avx2, damaged<ExpertFfnForward, &ExpertFfnForward::out>,
       nullptr},
      {AttentionForward::kOp, Direction::forward, Target::avx2, damaged<AttentionForward, &AttentionForward::out>,
       nullptr}};
  for (const Kernel& kernel : wrong) {
    const TargetCheck check = check_target(Target::avx2, table_with(kernel));
    expect(!check.passed && check.wrong.find("relative error") != std::string::npos,
           "damage of " + std::string(kernel.op) + " is noticed: " + check.wrong);
  }
  const TargetCheck empty = check_target(Target::avx2, KernelTable());
  expect(!empty.passed && empty.wrong.find("no kernel of") != std::string::npos, "a table without kernels fails");
}

void test_choice() {
  const Target targets[] = {Target::ref, Target::avx2, Target::avx512, Target::avx512_vnni};
  const TargetCheck passed, failed{false, "everything", 0};
  const auto choose = [&](std::vector<Target> broken) {
    return choose_target(targets, [&, broken](Target target) -> const TargetCheck& {
      expect(target != Target::ref, "ref is not checked");
      for (const Target each : broken) {
        if (each == target) return failed;
      }
      return passed;
    });
  };
  const auto is = [](const TargetChoice& choice, Target target, const std::vector<Target>& rejected) {
    return choice.target == target && choice.rejected == rejected;
  };
  expect(is(choose({}), Target::avx512_vnni, {}), "the fastest is taken");
  expect(is(choose({Target::avx2}), Target::avx512_vnni, {}), "slower ones are not asked");
  expect(is(choose({Target::avx512_vnni}), Target::avx512, {Target::avx512_vnni}), "the next takes its place");
  expect(is(choose({Target::avx512_vnni, Target::avx512, Target::avx2}), Target::ref,
            {Target::avx512_vnni, Target::avx512, Target::avx2}),
         "ref is left");
  expect(chosen_target().target == best_target() && chosen_target().rejected.empty(),
         "this machine's fastest is taken");
}

}  // namespace

int main() {
  test_kernels();
  test_damage();
  test_choice();
  std::printf("%d checks, %d failures\n", test::checks, failures);
  return failures == 0 ? 0 : 1;
}
