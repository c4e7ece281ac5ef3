// The modes of mome_kernels; kernels_main.cc says what each checks. They report by `fail`.
#pragma once

#include <optional>
#include <string>

#include "core/kernel.h"

namespace mome::test {

enum class Choice { all, subset, products, smoke };

// What is left out of a run: on a device, cases of other ops or types; on a processor, other targets. Empty: nothing.
struct Only {
  std::string op, type;
  std::optional<Target> target;
  bool leaves_out(Target other) const { return target && *target != other; }
};

void support();
void check(const Only& only);
void stop();
void rows(const Only& only);
void grad();
void cuda(Choice choice, const Only& only);
void cuda_probe();
void list_device_ops();

}  // namespace mome::test
