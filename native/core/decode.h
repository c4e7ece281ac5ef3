// From an instruction of a bound program to the argument struct its kernel takes. All checks of sizes and indices happen here, so
// that no kernel runs on arguments that do not fit.
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
  void* data = nullptr;        // what kernels get
  const void* host = nullptr;  // the same values where this processor can read them, if `data` is another device's; inputs only
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

// Everything a run gives a program: memory of its values and the numbers bound to its names.
struct Binding {
  const Program& program;
  WeightStore& weights;
  Target target;
  std::span<const int> parameters;       // program parameter -> weight store index
  std::span<const int64_t> dims;
  std::span<const double> scalars;
  std::span<const Located> inputs;
  std::span<const Located> buffers;
  const int32_t* expert_bounds = nullptr;  // of this instruction, in the device's memory (core/expert_bounds.h); cuda only
};

// Bytes of the largest argument struct.
inline constexpr size_t kArgsBytes = 1024;

struct Call {
  const Kernel* kernel = nullptr;
  alignas(16) std::byte args[kArgsBytes];
};

// Fills `call` for one instruction.
Status decode(const Instruction& instruction, const Binding& binding, Call& call);

// Whether an op reads `key` as a weight matrix, which vector targets want packed.
bool is_matrix_key(Op op, std::string_view key);

// What the matrices of an op are when the store keeps `type`: 8 bits only in the blocks, where the work is; patches and heads stay
// float32 then.
WeightType matrix_type(Op op, WeightType type);

// Reads the operands of one instruction; remembers the first failure.
class Decoder {
 public:
  Decoder(const Instruction& instruction, const Binding& binding) : instruction_(instruction), binding_(binding) {}

  bool has(std::string_view key) const { return instruction_.find(key) != nullptr; }
  // Float data of `count` elements; null (and no failure) when an optional operand is absent.
  const float* tensor(std::string_view key, int64_t count, bool optional = false);
  float* output(std::string_view key, int64_t count, bool optional = false);
  // Gradient of a parameter with `count` elements; null when absent: not wanted.
  float* gradient(std::string_view key, int64_t count);
  // Integers in [low, high), or equal to `also`.
  static constexpr int64_t kNothingElse = INT64_MIN;
  const int32_t* integers(std::string_view key, int64_t count, int64_t low, int64_t high, int64_t also = kNothingElse, bool optional = false);
  // An operand's integers as this processor can read them: what `integers` has checked.
  const int32_t* host_integers(std::string_view key);
  const uint8_t* bytes(std::string_view key, int64_t count);
  // Where a device reads the row ranges of experts, checked elsewhere; null on a processor.
  const int32_t* expert_bounds() const { return binding_.expert_bounds; }
  Matrix matrix(std::string_view key, int64_t rows, int64_t columns);
  // A number, dimension or scalar; `fallback` when absent.
  double number(std::string_view key, double fallback);
  int64_t integer(std::string_view key);

  int64_t count(std::string_view key);
  int64_t rows(std::string_view key);
  int64_t columns(std::string_view key);

  void expect(bool condition, const char* message);
  const Status& status() const { return status_; }

 private:
  Located locate(std::string_view key, bool optional);
  void fail(Code code, std::string_view key, const char* message);

  const Instruction& instruction_;
  const Binding& binding_;
  Status status_;
};

}  // namespace mome
