// Conventions of every op's argument structs.
//
// - Tensors are dense, row-major float32 unless said otherwise. In the arena and in weights they are 64-byte aligned;
// tests
//   align them anyhow. Sizes are int64_t, and any size may be zero.
// - Backward: gradients of parameters ACCUMULATE (+=); gradients of activations OVERWRITE unless a field says
// otherwise.
//   A null gradient pointer means "not wanted". dX is the gradient of the loss with respect to X.
// - Results do not depend on the number of threads, and a row's forward result does not depend on the other rows: every
//   output element is one chain of operations in a fixed order (contraction index ascending, fused multiply-add in the
//   vector targets).
// - core/ops/<op>.cc fills these structs from a program and checks every size, pointer and index; kernels rely on it.
#pragma once

#include <cstdint>
#include <string_view>

#include "core/kernel.h"
#include "core/matrix.h"
#include "core/status.h"

namespace mome {

struct OpSpec;  // core/ops/spec.h

}  // namespace mome
