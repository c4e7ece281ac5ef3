// mome_kernels --mode MODE [--op NAME] [--type float32|bfloat16|int8|narrow] [--target NAME]
//
// Modes on this processor:
//   support      every op has every direction on every CPU target that the build has
//   check        every target against ref, bitwise equal for 1 and 3 threads; and a planted error must be noticed
//   stop         kernels that are stopped before and while they run keep to their memory
//   rows         each row alone has the bits of the row in the batch, at depths of real models
//   grad         ref's gradients against central differences along random directions
//
// Modes on a device, skipped where there is none unless MOME_REQUIRE=cuda:
//   cuda         every forward kernel against ref, float32 and bfloat16, twice with the same bits
//   cuda-subset  small cases of every kernel, for tools that run kernels slowly
//   cuda-gemm    bfloat16 products alone, for one tile at a time (MOME_GEMM_TILE)
//   cuda-smoke   the bfloat16 products of the subset
//   cuda-probe   bfloat16 products whose results name the element that was read
//   cuda-ops     prints a line of JSON for each op and type that a device has cases of
//
// --target compares one target alone in the modes check and rows, --type weights of one type alone, narrow for those of
// bfloat16 and int8: all that a kernel set does otherwise than the set it is based on. (Gradients in bfloat16 belong to
// bfloat16.)
// After an error that a device does not recover from, every later case of a process fails: --op and --type run the
// cases of one op or type alone, and MOME_VERBOSE=1 names each case before it runs. Wrong outputs are mapped
// (error_map.h).
#include <cstdio>
#include <string>

#include "core/ops/table.h"
#include "test/comparison.h"
#include "test/modes.h"

namespace mome::test {
namespace {

struct Mode {
  const char* name;
  void (*run)(const Only& only);
};

constexpr Mode kModes[] = {
    {"support", [](const Only&) { support(); }},
    {"check", [](const Only& only) { check(only); }},
    {"stop", [](const Only&) { stop(); }},
    {"rows", [](const Only& only) { rows(only); }},
    {"grad", [](const Only&) { grad(); }},
    {"cuda", [](const Only& only) { cuda(Choice::all, only); }},
    {"cuda-subset", [](const Only& only) { cuda(Choice::subset, only); }},
    {"cuda-gemm", [](const Only& only) { cuda(Choice::products, only); }},
    {"cuda-smoke", [](const Only& only) { cuda(Choice::smoke, only); }},
    {"cuda-probe", [](const Only&) { cuda_probe(); }},
    {"cuda-ops", [](const Only&) { list_device_ops(); }},
};

int usage() {
  std::printf(
      "usage: mome_kernels --mode MODE [--op NAME] [--type float32|bfloat16|int8|narrow] [--target NAME]\nmodes:");
  for (const Mode& mode : kModes) std::printf(" %s", mode.name);
  std::printf("\n");
  return 2;
}

int run(int count, char** arguments) {
  const Mode* mode = nullptr;
  Only only;
  if (count % 2 == 0) return usage();
  for (int i = 1; i + 1 < count; i += 2) {
    const std::string name = arguments[i], value = arguments[i + 1];
    if (name == "--op" && find_op(op_table(), value) != nullptr)
      only.op = value;
    else if (name == "--type" && (value == "float32" || value == "bfloat16" || value == "int8" || value == "narrow"))
      only.type = value;
    else if (Target target; name == "--target" && parse_target(value, target))
      only.target = target;
    else if (name != "--mode")
      return usage();
    for (const Mode& known : kModes) {
      if (name == "--mode" && value == known.name) mode = &known;
    }
  }
  if (mode == nullptr) return usage();
  mode->run(only);
  std::printf("%s: %s\n", mode->name, failures() == 0 ? "passed" : "FAILED");
  return failures() == 0 ? 0 : 1;
}

}  // namespace
}  // namespace mome::test

int main(int count, char** arguments) {
  std::setvbuf(stdout, nullptr, _IOLBF, 0);  // the case that hangs or dies is the last one named
  return mome::test::run(count, arguments);
}
