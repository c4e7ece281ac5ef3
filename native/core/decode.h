// Turns an instruction of a bound program into the argument struct of its kernel. All sizes and indices are checked
// here, so that no kernel runs on arguments that do not fit.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "core/program.h"
#include "core/weights.h"

namespace mome {

// A resolved operand: where it lies and its shape.
struct Located {
  void* data = nullptr;        // The address that kernels get.
  const void* host = nullptr;  // For an input whose `data` lies on a device: its values on this processor.
  ElementType type = ElementType::f32;
  std::vector<int64_t> shape;

  int64_t count() const {
    int64_t product = 1;
    for (const int64_t size : shape) product *= size;
    return product;
  }
  int64_t rows() const { return shape.empty() ? 1 : shape[0]; }
  int64_t columns() const { return rows() == 0 ? trailing() : count() / rows(); }

 private:
  int64_t trailing() const {
    int64_t product = 1;
    for (size_t i = 1; i < shape.size(); i++) product *= shape[i];
    return product;
  }
};

// A program's names bound for one run: the memory of its values and its numbers.
struct Binding {
  const Program& program;
  WeightStore& weights;
  Target target;
  std::span<const int> parameters;  // program parameter -> weight store index
  std::span<const int64_t> dims;
  std::span<const double> scalars;
  std::span<const Located> inputs;
  std::span<const Located> buffers;
  bool packed;  // The target has a packer: its kernels read matrices in packed forms alone.
  // The instruction's numbers in the device's memory (core/device_numbers.h); null on a processor.
  const int32_t* device_numbers = nullptr;
};

// Bytes of the largest argument struct.
inline constexpr size_t kArgsBytes = 1024;

struct Call {
  const Kernel* kernel = nullptr;
  alignas(16) std::byte args[kArgsBytes];
};

// Fills `call` for one instruction that `kernel` runs. The instruction's op must have a decoder for its direction.
Status decode(const Instruction& instruction, const Kernel& kernel, const Binding& binding, Call& call);

// Reads the operands of one instruction; remembers the first failure.
class Decoder {
 public:
  Decoder(const Instruction& instruction, const Binding& binding) : instruction_(instruction), binding_(binding) {}

  bool has(std::string_view key) const { return instruction_.find(key) != nullptr; }
  // Float data of `count` elements; null (and no failure) when an optional operand is absent.
  const float* tensor(std::string_view key, int64_t count, bool optional = false);
  // An activation that the kernel writes. The op's spec must name it among the results of this direction.
  float* output(std::string_view key, int64_t count, bool optional = false);
  // Gradient of a parameter with `count` elements; null when absent: not wanted.
  float* gradient(std::string_view key, int64_t count);
  // Integers in [low, high), or equal to `also`.
  static constexpr int64_t kNothingElse = INT64_MIN;
  const int32_t* integers(std::string_view key, int64_t count, int64_t low, int64_t high, int64_t also = kNothingElse,
                          bool optional = false);
  // The integers that `integers` has checked, in this processor's memory.
  const int32_t* host_integers(std::string_view key);
  const uint8_t* bytes(std::string_view key, int64_t count);
  // Where a device reads the numbers that the op's DeviceNumbers has checked; null on a processor.
  const int32_t* device_numbers() const { return binding_.device_numbers; }
  // A weight matrix. The op's spec must name it among its matrices.
  Matrix matrix(std::string_view key, int64_t rows, int64_t columns);
  // The type in which the target's attention multiplies, for weights of the program's type.
  ProductType product_type() const { return mome::product_type(binding_.target, binding_.weights.type()); }
  // A number, dimension or scalar; `fallback` when absent.
  double number(std::string_view key, double fallback);
  int64_t integer(std::string_view key);

  int64_t count(std::string_view key);
  int64_t rows(std::string_view key);
  int64_t columns(std::string_view key);

  void expect(bool condition, const char* message);
  const Status& status() const { return status_; }

 private:
  Located locate(std::string_view key);
  Located locate(std::string_view key, const Operand& operand);
  float* floats(std::string_view key, int64_t count, bool optional);
  void fail(Code code, std::string_view key, const char* message);

  const Instruction& instruction_;
  const Binding& binding_;
  Status status_;
};

}  // namespace mome
