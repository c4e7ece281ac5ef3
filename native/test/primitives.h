// The primitives that vector kernels are written with, each applied to plain memory: compiled for the instruction sets
// and for their emulation, and compared by emulation_test.cc.
#pragma once

#include <cstddef>
#include <cstdint>

namespace mome::test {

// What a primitive is defined for.
enum class Domain {
  any,       // every pattern of bits
  finite,    // no NaN and no infinity
  positive,  // the first operand is not negative; NaN is allowed
  codes,     // the last two operands are bytes from -127 to 127
  powers,    // the first operand holds numbers in [1, 2) and their negatives, the second whole ones in [-126, 128]
};

struct Primitive {
  const char* name;
  Domain domain;
  bool floats;  // results are floats, among which all NaNs are equal; otherwise bits
  int results;  // words written, at most kOperandWords
  // `operands` are three, of kOperandWords words each.
  void (*run)(const uint32_t* const operands[3], uint32_t* results);
};

struct PrimitiveList {
  const Primitive* primitives;
  size_t count;
};

inline constexpr int kMostLanes = 16;
inline constexpr int kOperandWords = (kMostLanes + 1) * kMostLanes;  // a square to transpose, and every tail

inline constexpr int kTileWords = 16 * 16;  // of a tile register
// The rows of the registers that a primitive multiplies, in [1, 16].
inline int tile_rows(const uint32_t* const operands[3]) { return 1 + static_cast<int>(operands[0][kTileWords] % 16); }

}  // namespace mome::test
