// mome_kernels --mode support | check | stop | rows | grad | cuda | cuda-subset | cuda-gemm | cuda-smoke | cuda-probe |
// cuda-ops [--op NAME] [--type float32|bfloat16]
//   support  every op has every direction on every CPU target that the build has
//   check    every target against ref, bitwise equal for 1 and 3 threads; and a planted error must be noticed
//   stop     kernels that are stopped before and while they run keep to their memory
//   rows     each row alone has the bits of the row in the batch, at depths of real models
//   cuda     every forward kernel of the CUDA library against ref, float32 and bfloat16, twice with the same bits;
//   skipped without a
//            device, unless MOME_REQUIRE=cuda; the subset, small cases of every kernel, is for tools that run kernels
//            slowly; cuda-gemm has products alone, for one tile at a time (MOME_GEMM_TILE), cuda-smoke the few bfloat16
//            ones of the subset; MOME_VERBOSE=1 names op, type and case before each. With --op and --type that op or
//            type alone: after an error that a device does not recover from, every later case of a process fails. A
//            wrong output is mapped (error_map.h)
//   cuda-probe  bfloat16 products whose results name what was read, mapped where they are wrong
//   cuda-ops    a line of JSON for each op and type that a device has cases of
//   grad     ref's gradients against central differences along random directions
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <set>
#include <thread>

#include "core/ops/table.h"
#include "core/quantise.h"
#include "test/error_map.h"
#include "test/harness.h"
#include "test/rows_alone.h"

namespace mome::test {
namespace {

int failures = 0;

void fail(const std::string& what) {
  std::printf("FAILED %s\n", what.c_str());
  failures++;
}

struct Difference {
  double relative = 0;
  size_t worst = 0;
};

// Relative L2 error; infinite where one is not finite and the other is.
Difference difference(const Tensor& actual, const Tensor& expected) {
  Difference d;
  if (actual.size() != expected.size()) return {INFINITY, 0};
  double squares = 0, norm = 0, most = 0;
  for (size_t i = 0; i < expected.size(); i++) {
    const double a = actual[i], e = expected[i];
    if (std::isnan(a) && std::isnan(e)) continue;
    const double delta = std::fabs(a - e);
    if (!std::isfinite(delta)) return {INFINITY, i};
    if (delta > most) {
      most = delta;
      d.worst = i;
    }
    squares += delta * delta;
    norm += e * e;
  }
  d.relative = norm == 0 ? std::sqrt(squares) : std::sqrt(squares / norm);
  return d;
}

Tensors random_like(const Tensors& outputs, const std::vector<std::string>& names, uint32_t seed) {
  Random random(seed);
  Tensors result;
  for (const std::string& name : names) result[name] = random.normal(static_cast<int64_t>(outputs.at(name).size()));
  return result;
}

struct Results {
  Tensors outputs, gradients;
  int64_t columns = 0;  // of a product's output, else 0
};

bool run_case(const OpCase& test, Target target, int threads, const Tensors* saved, Results& results,
              const std::shared_ptr<Device>& device = nullptr) {
  ThreadPool pool(threads);
  Runner runner(target, pool, test.type, device);
  Status status = test.forward(runner, test.inputs, results.outputs);
  results.columns = runner.columns();
  if (status.ok() && test.backward && !device) {
    const Tensors dout = random_like(results.outputs, test.differentiable, 99);
    status = test.backward(runner, test.inputs, saved != nullptr ? *saved : results.outputs, dout, results.gradients);
  }
  if (!status.ok()) fail(test.name + " on " + std::string(target_name(target)) + ": " + status.message());
  return status.ok();
}

// `actual` with the rows that ties explain taken from `expected`: the worst ones inside kTieBound.
Tensor without_ties(const OpCase& test, Tensor actual, const Tensor& expected) {
  if (test.ties.most == 0 || actual.size() != expected.size()) return actual;
  const int64_t width = static_cast<int64_t>(expected.size()) / test.ties.rows;
  std::vector<std::pair<double, int64_t>> apart;  // error and begin of a row
  for (int64_t begin = 0; begin < width * test.ties.rows; begin += width) {
    const auto row = [&](const Tensor& values) {
      return Tensor(values.begin() + begin, values.begin() + begin + width);
    };
    const double error = difference(row(actual), row(expected)).relative;
    if (error > test.bound && error <= kTieBound) apart.emplace_back(error, begin);
  }
  std::sort(apart.rbegin(), apart.rend());
  for (size_t i = 0; i < apart.size() && i < static_cast<size_t>(test.ties.most); i++) {
    std::copy_n(expected.begin() + apart[i].second, width, actual.begin() + apart[i].second);
  }
  return actual;
}

// An error in one element; where ties are allowed for, in one row more than they may take.
Tensor with_planted_error(const OpCase& test, Tensor values) {
  const auto plant = [&](size_t at) { values[at] += 1e-2f * (1 + std::fabs(values[at])); };
  plant(values.size() / 2);
  const size_t width = test.ties.most > 0 ? values.size() / static_cast<size_t>(test.ties.rows) : 0;
  for (int64_t i = 0; i < test.ties.most; i++)
    plant((values.size() / 2 + static_cast<size_t>(i + 1) * width) % values.size());
  return values;
}

void compare(const OpCase& test, const char* kind, Target target, const Tensors& actual, const Tensors& expected) {
  for (const auto& [name, values] : expected) {
    const Difference d = difference(without_ties(test, actual.at(name), values), values);
    if (d.relative <= test.bound) continue;
    char line[256];
    std::snprintf(line, sizeof line, "%s %s %s on %s: relative L2 %.3g > %.3g, element %zu is %.9g, expected %.9g",
                  test.name.c_str(), kind, name.c_str(), target_name(target).data(), d.relative, test.bound, d.worst,
                  d.worst < actual.at(name).size() ? actual.at(name)[d.worst] : NAN,
                  d.worst < values.size() ? values[d.worst] : NAN);
    fail(line);
  }
}

bool same_bits(const Tensors& a, const Tensors& b) {
  for (const auto& [name, values] : a) {
    const Tensor& other = b.at(name);
    if (other.size() != values.size()) return false;
    if (!values.empty() && std::memcmp(values.data(), other.data(), values.size() * sizeof(float)) != 0) return false;
  }
  return true;
}

// A line of JSON for each output that is wrong. Rows that nobody reads are NaN on both sides.
void map_errors(const OpCase& test, const char* type, const Results& actual, const Results& expected) {
  for (const auto& [name, values] : expected.outputs) {
    const auto gamma = test.inputs.find("gamma");
    const int64_t columns = actual.columns != 0          ? actual.columns
                            : gamma != test.inputs.end() ? static_cast<int64_t>(gamma->second.size())
                                                         : 0;
    const MappedOutput where{test.op, type, test.name, name, columns, test.bound};
    if (difference(actual.outputs.at(name), values).relative > test.bound)
      std::printf("%s\n", error_map(where, actual.outputs.at(name), values).c_str());
  }
}

void check() {
  int compared = 0;
  for (const OpCase& test : all_cases()) {
    Results expected;
    if (!run_case(test, Target::ref, 1, nullptr, expected)) continue;
    for (const Target target : kCpuTargets) {
      if (target == Target::ref || !target_supported(target)) continue;
      Results one, three;
      if (!run_case(test, target, 1, &expected.outputs, one) || !run_case(test, target, 3, &expected.outputs, three))
        continue;
      compare(test, "output", target, one.outputs, expected.outputs);
      compare(test, "gradient", target, one.gradients, expected.gradients);
      if (!same_bits(one.outputs, three.outputs) || !same_bits(one.gradients, three.gradients)) {
        fail(test.name + " on " + std::string(target_name(target)) + ": 1 and 3 threads differ");
      }
      compared++;
    }
    // A planted error must show.
    for (const auto& [name, values] : expected.outputs) {
      if (values.empty()) continue;
      const Tensor planted = without_ties(test, with_planted_error(test, values), values);
      if (difference(planted, values).relative <= test.bound && values.size() < 20000)
        fail(test.name + " " + name + ": a planted error was not noticed");
    }
  }
  std::printf("%d comparisons with ref\n", compared);
  if (compared == 0 && best_target() != Target::ref) fail("nothing was compared");
}

// A stopped kernel leaves wrong results; it must not read or write where it may not. (Sanitizers see the rest of it.)
void stop() {
  int stopped = 0;
  for (const OpCase& test : all_cases()) {
    for (const Target target : kCpuTargets) {
      if (!target_supported(target)) continue;
      for (const int microseconds : {0, 20, 200}) {
        Results whole;
        if (!run_case(test, target, 1, nullptr, whole)) continue;
        ThreadPool pool(2);
        Runner runner(target, pool, test.type);
        std::atomic<bool> flag{microseconds == 0};
        std::thread stopper([&] {
          std::this_thread::sleep_for(std::chrono::microseconds(microseconds));
          flag = true;
        });
        Tensors outputs, gradients;
        const auto keeps_to_its_memory = [&](const Status& status) {
          if (status.message().find("wrote past") != std::string::npos)
            fail(test.name + " stopped on " + std::string(target_name(target)) + ": " + status.message());
        };
        {
          const ThreadPool::StopScope scope(pool, &flag);
          keeps_to_its_memory(test.forward(runner, test.inputs, outputs));
          if (test.backward)
            keeps_to_its_memory(test.backward(runner, test.inputs, whole.outputs,
                                              random_like(whole.outputs, test.differentiable, 99), gradients));
          stopped += pool.stopped();
        }
        stopper.join();
      }
    }
  }
  std::printf("%d cases were stopped\n", stopped);
  if (stopped == 0) fail("no case was stopped");
}

void rows() {
  const int compared = rows_alone(fail);
  std::printf("%d comparisons of rows alone and in a batch\n", compared);
  if (compared == 0 && best_target() != Target::ref) fail("nothing was compared");
}

double weighted_sum(const Tensors& outputs, const Tensors& weights) {
  double sum = 0;
  for (const auto& [name, weight] : weights) {
    for (size_t i = 0; i < weight.size(); i++) sum += static_cast<double>(weight[i]) * outputs.at(name)[i];
  }
  return sum;
}

void grad() {
  constexpr double kBound = 5e-3;
  ThreadPool pool(2);
  Runner runner(Target::ref, pool);
  int checked = 0;
  for (const OpCase& test : all_cases()) {
    if (!test.backward) continue;
    Tensors outputs, gradients;
    Status status = test.forward(runner, test.inputs, outputs);
    if (!status.ok()) {
      fail(test.name + ": " + status.message());
      continue;
    }
    const Tensors dout = random_like(outputs, test.differentiable, 7);
    status = test.backward(runner, test.inputs, outputs, dout, gradients);
    if (!status.ok()) {
      fail(test.name + ": " + status.message());
      continue;
    }
    for (const auto& [name, gradient] : gradients) {
      const Tensor& base = test.inputs.at(name);
      if (base.empty()) continue;
      Random random(3);
      const Tensor direction = random.normal(static_cast<int64_t>(base.size()));
      double along = 0, size = 0, norm = 0;
      for (size_t i = 0; i < base.size(); i++) {
        along += static_cast<double>(gradient[i]) * direction[i];
        size += std::fabs(base[i]);
        norm += static_cast<double>(gradient[i]) * gradient[i];
      }
      const double step = 2e-3 * (size / static_cast<double>(base.size()) + 0.05);
      double sums[2];
      for (int sign = 0; sign < 2; sign++) {
        Tensors moved = test.inputs;
        for (size_t i = 0; i < base.size(); i++)
          moved[name][i] = static_cast<float>(base[i] + (sign ? step : -step) * direction[i]);
        Tensors result;
        if (!test.forward(runner, moved, result).ok()) fail(test.name + ": forward");
        sums[sign] = weighted_sum(result, dout);
      }
      const double numeric = (sums[1] - sums[0]) / (2 * step);
      const double scale = std::fmax(std::fabs(numeric), std::sqrt(norm));
      if (std::fabs(numeric - along) > kBound * scale + 1e-4) {
        char line[200];
        std::snprintf(line, sizeof line, "%s gradient of %s: %.6g by differences, %.6g by backward", test.name.c_str(),
                      name.c_str(), numeric, along);
        fail(line);
      }
      checked++;
    }
  }
  std::printf("%d gradients checked\n", checked);
  if (checked == 0) fail("no gradient was checked");
}

// Relative L2 error that `test.roundings` explain when rows are bfloat16: half a step of 2^-7 is at most 2^-8 of a
// value, 1.7e-3 in the root of the mean square (a value anywhere between two powers of two), and errors of independent
// roundings add as squares; 15 % on top for small cases.
double bf16_bound(const OpCase& test) { return 1.7e-3 * 1.15 * std::sqrt(static_cast<double>(test.roundings)); }

// The case as bfloat16: inputs that both sides can hold exactly.
OpCase in_bf16(OpCase test) {
  for (auto& [name, values] : test.inputs)
    round_to_bf16(values.data(), static_cast<int64_t>(values.size()), values.data());
  test.type = WeightType::bf16;
  test.bound = bf16_bound(test);
  return test;
}

bool is_product(std::string_view op) { return !find_op(op_table(), op)->matrices.empty(); }

// Together they launch every kernel in each of its forms: rows that are read in pieces of 16 bytes and others, products
// of several tiles in both directions and of several experts, rows of no expert, every head width of attention with and
// without a table.
const char* const kSubset[] = {"layer_norm/37x34",
                               "layer_norm/70x192",
                               "linear/13x34x65",
                               "linear/230x48x100",
                               "linear/230x48x100/bfloat16",
                               "qkv/17x34",
                               "qkv/45x96",
                               "qkv/230x48/bfloat16",
                               "proj_residual/17x34/scaled",
                               "proj_residual/45x96",
                               "proj_residual/230x48/bfloat16",
                               "expert_ffn/31x34/3_scaled",
                               "expert_ffn/200x48/3_scaled/7_to_133",
                               "expert_ffn/333x64/3/0_to_257",
                               "expert_ffn/131x48/3/0_to_131_given_wrong",
                               "expert_ffn/33x192/2_scaled/bfloat16",
                               "attention/text_relative",
                               "attention/images_relative",
                               "attention/mixed_relative",
                               "attention/mixed_head_34",
                               "attention/long_image",
                               "attention/gap",
                               "patch_embed/bytes",
                               "patch_embed/pixels",
                               "patch_embed/one_patch",
                               "text_embed/absolute",
                               "text_embed/relative",
                               "gather_rows/90",
                               "tanh/37",
                               "gelu/37",
                               "add/37",
                               "l2_normalize/2380",
                               "cross_entropy/9x37",
                               "soft_bce/7",
                               "contrastive/37",
                               "contrastive/37_grouped"};

enum class Choice { all, subset, products, smoke };

// What is left of the cases; empty: no limit.
struct Only {
  std::string op, type;
};

const char* type_word(WeightType type) { return type == WeightType::bf16 ? "bfloat16" : "float32"; }

// Whether the case runs on a device in this type.
bool runs_on_device(const OpCase& test, WeightType type) {
  if (find_op(op_table(), test.op)->forward == nullptr || test.type == WeightType::i8 || test.processor_only)
    return false;
  return test.type == WeightType::f32 || type == WeightType::bf16;
}

bool is_in_subset(const OpCase& test) {
  return std::find(std::begin(kSubset), std::end(kSubset), test.name) != std::end(kSubset);
}

// Every case, those of the subset, every second product, or the products of the subset.
std::vector<OpCase> chosen(Choice choice) {
  std::vector<OpCase> cases = all_cases(), result;
  std::set<std::string> taken;  // a name may stand for several cases, of which the subset has one
  for (size_t i = 0; i < cases.size(); i++) {
    if (choice == Choice::smoke && !is_product(cases[i].op)) continue;
    if ((choice == Choice::subset || choice == Choice::smoke) &&
        !(is_in_subset(cases[i]) && taken.insert(cases[i].name).second))
      continue;
    if (choice == Choice::products && !(i % 2 == 0 && is_product(cases[i].op))) continue;
    result.push_back(std::move(cases[i]));
  }
  if (choice == Choice::subset && taken.size() != std::size(kSubset)) fail("the subset names cases that are not there");
  return result;
}

// Null where none is asked for and there is none.
std::shared_ptr<Device> wanted_device() {
  std::string why;
  std::shared_ptr<Device> device = test_device(why);
  if (!device) {
    const char* required = std::getenv("MOME_REQUIRE");
    if (required != nullptr && std::string(required) == "cuda")
      fail("no device: " + why);
    else
      std::printf("skipped: %s\n", why.c_str());
  }
  return device;
}

void cuda(Choice choice, const Only& only) {
  const bool products = choice == Choice::products || choice == Choice::smoke;
  const std::shared_ptr<Device> device = wanted_device();
  if (!device) return;
  int compared = 0;
  const bool verbose = std::getenv("MOME_VERBOSE") != nullptr;
  std::set<std::string_view> covered;
  for (const OpCase& plain : chosen(choice)) {
    if (!only.op.empty() && only.op != plain.op) continue;
    for (const WeightType type : {WeightType::f32, WeightType::bf16}) {
      if (!runs_on_device(plain, type) || (products && type == WeightType::f32) ||
          (!only.type.empty() && only.type != type_word(type)))
        continue;
      OpCase test = type == WeightType::bf16 ? in_bf16(plain) : plain;
      test.backward = nullptr;
      if (verbose) std::printf("case %s %s %s\n", test.op.data(), type_word(type), test.name.c_str());
      Results expected, one, two;
      if (!run_case(test, Target::ref, 1, nullptr, expected)) continue;
      if (!run_case(test, Target::cuda, 1, nullptr, one, device) ||
          !run_case(test, Target::cuda, 1, nullptr, two, device))
        continue;
      compare(test, type == WeightType::bf16 ? "bfloat16 output" : "output", Target::cuda, one.outputs,
              expected.outputs);
      map_errors(test, type_word(type), one, expected);
      if (!same_bits(one.outputs, two.outputs)) fail(test.name + " on cuda: two runs differ");
      covered.insert(test.op);
      compared++;
    }
  }
  for (const OpSpec* op : op_table()) {
    if (!products && only.op.empty() && only.type.empty() && op->forward != nullptr && !covered.contains(op->name))
      fail("no cuda case of " + std::string(op->name));
  }
  if (compared == 0) fail("nothing was compared");
  std::printf("%d comparisons with ref on %s\n", compared, device_library().path.c_str());
}

void probe() {
  const std::shared_ptr<Device> device = wanted_device();
  if (device) std::printf("%d probes\n", probe_products(device, fail));
}

void list_device_ops() {
  std::set<std::pair<std::string_view, WeightType>> listed;
  for (const OpCase& test : all_cases()) {
    for (const WeightType type : {WeightType::f32, WeightType::bf16}) {
      if (runs_on_device(test, type) && listed.insert({test.op, type}).second) {
        std::printf("{\"op\": \"%s\", \"type\": \"%s\", \"product\": %s}\n", test.op.data(), type_word(type),
                    is_product(test.op) ? "true" : "false");
      }
    }
  }
}

void support() {
  std::set<std::string_view> covered;
  for (const OpCase& test : all_cases()) covered.insert(test.op);
  for (const OpSpec* op : op_table()) {
    for (const Target target : kCpuTargets) {
      if (!target_built(target)) continue;
      const std::string name = std::string(op->name) + " on " + std::string(target_name(target));
      if (kernel_table(target).find(op->name, Direction::forward, target) == nullptr)
        fail("no forward kernel of " + name);
      const bool backward = kernel_table(target).find(op->name, Direction::backward, target) != nullptr;
      if ((op->backward != nullptr) != backward)
        fail((backward ? "no backward decoder of " : "no backward kernel of ") + name);
    }
    if (!covered.contains(op->name)) fail("no case of " + std::string(op->name));
  }
}

}  // namespace
}  // namespace mome::test

int main(int count, char** arguments) {
  std::setvbuf(stdout, nullptr, _IOLBF, 0);  // what hangs or dies is the line after the last
  std::string mode;
  mome::test::Only only;
  bool known = count % 2 == 1;
  for (int i = 1; i + 1 < count; i += 2) {
    const std::string name = arguments[i], value = arguments[i + 1];
    if (name == "--mode")
      mode = value;
    else if (name == "--op" && mome::find_op(mome::op_table(), value) != nullptr)
      only.op = value;
    else if (name == "--type" && (value == "float32" || value == "bfloat16"))
      only.type = value;
    else
      known = false;
  }
  if (!known) mode.clear();
  if (mode == "support")
    mome::test::support();
  else if (mode == "check")
    mome::test::check();
  else if (mode == "stop")
    mome::test::stop();
  else if (mode == "rows")
    mome::test::rows();
  else if (mode == "grad")
    mome::test::grad();
  else if (mode == "cuda")
    mome::test::cuda(mome::test::Choice::all, only);
  else if (mode == "cuda-subset")
    mome::test::cuda(mome::test::Choice::subset, only);
  else if (mode == "cuda-gemm")
    mome::test::cuda(mome::test::Choice::products, only);
  else if (mode == "cuda-smoke")
    mome::test::cuda(mome::test::Choice::smoke, only);
  else if (mode == "cuda-probe")
    mome::test::probe();
  else if (mode == "cuda-ops")
    return mome::test::list_device_ops(), 0;
  else
    return std::printf(
               "usage: mome_kernels --mode "
               "support|check|stop|rows|grad|cuda|cuda-subset|cuda-gemm|cuda-smoke|cuda-probe|cuda-ops [--op NAME] "
               "[--type float32|bfloat16]\n"),
           2;
  std::printf("%s: %s\n", mode.c_str(), mome::test::failures == 0 ? "passed" : "FAILED");
  return mome::test::failures == 0 ? 0 : 1;
}
