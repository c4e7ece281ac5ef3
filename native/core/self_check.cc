#include "core/self_check.h"

#include <chrono>
#include <cmath>
#include <cstdlib>
#include <mutex>

#include "core/kernel_call.h"
#include "core/ops/attention.h"
#include "core/ops/expert_ffn.h"
#include "core/ops/linear.h"
#include "core/random.h"
#include "core/weights.h"

namespace mome {
namespace {

using Numbers = std::vector<float>;

// Uniform in [-size, size).
Numbers numbers(uint64_t seed, int64_t count, float size = 1) {
  Numbers values(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; i++)
    values[static_cast<size_t>(i)] = size * (2 * uniform(seed, 0, static_cast<uint64_t>(i)) - 1);
  return values;
}

// Runs the kernels of one target. `checked`: the target whose roundings `ref` makes too.
class Kernels {
 public:
  Kernels(Target target, const KernelTable& table, Target checked)
      : target_(target), table_(table), checked_(checked) {}

  // A weight as the target reads it.
  Status matrix(const Numbers& weight, int64_t rows, int64_t columns, WeightType type, Matrix& matrix) {
    matrix = {};
    matrix.rows = rows, matrix.columns = columns, matrix.type = type;
    matrix.rounds_rows = multiplies_bf16(checked_) && type == WeightType::bf16;
    if (const Packer* packer = table_.packer(target_); packer != nullptr) {
      AlignedMemory packed;
      if (!packed.reserve(packer->size(rows, columns, Form::packed, type)))
        return error(Code::out_of_memory, "self-check: no memory for a weight");
      packer->pack(weight.data(), nullptr, rows, columns, Form::packed, type, packed.data(), pool_);
      matrix.packed = packed.data();
      packed_.push_back(std::move(packed));
      return {};
    }
    auto store = std::make_unique<WeightStore>(type);
    MOME_RETURN_IF_ERROR(store->add("w", {rows, columns}, weight.data(), rows * columns));
    MOME_RETURN_IF_ERROR(store->pack(0, Form::packed, Target::ref, type, pool_));  // rounds the plain form
    if (type == WeightType::i8)
      round_weights(rows, columns, weight_sum_limit(checked_), store->at(0).host[Form::plain].floats());
    matrix.data = store->at(0).host[Form::plain].floats();
    plain_.push_back(std::move(store));
    return {};
  }

  template <typename Args>
  Status run(const Args& args) {
    const Kernel* kernel = table_.find(Args::kOp, Args::kDirection, target_);
    if (kernel == nullptr) return error(Code::unsupported, "self-check: no kernel of %s", Args::kOp);
    AlignedMemory workspace;
    const size_t bytes = kernel->workspace == nullptr ? 0 : kernel->workspace(&args, pool_.threads());
    if (!workspace.reserve(bytes)) return error(Code::out_of_memory, "self-check: no memory for %s", Args::kOp);
    OpContext context{pool_, workspace.data(), bytes};
    return kernel->run(&args, context);
  }

 private:
  Target target_;
  const KernelTable& table_;
  Target checked_;
  ThreadPool pool_{1};
  std::vector<AlignedMemory> packed_;
  std::vector<std::unique_ptr<WeightStore>> plain_;
};

// One computation. `run` fills `out`, which comes with its size.
struct Case {
  std::string name;
  double bound;  // relative L2
  int64_t size;
  std::function<Status(Kernels&, float* out)> run;
};

// Rounding lies far below both; every defect of an instruction lies far above.
constexpr double kBound = 1e-6;
// Where kernels round to bfloat16 what they made in float32, a number in the middle of two may go either way.
constexpr double kRoundedBound = 2e-4;
// And where they round probabilities to integers.
constexpr double kInt16Bound = 1e-5;

Case linear(int64_t rows, int64_t inputs, int64_t outputs, WeightType type) {
  return {"a product of " + std::to_string(rows) + " rows, " + std::string(weight_type_name(type)), kBound,
          rows * outputs, [=](Kernels& kernels, float* out) -> Status {
            const Numbers x = numbers(1, rows * inputs), bias = numbers(2, outputs);
            Matrix weight;
            MOME_RETURN_IF_ERROR(kernels.matrix(numbers(3, outputs * inputs, 0.2f), outputs, inputs, type, weight));
            return kernels.run(LinearForward{rows, x.data(), weight, bias.data(), out});
          }};
}

Case expert_ffn(int64_t rows, int64_t width, int64_t hidden, WeightType type, double bound) {
  return {"an expert, " + std::string(weight_type_name(type)), bound, rows * width,
          [=](Kernels& kernels, float* out) -> Status {
            const Numbers x = numbers(4, rows * width), norm_gamma = numbers(5, width), bias = numbers(6, hidden);
            ExpertFfnForward args{};
            args.rows = rows, args.width = width, args.hidden = hidden, args.eps = 1e-6f, args.x = x.data();
            args.experts = 1, args.out = out;
            ExpertForward& expert = args.expert[0];
            expert.begin = 0, expert.end = rows, expert.norm_gamma = norm_gamma.data(), expert.norm_beta = bias.data(),
            expert.fc1_bias = bias.data(), expert.fc2_bias = bias.data();
            MOME_RETURN_IF_ERROR(kernels.matrix(numbers(7, hidden * width, 0.3f), hidden, width, type, expert.fc1));
            MOME_RETURN_IF_ERROR(kernels.matrix(numbers(8, width * hidden, 0.3f), width, hidden, type, expert.fc2));
            return kernels.run(args);
          }};
}

// A text that is long enough for 16-bit integers, and a text with a picture, with relative positions.
Case attention(ProductType type, double bound) {
  static constexpr Sequence kSequences[] = {{0, 97, 0, 0}, {97, 5, 102, 17}};
  constexpr int64_t kRows = 119, kWidth = 40, kHeads = 2;
  static constexpr const char* kNames[] = {"float32", "bfloat16", "16-bit integers"};
  return {std::string("an attention, ") + kNames[static_cast<int>(type)], bound, kRows * kWidth,
          [=](Kernels& kernels, float* out) -> Status {
            const Numbers qkv = numbers(9, kRows * 3 * kWidth, 2);
            AttentionForward args{};
            args.position = {4, 100};
            const Numbers table = numbers(10, args.position.rows() * kHeads);
            args.rows = kRows, args.width = kWidth, args.heads = kHeads;
            args.sequences = kSequences, args.sequence_count = 2;
            args.qkv = qkv.data(), args.table = table.data(), args.table_columns = kHeads;
            args.scale = 1 / std::sqrt(static_cast<float>(kWidth / kHeads));
            args.out = out, args.type = type;
            summarise_sequences(kSequences, args);
            return kernels.run(args);
          }};
}

std::vector<Case> all_cases(Target target) {
  const bool rounds = multiplies_bf16(target);
  std::vector<Case> cases = {attention(ProductType::f32, kBound)};
  if (rounds) cases.push_back(attention(ProductType::bf16, kRoundedBound));
  if (multiplies_int16(target)) cases.push_back(attention(ProductType::int16, kInt16Bound));
  for (const WeightType type : {WeightType::f32, WeightType::bf16, WeightType::i8}) {
    cases.push_back(linear(28, 70, 40, type));  // whole tiles and tails
    cases.push_back(linear(1, 70, 150, type));  // several panels at once
    cases.push_back(expert_ffn(15, 40, 272, type, rounds && type == WeightType::bf16 ? kRoundedBound : kBound));
  }
  return cases;
}

double relative_error(const Numbers& actual, const Numbers& expected) {
  double squares = 0, norm = 0;
  for (size_t i = 0; i < expected.size(); i++) {
    const double apart = double{actual[i]} - expected[i];
    squares += apart * apart;
    norm += double{expected[i]} * expected[i];
  }
  return std::sqrt(squares / norm);
}

TargetCheck check(Target target, const KernelTable& table, bool planted) {
  const auto started = std::chrono::steady_clock::now();
  TargetCheck result;
  for (const Case& each : all_cases(target)) {
    Kernels ref(Target::ref, kernel_table(Target::ref), target), kernels(target, table, target);
    Numbers expected(static_cast<size_t>(each.size)), actual(static_cast<size_t>(each.size), NAN);
    Status status = each.run(ref, expected.data());
    if (status.ok()) status = each.run(kernels, actual.data());
    if (planted) actual.back() *= 1.01f;
    const double error = relative_error(actual, expected);
    if (status.ok() && error <= each.bound) continue;
    char line[64];
    std::snprintf(line, sizeof line, ": relative error %.2g, expected at most %.2g", error, each.bound);
    result.passed = false;
    result.wrong = status.ok() ? each.name + line : status.message();
    break;
  }
  const auto took = std::chrono::steady_clock::now() - started;
  result.milliseconds = std::chrono::duration<double, std::milli>(took).count();
  return result;
}

#if defined(MOME_TESTS)
bool plants_an_error(Target target) {
  const char* list = std::getenv("MOME_PLANT_SELF_CHECK");
  std::string_view rest = list == nullptr ? "" : list;
  while (!rest.empty()) {
    const size_t end = rest.find(',');
    if (rest.substr(0, end) == target_name(target)) return true;
    rest = end == std::string_view::npos ? "" : rest.substr(end + 1);
  }
  return false;
}
#else
bool plants_an_error(Target) { return false; }
#endif

}  // namespace

TargetCheck check_target(Target target, const KernelTable& table) { return check(target, table, false); }

const TargetCheck& target_check(Target target) {
  struct Done {
    std::once_flag once;
    TargetCheck check;
  };
  static auto* const done = new Done[kTargets];  // never destroyed, like the tables
  Done& mine = done[static_cast<int>(target)];
  std::call_once(mine.once, [&] {
    if (target != Target::ref) mine.check = check(target, kernel_table(target), plants_an_error(target));
  });
  return mine.check;
}

TargetChoice choose_target(std::span<const Target> targets, const std::function<const TargetCheck&(Target)>& check) {
  TargetChoice choice;
  for (size_t i = targets.size(); i-- > 0;) {
    choice.target = targets[i];
    if (targets[i] == Target::ref || check(targets[i]).passed) return choice;
    choice.rejected.push_back(targets[i]);
  }
  choice.target = Target::ref;
  return choice;
}

const TargetChoice& chosen_target() {
  static const auto* const choice = [] {
    std::vector<Target> supported;
    for (const Target target : kCpuTargets) {
      if (target_supported(target)) supported.push_back(target);
    }
    return new TargetChoice(choose_target(supported));
  }();
  return *choice;
}

}  // namespace mome
