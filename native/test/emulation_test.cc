// The emulation of vector instructions (cpu/vector/emulated.h) against the instructions themselves, where this machine
// has them: every primitive, bit for bit, on random patterns, ties and extreme values. Tile registers, which few
// machines have, are compared with what the manual says of them too.
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "core/kernel.h"
#include "cpu/instruction_sets.h"
#include "test/amx_manual.h"
#include "test/expect.h"
#include "test/neon_manual.h"
#include "test/primitives.h"

namespace mome {

#define MOME_DECLARE(name)                       \
  namespace name {                               \
  extern const test::PrimitiveList primitives;   \
  }                                              \
  namespace emulated_##name {                    \
    extern const test::PrimitiveList primitives; \
  }
MOME_INSTRUCTION_SETS(MOME_DECLARE)
#undef MOME_DECLARE
namespace emulated_amx {
extern const test::PrimitiveList primitives;
}

}  // namespace mome

namespace {

using namespace mome;
using test::Domain;
using test::expect;
using test::failures;
using test::kOperandWords;
using test::Primitive;

constexpr int kRounds = 2000;

using Words = std::vector<uint32_t>;

// Patterns of bits of several kinds: any; numbers of few digits and similar size, whose sums and products lie midway
// between floats; and the ends of the ranges.
class Patterns {
 public:
  Words operand(int round) {
    Words words(kOperandWords);
    for (uint32_t& word : words) {
      switch (round % 4) {
        case 0: word = engine_(); break;
        case 1: word = digits(7, 4); break;  // as bfloat16 has
        case 2: word = digits(12, 14); break;
        default: word = engine_() % 2 == 0 ? extreme() : digits(23, 30);
      }
    }
    return words;
  }
  uint32_t power() { return std::bit_cast<uint32_t>(static_cast<float>(static_cast<int>(engine_() % 255) - 126)); }

 private:
  uint32_t digits(int bits, uint32_t exponents) {
    const uint32_t value = engine_();
    const uint32_t exponent = 127 - exponents / 2 + engine_() % exponents;
    return (value & 0x80000000u) | exponent << 23 | ((value & 0x7fffffu) >> (23 - bits) << (23 - bits));
  }
  uint32_t extreme() {
    constexpr uint32_t kExtremes[] = {0,          1,          0x007fffff, 0x00800000, 0x00800001, 0x3f7fffff,
                                      0x3f800000, 0x3f800001, 0x3f000000, 0x40200000, 0x4b000000, 0x4affffff,
                                      0x4b7fffff, 0x4efffffe, 0x4f000000, 0x7f7fffff, 0x7f800000, 0x7fc00000,
                                      0x7f810000, 0x3f808000, 0x3f818000, 0x007f8000, 0x7f7f8000, 0x42fe0000};
    const uint32_t value = engine_();
    return (value & 0x80000000u) | kExtremes[value % std::size(kExtremes)];
  }

  std::mt19937 engine_{17};
};

// Makes `words` an operand that the primitive is defined for.
void keep_to_domain(const Primitive& primitive, int operand, Patterns& patterns, Words& words) {
  for (uint32_t& word : words) {
    if (primitive.domain == Domain::finite && (word & 0x7f800000u) == 0x7f800000u) word ^= 0x40000000u;
    if (primitive.domain == Domain::positive && operand == 0) word &= 0x7fffffffu;
    if (primitive.domain == Domain::codes && operand > 0) {
      for (int byte = 0; byte < 32; byte += 8)
        if ((word >> byte & 0xff) == 0x80) word ^= 1u << byte;
    }
    if (primitive.domain == Domain::powers)  // 8 lanes round results below the normal numbers twice
      word = operand == 1 ? patterns.power() : (word & 0x807fffffu) | 0x3f800000u;
  }
}

// The first result that differs, or -1.
int first_difference(const Primitive& primitive, const Words& expected, const Words& actual) {
  for (int i = 0; i < primitive.results; i++) {
    if (expected[i] == actual[i]) continue;
    const bool both_nan = std::isnan(std::bit_cast<float>(expected[i])) && std::isnan(std::bit_cast<float>(actual[i]));
    if (!primitive.floats || !both_nan) return i;
  }
  return -1;
}

void compare(const char* instruction_set, const Primitive& native, const Primitive& emulated) {
  const std::string name = std::string(native.name) + " of " + instruction_set;
  expect(std::strcmp(native.name, emulated.name) == 0 && native.results == emulated.results, name + " has a twin");
  Patterns patterns;
  for (int round = 0; round < kRounds; round++) {
    Words operands[3];
    for (int i = 0; i < 3; i++) {
      operands[i] = patterns.operand(round + (round / 4 % 2 == 0 ? 0 : i));
      keep_to_domain(native, i, patterns, operands[i]);
    }
    const uint32_t* const given[3] = {operands[0].data(), operands[1].data(), operands[2].data()};
    Words expected(kOperandWords), actual(kOperandWords);
    native.run(given, expected.data());
    emulated.run(given, actual.data());
    if (const int at = first_difference(native, expected, actual); at >= 0) {
      char line[200];
      std::snprintf(line, sizeof line, ": round %d, result %d of %08x, %08x, %08x: expected %08x, got %08x", round, at,
                    operands[0][at], operands[1][at], operands[2][at], expected[at], actual[at]);
      expect(false, name + line);
      return;
    }
    // The last bit of one result must show.
    actual = expected;
    actual[round % native.results] = std::bit_cast<uint32_t>(1.5f);
    expected[round % native.results] = std::bit_cast<uint32_t>(1.5f) ^ 1;
    if (first_difference(native, expected, actual) < 0) {
      expect(false, name + ": a planted error was not noticed");
      return;
    }
  }
  expect(true, name);
}

// ---- NEON as the manual has it ----------------------------------------------------------------------------------------------

using Operands = const uint32_t* const[3];

#if defined(__aarch64__)

constexpr int kNeonLanes = 8;

// Results from one word of each operand, the second broadcast where the kernels broadcast it.
template <uint32_t (*kFunction)(uint32_t, uint32_t, uint32_t)>
void each_lane(Operands o, uint32_t* results) {
  for (int i = 0; i < kNeonLanes; i++) results[i] = kFunction(o[0][i], o[1][0], o[2][i]);
}
void neon_rounded(Operands o, uint32_t* results) {
  for (int i = 0; i < kNeonLanes; i++)
    results[i] = static_cast<uint32_t>(test::manual_rounded(o[0][i], INT32_MIN, INT32_MAX));
}
void neon_codes(Operands o, uint32_t* results) {
  for (int i = 0; i < kNeonLanes; i++) {
    const uint32_t code = static_cast<uint32_t>(test::manual_rounded(o[0][i], INT8_MIN, INT8_MAX)) & 0xff;
    results[i / 4] = (i % 4 == 0 ? 0 : results[i / 4]) | code << i % 4 * 8;
  }
}
void neon_consecutive_pairs(Operands o, uint32_t* results) {
  for (int i = 0; i < 2 * kNeonLanes; i++) {
    const uint32_t half = test::manual_bf16(o[i / kNeonLanes][i % kNeonLanes]);
    results[i / 2] = (i % 2 == 0 ? 0 : results[i / 2]) | half << i % 2 * 16;
  }
}
void neon_interleaved_pairs(Operands o, uint32_t* results) {
  for (int i = 0; i < kNeonLanes; i++) results[i] = test::manual_bf16(o[0][i]) | test::manual_bf16(o[1][i]) << 16;
}

constexpr Primitive kManual[] = {
    {"rounded", Domain::any, false, kNeonLanes, neon_rounded},
    {"dot", Domain::codes, false, kNeonLanes, each_lane<test::manual_dot>},
    {"quantise_words", Domain::any, false, kNeonLanes / 4, neon_codes},
    {"dot_pairs", Domain::any, true, kNeonLanes, each_lane<test::manual_bf16_dot>},
    {"consecutive_pairs", Domain::any, false, kNeonLanes, neon_consecutive_pairs},
    {"interleaved_pairs", Domain::any, false, kNeonLanes, neon_interleaved_pairs},
};

#else
constexpr std::array<Primitive, 0> kManual;
#endif

// What a primitive is compared with: the manual where it is no primitive of x86-64, else the emulation.
const Primitive* twin_of(const Primitive& native, const test::PrimitiveList& emulated) {
  const auto same = [&](const Primitive& other) { return std::strcmp(native.name, other.name) == 0; };
  if (const auto manual = std::ranges::find_if(kManual, same); manual != std::end(kManual)) return &*manual;
  const Primitive* const end = emulated.primitives + emulated.count;
  const Primitive* const twin = std::find_if(emulated.primitives, end, same);
  return twin == end ? nullptr : twin;
}

void compare(Target target, const test::PrimitiveList& native, const test::PrimitiveList& emulated) {
  const std::string name(target_name(target));
  if (!target_supported(target)) {
    std::printf("%s: skipped: this machine does not have it\n", name.c_str());
    return;
  }
  size_t compared = 0;
  for (size_t i = 0; i < native.count; i++) {
    const Primitive* twin = twin_of(native.primitives[i], emulated);
    if (twin == nullptr) continue;
    compare(name.c_str(), native.primitives[i], *twin);
    compared++;
  }
  expect(compared == native.count, name + " has an emulation of every primitive");
  std::printf("%s: %zu primitives, %d rounds each\n", name.c_str(), compared, kRounds);
}

// ---- Tile registers as the manual has them ----------------------------------------------------------------------------------

template <void (*kProducts)(int, uint32_t*, const uint32_t*, const uint32_t*)>
void manual_tile_products(Operands o, uint32_t* results) {
  const int rows = test::tile_rows(o), words = rows * test::kTileSide;
  std::copy_n(o[0], words, results);
  std::fill(results + words, results + test::kTileWords, 0u);
  kProducts(rows, results, o[1], o[2]);
}
void manual_tile_moves(Operands o, uint32_t* results) {
  for (int i = 0; i < test::kTileWords; i++) {
    const int row = i / test::kTileSide;
    results[i] = row / 2 >= test::tile_rows(o) / 2 ? ~0u : row % 2 == 0 ? o[1][i % test::kTileSide] : 0;
  }
}

void compare_with_manual() {
  constexpr Primitive kTiles[] = {
      {"tile_bf16", Domain::any, true, test::kTileWords, manual_tile_products<test::manual_bf16_products>},
      {"tile_bytes", Domain::any, false, test::kTileWords, manual_tile_products<test::manual_byte_products>},
      {"tile_moves", Domain::any, false, test::kTileWords, manual_tile_moves},
  };
  size_t compared = 0;
  const test::PrimitiveList& emulated = emulated_amx::primitives;
  for (const Primitive& manual : kTiles) {
    for (size_t i = 0; i < emulated.count; i++) {
      if (std::strcmp(manual.name, emulated.primitives[i].name) != 0) continue;
      compare("the manual", manual, emulated.primitives[i]);
      compared++;
    }
  }
  expect(compared == std::size(kTiles), "tile registers have an emulation of everything");
}

}  // namespace

int main() {
  compare_with_manual();
#define MOME_COMPARE(name) compare(Target::name, name::primitives, emulated_##name::primitives);
  MOME_INSTRUCTION_SETS(MOME_COMPARE)
#undef MOME_COMPARE
  std::printf("%d checks, %d failures\n", test::checks, failures);
  return failures == 0 ? 0 : 1;
}
