// Whether the kernels of a target compute rightly on the processor at hand: products of every type of weights, an
// attention and an expert FFN, all small, against `ref`. It protects users of processors that nobody has tested on.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "core/kernel.h"

namespace mome {

struct TargetCheck {
  bool passed = true;
  std::string wrong;        // what was computed wrongly, empty where nothing was
  double milliseconds = 0;  // that the check took
};

// Checks the kernels that `table` has of `target`. A few milliseconds on the thread of the caller.
TargetCheck check_target(Target target, const KernelTable& table);

// The check of a supported CPU target, done once per process. Any thread may ask. In builds with tests, a value is
// damaged on the way to the comparison for targets that MOME_PLANT_SELF_CHECK lists, separated by commas.
const TargetCheck& target_check(Target target);

struct TargetChoice {
  Target target = Target::ref;
  std::vector<Target> rejected;  // those that are faster and failed, fastest first
};

// The last of `targets`, slowest first, that passes `check`. `ref` is not checked; it is taken where all others fail.
TargetChoice choose_target(std::span<const Target> targets,
                           const std::function<const TargetCheck&(Target)>& check = target_check);

// The CPU target to take where nobody asks for another, chosen once per process.
const TargetChoice& chosen_target();

}  // namespace mome
