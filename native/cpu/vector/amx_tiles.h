// The instructions of AMX's tile registers, of which there are eight: 16 rows of 16 words each, or fewer rows. In
// assembly: g++ 12 takes only literal numbers of registers, and does not know that its own versions read memory.
#pragma once

#include <cstdint>

#include "cpu/vector/amx.h"

#if defined(MOME_EMULATED)
#include "cpu/vector/emulated_tiles.h"
#else

namespace mome::MOME_ISA {
namespace {

// What ldtilecfg reads.
struct alignas(64) TileShapes {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};
};
static_assert(sizeof(TileShapes) == 64);

// Register i has rows[i] rows of 16 words; where that is 0 it cannot be used.
inline void shape_registers(const uint8_t (&rows)[8]) {
  TileShapes shapes;
  for (int i = 0; i < 8; ++i) {
    shapes.rows[i] = rows[i];
    shapes.row_bytes[i] = rows[i] == 0 ? 0 : kAmxWords * sizeof(uint32_t);
  }
  asm volatile("ldtilecfg %0" : : "m"(shapes) : "memory");
}
inline void release_registers() { asm volatile("tilerelease" : : : "memory"); }

// Rows are `stride` bytes apart in memory.
template <int kRegister>
inline void load_register(const void* from, int64_t stride) {
  asm volatile("tileloadd (%1,%2,1), %%tmm%c0" : : "i"(kRegister), "r"(from), "r"(stride) : "memory");
}
template <int kRegister>
inline void store_register(void* to, int64_t stride) {
  asm volatile("tilestored %%tmm%c0, (%1,%2,1)" : : "i"(kRegister), "r"(to), "r"(stride) : "memory");
}
template <int kRegister>
inline void clear_register() {
  asm volatile("tilezero %%tmm%c0" : : "i"(kRegister));
}

// sum[r][c] += the products of row r of `a` and column c of `b`, which has a row for each word of a row of `a`: of two
// bfloat16 in a word, summed in float32, or of four bytes, unsigned in `a` and signed in `b`, summed in 32 bits.
template <int kSum, int kA, int kB>
inline void add_bf16_products() {
  asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kSum), "i"(kA), "i"(kB));
}
template <int kSum, int kA, int kB>
inline void add_byte_products() {
  asm volatile("tdpbusd %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kSum), "i"(kA), "i"(kB));
}

}  // namespace
}  // namespace mome::MOME_ISA

#endif
