// The innermost loop of a product in tile registers: C of up to 32 x 32 in four registers, two registers of rows and
// two of a panel's columns. Per 16 words of the depth these take two loads of A, two of B and four multiplications, 16
// cycles each: 2 KiB of A and 2 KiB of B in 64 cycles, so both should lie in the second-level cache at least.
//
// A tile of A is [steps / 16][R][16] words, a panel of B [steps][32]: every register is loaded from whole lines. With
// up to 16 rows there is one register of rows and half the work; nothing is computed for rows that do not exist.
// Written from the manual and checked by emulation: never run on a processor that has these registers.
#pragma once

#include "cpu/vector/amx_tiles.h"
#include "cpu/vector/gemm_i8.h"
#include "cpu/vector/gemm_kernel.h"

namespace mome::MOME_ISA {
namespace {

// Sums are in the registers 0 (upper rows, left columns), 1 (upper, right), 2 (lower, left) and 3.
inline constexpr int kUpperRows = 4, kLowerRows = 5, kLeftColumns = 6, kRightColumns = 7;

inline constexpr int64_t kWordBytes = sizeof(uint32_t);
inline constexpr int64_t kRegisterLine = kAmxWords * kWordBytes;  // a row of a register
inline constexpr int64_t kPanelLine = kPanel * kWordBytes;        // a row of C or a step of B
static_assert(kPanelLine == 2 * kRegisterLine);

struct Bf16Products {
  template <int kSum, int kA, int kB>
  static void add() {
    add_bf16_products<kSum, kA, kB>();
  }
};
struct ByteProducts {
  template <int kSum, int kA, int kB>
  static void add() {
    add_byte_products<kSum, kA, kB>();
  }
};

// C [R][kPanel] = what `start` says + A B over `steps`, a multiple of kAmxWords. Rows of `start` are `start_line` bytes
// apart: kPanelLine where it is C itself, 0 where all rows start from the same; null = 0.
template <typename Products, int kRows, bool kStream>
inline void multiply_registers(int64_t steps, const void* a, const std::byte* b, const void* start, int64_t start_line,
                               void* c) {
  constexpr bool kTwo = kRows > kAmxRegisterRows;
  constexpr int64_t kLowerA = kAmxRegisterRows * kRegisterLine;
  if (start == nullptr) {
    clear_register<0>(), clear_register<1>();
    if constexpr (kTwo) clear_register<2>(), clear_register<3>();
  } else {
    const std::byte* from = static_cast<const std::byte*>(start);
    load_register<0>(from, start_line), load_register<1>(from + kRegisterLine, start_line);
    if constexpr (kTwo) {
      from += kAmxRegisterRows * start_line;
      load_register<2>(from, start_line), load_register<3>(from + kRegisterLine, start_line);
    }
  }
  const std::byte* row = static_cast<const std::byte*>(a);
  for (int64_t k = 0; k < steps; k += kAmxWords) {
    load_register<kUpperRows>(row, kRegisterLine);
    load_register<kLeftColumns>(b, kPanelLine);
    Products::template add<0, kUpperRows, kLeftColumns>();
    load_register<kRightColumns>(b + kRegisterLine, kPanelLine);
    Products::template add<1, kUpperRows, kRightColumns>();
    if constexpr (kTwo) {
      load_register<kLowerRows>(row + kLowerA, kRegisterLine);
      Products::template add<2, kLowerRows, kLeftColumns>();
      Products::template add<3, kLowerRows, kRightColumns>();
    }
    prefetch_ahead<kStream, kAmxWords * kPanelLine>(b);
    row += kRows * kRegisterLine;
    b += kAmxWords * kPanelLine;
  }
  std::byte* to = static_cast<std::byte*>(c);
  store_register<0>(to, kPanelLine), store_register<1>(to + kRegisterLine, kPanelLine);
  if constexpr (kTwo) {
    to += kAmxRegisterRows * kPanelLine;
    store_register<2>(to, kPanelLine), store_register<3>(to + kRegisterLine, kPanelLine);
  }
}

// A TileKernel of bfloat16.
template <int kRows, bool kStream>
[[gnu::noinline]] void amx_bf16_tile(int64_t steps, const float* a, const std::byte* b, int64_t, float* tile,
                                     bool carry) {
  multiply_registers<Bf16Products, kRows, kStream>(steps, a, b, carry ? tile : nullptr, kPanelLine, tile);
}

// A DotKernel.
template <int kRows, bool kStream>
[[gnu::noinline]] void amx_dot_tile(int64_t steps, const Word* a, const std::byte* b, const int32_t* start,
                                    const float* row_scale, const float* column_scale, float* tile, bool carry) {
  alignas(64) int32_t sums[kRows * kPanel];
  multiply_registers<ByteProducts, kRows, kStream>(steps, a, b, start, 0, sums);
  scale_sums(kRows, sums, row_scale, column_scale, tile, carry);
}

template <bool kStream, int kRows = kAmxTileRows>
TileKernel select_amx_bf16_tile(int64_t rows) {
  if constexpr (kRows > 1) {
    if (rows != kRows) return select_amx_bf16_tile<kStream, kRows - 1>(rows);
  }
  return amx_bf16_tile<kRows, kStream>;
}
template <bool kStream, int kRows = kAmxTileRows>
DotKernel select_amx_dot_tile(int64_t rows) {
  if constexpr (kRows > 1) {
    if (rows != kRows) return select_amx_dot_tile<kStream, kRows - 1>(rows);
  }
  return amx_dot_tile<kRows, kStream>;
}

inline void shape_for_rows(int64_t rows) {
  const uint8_t upper = static_cast<uint8_t>(smaller(rows, kAmxRegisterRows)),
                lower = static_cast<uint8_t>(rows - upper);
  const uint8_t shapes[8] = {upper, upper, lower, lower, upper, lower, kAmxWords, kAmxWords};
  shape_registers(shapes);
}

}  // namespace
}  // namespace mome::MOME_ISA
