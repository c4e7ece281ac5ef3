// Numbers of a run that a device reads from its own memory (OpSpec::device_numbers). They change with the inputs of a
// run and are no part of its launches, so that a recording serves every run of its sizes (core/device_executor.h).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/arena.h"
#include "core/program.h"
#include "core/status.h"

namespace mome {

// The numbers of every instruction that has some, in the order of the program. Fails where an op refuses them.
Status device_numbers(const Program& program, std::span<const int64_t> dims, const ArenaPlan& plan,
                      std::vector<int32_t>& numbers);

// Per dimension of the program, whether the sizes, addresses or arguments of a device's launches depend on it. They do
// not where only device numbers and the sizes of inputs read the dimension.
std::vector<bool> launch_dims(const Program& program);

}  // namespace mome
