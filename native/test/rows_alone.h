// The check of `mome_kernels --mode rows`.
#pragma once

#include <functional>
#include <string>

namespace mome::test {

// Reports what is wrong to `fail`; returns how many ops, types and targets were looked at.
int rows_alone(const std::function<void(const std::string&)>& fail);

}  // namespace mome::test
