// How kernels see a weight matrix.
#pragma once

#include <cstdint>
#include <string_view>

namespace mome {

// The type of a weight matrix's elements. Activations, vectors and tables are float32 whatever the matrices are.
//   bf16  rounded to nearest even; sums in float32. Rows are rounded too on targets that multiply bfloat16
//   i8    8 bits, and a scale per output; activations are quantised by row while they are packed (core/quantise.h)
enum class WeightType { f32, bf16, i8 };

// The type in which attention multiplies activations with each other.
//   bf16   rounded to nearest even; sums in float32
//   int16  16 bits and a step per query, key and column of the values, sums exact in 32 bits (core/quantise.h)
enum class ProductType { f32, bf16, int16 };

// The forms a weight is kept in. A target's Packer makes the packed ones; targets without a packer read the plain one.
enum class Form {
  plain,              // row-major float32
  packed,             // B operand of x W^T: forward passes read it
  packed_transposed,  // B operand of dy W: backward passes read it
};
inline constexpr int kForms = 3;

// A linear map's weight [rows = outputs, columns = inputs] in each of its forms. `data` is the plain form: it holds the
// rounded values where `type` is not f32, and is null where only packed forms are kept. The packed forms are null for
// targets without a packer.
struct Matrix {
  int64_t rows = 0;
  int64_t columns = 0;
  const float* data = nullptr;
  const void* packed = nullptr;
  const void* packed_transposed = nullptr;
  WeightType type = WeightType::f32;
  bool rounds_rows = false;  // the target rounds the rows to the matrix's type, bfloat16: read by `ref`
};

std::string_view weight_type_name(WeightType type);  // "float32", "bfloat16", "int8"
bool parse_weight_type(std::string_view name, WeightType& type);

}  // namespace mome
