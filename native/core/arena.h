// Where a program's values lie under one binding of its dimensions.
#pragma once

#include <span>
#include <vector>

#include "core/matrix.h"
#include "core/program.h"
#include "core/status.h"

namespace mome {

// Byte offsets of a program's buffers in the arena.
struct ArenaPlan {
  std::vector<size_t> offsets;               // per buffer
  std::vector<std::vector<int64_t>> shapes;  // per buffer
  size_t bytes = 0;
};

// Places every buffer so that no two that are alive at the same instruction overlap. `types`: the element type of each
// buffer, f32 or bf16; empty if all are float32.
Status plan_arena(const Program& program, std::span<const int64_t> dims, std::span<const WeightType> types,
                  ArenaPlan& plan);

// The sizes a shape has under a binding.
Status bind_shape(const Extents& extents, std::span<const int64_t> dims, std::vector<int64_t>& shape);

}  // namespace mome
