// How kernels see a weight matrix.
#pragma once

#include <cstdint>

namespace mome {

// A linear map's weight [rows = outputs, columns = inputs]. `data` is row-major and may be null where only packed forms are
// kept; `packed` and `packed_transposed` are the forms made by the target's Packer (forward, input_gradient), null for targets
// without one.
struct Matrix {
  int64_t rows = 0;
  int64_t columns = 0;
  const float* data = nullptr;
  const float* packed = nullptr;
  const float* packed_transposed = nullptr;
};

}  // namespace mome
