// Dot products of 8-bit rows with an 8-bit query. Sums are whole numbers: every instruction set gives the same.
#pragma once

#include <cstdint>

namespace mome {

// Rows are filled up with zeros to whole groups of so many codes.
constexpr int64_t kCodeGroup = 64;

// sums[row] = the sum of codes[row, i] * query[i], for rows of `stride` codes, a multiple of kCodeGroup, from -127 to
// 127.
using DotsI8 = void(const int8_t* codes, int64_t rows, int64_t stride, const int8_t* query, int32_t* sums);

#define MOME_DECLARE_DOTS(name) \
  namespace name {              \
  extern DotsI8 dots_i8;        \
  }
MOME_DECLARE_DOTS(avx2)
MOME_DECLARE_DOTS(avx2_vnni)
MOME_DECLARE_DOTS(avx512_vnni)
MOME_DECLARE_DOTS(neon)
MOME_DECLARE_DOTS(neon_dot)
#undef MOME_DECLARE_DOTS

}  // namespace mome
