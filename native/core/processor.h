// What the processor that the program runs on can do.
#pragma once

#include "core/kernel.h"

namespace mome {

// Whether this processor has the instructions of a CPU target, and the system lets programs use them. False for the
// targets of another kind of processor.
bool processor_has(Target target);

}  // namespace mome
