// The types of a program's values on a device. With bfloat16 weights the rows of the encoder are bfloat16 too; heads
// and losses are float32. Each op says in its OpSpec which rows it reads and writes.
#pragma once

#include <vector>

#include "core/matrix.h"
#include "core/program.h"
#include "core/status.h"

namespace mome {

// `types`: per buffer. `rows`: per instruction, the rows its kernel reads (DeviceQueue::rows). Fails for a program that
// feeds an op rows of a type its kernels do not read, and for int8 weights.
Status infer_types(const Program& program, WeightType weights, std::vector<WeightType>& types,
                   std::vector<WeightType>& rows);

}  // namespace mome
