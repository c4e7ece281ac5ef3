// The description of an op that the rest of the core reads: one OpSpec per op, in core/ops/<op>.cc. core/ops/table.cc
// lists them all.
#pragma once

#include <cstddef>
#include <cstring>
#include <initializer_list>
#include <span>
#include <string_view>
#include <type_traits>

#include "core/arena.h"
#include "core/decode.h"
#include "core/program.h"
#include "core/status.h"

namespace mome {

// Keys of operands. A '#' stands for one decimal digit: "fc1_#" covers fc1_0 to fc1_9.
class Keys {
 public:
  static constexpr size_t kMost = 4;

  constexpr Keys() = default;
  // More than kMost keys do not compile in a constant.
  constexpr Keys(std::initializer_list<std::string_view> keys) {
    for (const std::string_view key : keys) keys_[count_++] = key;
  }

  constexpr bool has(std::string_view key) const {
    for (const std::string_view pattern : *this) {
      if (covers(pattern, key)) return true;
    }
    return false;
  }
  constexpr const std::string_view* begin() const { return keys_; }
  constexpr const std::string_view* end() const { return keys_ + count_; }
  constexpr bool empty() const { return count_ == 0; }

 private:
  static constexpr bool covers(std::string_view pattern, std::string_view key) {
    if (pattern.size() != key.size()) return false;
    for (size_t i = 0; i < key.size(); i++) {
      const bool digit = pattern[i] == '#' && key[i] >= '0' && key[i] <= '9';
      if (!digit && pattern[i] != key[i]) return false;
    }
    return true;
  }

  std::string_view keys_[kMost];
  size_t count_ = 0;
};

// How the rows of an op are kept on a device whose weights are bfloat16.
enum class DeviceRows {
  float32,     // The op reads and writes float32 alone.
  encoder,     // The op reads and writes rows of the weights' type.
  same,        // The op reads rows of either type and writes the type it has read.
  to_float32,  // The op reads rows of either type and writes float32.
};
std::string_view device_rows_name(DeviceRows rows);  // "float32", "encoder", "same", "to_float32"

// Numbers of an instruction that a device reads from its own memory. They are no part of the launch, so one recording
// serves all their values.
struct DeviceNumbers {
  Keys keys = {};  // The operands these numbers come from.
  int count = 0;   // Numbers of one instruction; 0 for an op without any.
  // Checks the operands under these dimensions and writes `count` numbers.
  Status (*read)(const Instruction& instruction, std::span<const int64_t> dims, const ArenaPlan& plan,
                 int32_t* numbers) = nullptr;
};

// Fills an argument struct of kArgsBytes at most from an instruction and checks it.
using ArgumentDecoder = Status (*)(Decoder& decoder, std::byte* args);

struct OpSpec {
  std::string_view name;
  // Null for a direction that no program can call.
  ArgumentDecoder forward = nullptr;
  ArgumentDecoder backward = nullptr;

  Keys matrices = {};          // Weight matrices. They are packed before a run, by targets with a packer.
  Keys rows = {};              // Activations that the forward kernel reads.
  Keys results = {};           // Activations that the forward kernel writes.
  Keys backward_results = {};  // Activations that the backward kernel writes; no gradients of parameters.

  bool int8_matrices = false;  // Matrices may be kept in 8 bits; otherwise they stay float32 in a model of 8 bits.
  DeviceRows device_rows = DeviceRows::float32;
  Keys float32_results = {};  // Results that are float32 on a device whatever the rows are.
  DeviceNumbers device_numbers = {};

  ArgumentDecoder decoder(Direction direction) const { return direction == Direction::forward ? forward : backward; }
  // The type of the op's matrices when the weight store keeps `kept`.
  WeightType matrix_type(WeightType kept) const {
    return kept == WeightType::i8 && !int8_matrices ? WeightType::f32 : kept;
  }
};

namespace detail {

template <typename Args>
Args args_of(void (*)(Decoder&, Args&));

template <auto kDecode>
Status decode_args(Decoder& decoder, std::byte* args) {
  using Args = decltype(args_of(kDecode));
  static_assert(std::is_trivially_copyable_v<Args> && sizeof(Args) <= kArgsBytes);
  Args filled{};
  kDecode(decoder, filled);
  std::memcpy(args, &filled, sizeof filled);
  return decoder.status();
}

}  // namespace detail

// The ArgumentDecoder of a function `void decode(Decoder&, Args&)`.
template <auto kDecode>
inline constexpr ArgumentDecoder decode_with = detail::decode_args<kDecode>;

}  // namespace mome
