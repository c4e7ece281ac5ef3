// How kernels see a weight matrix.
#pragma once

#include <cstdint>
#include <string_view>

namespace mome {

// What the elements of a weight matrix are. Activations, vectors and tables are float32 whatever the matrices are.
//   bf16  rounded to nearest even; arithmetic in float32
//   i8    an 8-bit number and a scale per output; activations are quantised per row while they are packed (core/quantise.h)
enum class WeightType { f32, bf16, i8 };

// A linear map's weight [rows = outputs, columns = inputs]. `data` is row-major float32, holding the rounded values where `type`
// is not f32, and may be null where only packed forms are kept; `packed` and `packed_transposed` are the forms made by the
// target's Packer (forward, input_gradient), null for targets without one. The transposed form is always float32.
struct Matrix {
  int64_t rows = 0;
  int64_t columns = 0;
  const float* data = nullptr;
  const void* packed = nullptr;
  const float* packed_transposed = nullptr;
  WeightType type = WeightType::f32;
};

std::string_view weight_type_name(WeightType type);  // "float32", "bfloat16", "int8"
bool parse_weight_type(std::string_view name, WeightType& type);

}  // namespace mome
