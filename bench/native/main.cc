// mome_bench peaks [--target name]
// mome_bench cases
// mome_bench kernels [--rounds n] [--only part of a name] [--threads one|all|both] [--target name]
// Prints lines of JSON; bench/main.mjs makes tables of them.
#include <cstdio>
#include <cstdlib>
#include <string>

#include "native/bench.h"

namespace {

int usage() {
  std::fprintf(stderr,
               "usage: mome_bench peaks [--target name]\n"
               "       mome_bench cases   (what kernels measures)\n"
               "       mome_bench kernels [--rounds n] [--only part of a name, such as linear.forward/197]\n"
               "                          [--threads one|all|both] [--target name]\n");
  return 2;
}

}  // namespace

int main(int count, char** arguments) {
  using namespace mome;
  const std::string command = count < 2 ? "" : arguments[1];
  if (count == 2 && command == "cases") return bench::run_cases();
  if (count % 2 != 0 || (command != "peaks" && command != "kernels")) return usage();
  int rounds = 15;
  std::string only, threads = "both";
  Target target = best_target();
  for (int i = 2; i < count; i += 2) {
    const std::string option = arguments[i], value = arguments[i + 1];
    if (option == "--target") {
      if (!parse_target(value, target)) return usage();
    } else if (command == "peaks") {
      return usage();
    } else if (option == "--rounds")
      rounds = std::atoi(value.c_str());
    else if (option == "--only")
      only = value;
    else if (option == "--threads")
      threads = value;
    else
      return usage();
  }
  if (rounds < 1 || !target_supported(target) || (threads != "one" && threads != "all" && threads != "both"))
    return usage();
  if (command == "peaks") return bench::run_peaks(target);
  return bench::run_kernels(rounds, only, threads, target);
}
