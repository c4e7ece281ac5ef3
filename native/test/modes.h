// The modes of mome_kernels; kernels_main.cc says what each checks. They report by `fail`.
#pragma once

#include <optional>
#include <string>

#include "core/kernel.h"

namespace mome::test {

enum class Choice { all, subset, products, smoke };

// What is left out of a run: cases of other ops (on a device) or types, and other targets (on a processor). Empty:
// nothing. The type "narrow" stands for bfloat16 and int8.
struct Only {
  std::string op, type;
  std::optional<Target> target;
  bool leaves_out(Target other) const { return target && *target != other; }
  bool leaves_out(WeightType other) const {
    return !type.empty() && type != weight_type_name(other) && (type != "narrow" || other == WeightType::f32);
  }
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
