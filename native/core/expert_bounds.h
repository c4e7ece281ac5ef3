// Where the row ranges of experts end, as a device reads it: numbers that go up with a run's inputs, so that they are no part of its launches
// (core/device_executor.h).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/arena.h"
#include "core/ops/expert_ffn.h"
#include "core/program.h"
#include "core/status.h"

namespace mome {

// Numbers of one expert_ffn: begin of its first range, then the end of each.
inline constexpr int kExpertBounds = kMaxExperts + 1;

// Those of all expert_ffn of a run, kExpertBounds each, in the order of the program. Fails where ranges are not in order without gaps or
// leave the rows.
Status expert_bounds(const Program& program, std::span<const int64_t> dims, const ArenaPlan& plan, std::vector<int32_t>& bounds);

// Per dimension of the program, whether the sizes, addresses or arguments of a device's launches depend on it: false where nothing but an
// expert's range or the size of an input reads it.
std::vector<bool> launch_dims(const Program& program);

}  // namespace mome
