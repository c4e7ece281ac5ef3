// What the values of a program are on a device: with bfloat16 weights the rows of the encoder are bfloat16 too, heads and losses float32.
#pragma once

#include <vector>

#include "core/matrix.h"
#include "core/program.h"
#include "core/status.h"

namespace mome {

// `types`: per buffer. `rows`: per instruction, the rows its kernel reads (DeviceQueue::rows). Fails for a program that feeds an op rows of a
// type its kernels do not read, and for int8 weights.
Status infer_types(const Program& program, WeightType weights, std::vector<WeightType>& types, std::vector<WeightType>& rows);

}  // namespace mome
