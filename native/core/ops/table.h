// All ops that programs and kernels can name.
#pragma once

#include "core/ops/spec.h"

namespace mome {

OpTable op_table();
// The spec with this name, null when the table has none.
const OpSpec* find_op(OpTable ops, std::string_view name);

}  // namespace mome
