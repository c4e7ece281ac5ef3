// What amx_tiles.h gives, in portable C++ for tests. Using a register that has no shape, or shapes that do not fit each
// other, ends the process, as it would on a processor.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "cpu/vector/amx.h"
#include "cpu/vector/emulated.h"

namespace mome::MOME_ISA {
namespace {

struct EmulatedRegister {
  int rows;
  uint32_t word[kAmxRegisterRows][kAmxWords];
};
// (Each file that includes this has its own: tiles.cc alone shapes and uses them.)
thread_local constinit EmulatedRegister emulated_registers[8] = {};

[[noreturn, gnu::noinline]] inline void tile_fault(const char* what, int number) {
  std::fprintf(stderr, "emulated tiles: %s of tile register %d, whose shape does not allow it\n", what, number);
  std::abort();
}

template <int kRegister>
inline EmulatedRegister& shaped_register(const char* what) {
  EmulatedRegister& tile = emulated_registers[kRegister];
  if (tile.rows == 0) tile_fault(what, kRegister);
  return tile;
}

inline void shape_registers(const uint8_t (&rows)[8]) {
  std::memset(emulated_registers, 0, sizeof emulated_registers);
  for (int i = 0; i < 8; ++i) {
    if (rows[i] > kAmxRegisterRows) tile_fault("shaping", i);
    emulated_registers[i].rows = rows[i];
  }
}
inline void release_registers() { std::memset(emulated_registers, 0, sizeof emulated_registers); }

template <int kRegister>
inline void load_register(const void* from, int64_t stride) {
  EmulatedRegister& tile = shaped_register<kRegister>("a load");
  std::memset(tile.word, 0, sizeof tile.word);
  for (int r = 0; r < tile.rows; ++r)
    std::memcpy(tile.word[r], static_cast<const std::byte*>(from) + r * stride, sizeof tile.word[r]);
}
template <int kRegister>
inline void store_register(void* to, int64_t stride) {
  const EmulatedRegister& tile = shaped_register<kRegister>("a store");
  for (int r = 0; r < tile.rows; ++r)
    std::memcpy(static_cast<std::byte*>(to) + r * stride, tile.word[r], sizeof tile.word[r]);
}
template <int kRegister>
inline void clear_register() {
  EmulatedRegister& tile = shaped_register<kRegister>("clearing");
  std::memset(tile.word, 0, sizeof tile.word);
}

// Calls add(row of the sums, row of `a`) for each row.
template <int kSum, int kA, int kB, typename Add>
inline void for_each_product_row(const Add& add) {
  EmulatedRegister& sum = shaped_register<kSum>("a product");
  const EmulatedRegister& a = shaped_register<kA>("a product");
  if (shaped_register<kB>("a product").rows != kAmxWords) tile_fault("a product", kB);
  if (sum.rows != a.rows) tile_fault("a product", kSum);
  for (int r = 0; r < sum.rows; ++r) add(sum.word[r], a.word[r]);
}

// The products of the low halves have one sum, those of the high halves another, each in ascending order from 0; the
// two are added to each other, and that to what was there. Numbers below the normal ones count as 0 everywhere.
[[gnu::noinline]] inline void add_bf16_row(uint32_t* sums, const uint32_t* a, const EmulatedRegister& b) {
  Vec low = zero(), high = zero();
  for (int k = 0; k < kAmxWords; ++k) {
    const Pairs row = set1_pairs(a[k]), column = load_pairs(b.word[k]);
    low = parts<Vec>([&](int i) {
      return flushed(fused(flushed(low_half(row.part[i])), flushed(low_half(column.part[i])), low.part[i]));
    });
    high = parts<Vec>([&](int i) {
      return flushed(fused(flushed(high_half(row.part[i])), flushed(high_half(column.part[i])), high.part[i]));
    });
  }
  const Vec before = as_lanes(load_pairs(sums));
  const Vec after =
      parts<Vec>([&](int i) { return flushed(flushed(before.part[i]) + flushed(low.part[i] + high.part[i])); });
  store_pairs(sums, as_pairs(after));
}
template <int kSum, int kA, int kB>
inline void add_bf16_products() {
  for_each_product_row<kSum, kA, kB>(
      [](uint32_t* sums, const uint32_t* a) { add_bf16_row(sums, a, emulated_registers[kB]); });
}

[[gnu::noinline]] inline void add_byte_row(uint32_t* sums, const uint32_t* a, const EmulatedRegister& b) {
  Ints sum;
  std::memcpy(&sum, sums, sizeof sum);
  for (int k = 0; k < kAmxWords; ++k) {
    Ints weights;
    std::memcpy(&weights, b.word[k], sizeof weights);
    sum = dot(sum, set1_word(a + k), weights);
  }
  std::memcpy(sums, &sum, sizeof sum);
}
template <int kSum, int kA, int kB>
inline void add_byte_products() {
  for_each_product_row<kSum, kA, kB>(
      [](uint32_t* sums, const uint32_t* a) { add_byte_row(sums, a, emulated_registers[kB]); });
}

}  // namespace
}  // namespace mome::MOME_ISA
