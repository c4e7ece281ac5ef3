// What products know of the tile registers of AMX: a packed tile has up to two registers of rows, and its words lie as
// the registers read them. The instructions are in amx_tiles.h, the products in amx_kernel.h; tiles.cc has both.
#pragma once

#include <cstdint>

#ifndef MOME_ISA
#error "define MOME_ISA (such as amx) before including"
#endif

#if defined(MOME_EMULATED)  // emulated_tiles.h has the registers
#define MOME_HAS_TILES MOME_EMULATED_AMX
#elif defined(__AMX_TILE__) && defined(__AMX_BF16__) && defined(__AMX_INT8__)
#define MOME_HAS_TILES 1
#else
#define MOME_HAS_TILES 0
#endif

namespace mome::MOME_ISA {

#if MOME_HAS_TILES

// Shapes this thread's registers for tiles of `rows` in [1, kAmxTileRows], whose contents are lost; and gives the
// registers back, so that the system no longer saves them with the thread.
void shape_tile_registers(int64_t rows);
void release_tile_registers();

namespace {

inline constexpr int kAmxRegisterRows = 16;                // of a register
inline constexpr int kAmxTileRows = 2 * kAmxRegisterRows;  // of a packed tile
inline constexpr int kAmxWords = 16;                       // of a register's row

// The registers of this thread while an item of work uses them. Shaping takes some hundred cycles: only where the
// number of rows changes.
class TileRegisters {
 public:
  TileRegisters() = default;
  TileRegisters(const TileRegisters&) = delete;
  TileRegisters& operator=(const TileRegisters&) = delete;
  ~TileRegisters() {
    if (rows_ != 0) release_tile_registers();
  }
  void shape(int64_t rows) {
    if (rows == rows_) return;
    shape_tile_registers(rows);
    rows_ = rows;
  }

 private:
  int64_t rows_ = 0;
};

}  // namespace

#endif

namespace {

// The same for products that do not use them.
struct NoTileRegisters {
  static void shape(int64_t) {}
};

}  // namespace
}  // namespace mome::MOME_ISA
