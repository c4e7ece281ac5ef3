// Modes of mome_kernels that run on a device.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <set>

#include "core/ops/table.h"
#include "core/quantise.h"
#include "test/comparison.h"
#include "test/error_map.h"
#include "test/modes.h"

namespace mome::test {
namespace {

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
                               "patch_embed/masked_bytes",
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

}  // namespace

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

void cuda_probe() {
  const std::shared_ptr<Device> device = wanted_device();
  if (device) std::printf("%d probes\n", probe_products(device));
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

}  // namespace mome::test
