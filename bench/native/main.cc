// mome_bench peaks
// mome_bench kernels [--rounds n] [--only part of a name] [--threads one|all|both] [--target name]
// Prints lines of JSON; bench/main.mjs makes tables of them.
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "native/bench.h"

namespace {

int usage() {
  std::fprintf(stderr,
               "usage: mome_bench peaks\n"
               "       mome_bench kernels [--rounds n] [--only part of a name, such as linear.forward/197]\n"
               "                          [--threads one|all|both] [--target name]\n");
  return 2;
}

}  // namespace

int main(int count, char** arguments) {
  using namespace mome;
  if (count == 2 && std::strcmp(arguments[1], "peaks") == 0) return bench::run_peaks();
  if (count < 2 || count % 2 != 0 || std::strcmp(arguments[1], "kernels") != 0) return usage();
  int rounds = 15;
  std::string only, threads = "both";
  Target target = best_target();
  for (int i = 2; i < count; i += 2) {
    const std::string option = arguments[i], value = arguments[i + 1];
    if (option == "--rounds")
      rounds = std::atoi(value.c_str());
    else if (option == "--only")
      only = value;
    else if (option == "--threads")
      threads = value;
    else if (option != "--target" || !parse_target(value, target))
      return usage();
  }
  if (rounds < 1 || !target_supported(target) || (threads != "one" && threads != "all" && threads != "both"))
    return usage();
  return bench::run_kernels(rounds, only, threads, target);
}
