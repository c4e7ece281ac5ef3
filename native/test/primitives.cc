// The primitives of one instruction set, or of its emulation. Compiled once for each with MOME_ISA defined.
#include "test/primitives.h"

#include "cpu/vector/dot.h"
#include "cpu/vector/gemm_pack.h"
#include "cpu/vector/pairs.h"
#include "cpu/vector/simd.h"
#include "cpu/vector/words.h"
#if MOME_HAS_TILES
#include "cpu/vector/amx_tiles.h"
#endif

namespace mome::MOME_ISA {

extern const test::PrimitiveList primitives;

namespace {

using test::Domain;
using Operands = const uint32_t* const[3];

inline const float* floats(const uint32_t* words) { return reinterpret_cast<const float*>(words); }
inline float* floats(uint32_t* words) { return reinterpret_cast<float*>(words); }
inline Vec vec(const uint32_t* words) { return load(floats(words)); }
inline Ints ints(const uint32_t* words) { return load_ints(reinterpret_cast<const int32_t*>(words)); }

template <Vec (*kFunction)(Vec)>
void one(Operands operands, uint32_t* results) {
  store(floats(results), kFunction(vec(operands[0])));
}
template <Vec (*kFunction)(Vec, Vec)>
void two(Operands operands, uint32_t* results) {
  store(floats(results), kFunction(vec(operands[0]), vec(operands[1])));
}
template <Vec (*kFunction)(Vec, Vec, Vec)>
void three(Operands operands, uint32_t* results) {
  store(floats(results), kFunction(vec(operands[0]), vec(operands[1]), vec(operands[2])));
}
template <float (*kFunction)(Vec)>
void folded(Operands operands, uint32_t* results) {
  floats(results)[0] = kFunction(vec(operands[0]));
}

void select_less(Operands o, uint32_t* results) {
  store(floats(results), select(less(vec(o[0]), vec(o[1])), vec(o[2]), vec(o[0])));
}
// Every tail: what is read, what is written and what a mask lets through.
void tails(Operands o, uint32_t* results) {
  for (int count = 0; count <= kLanes; ++count) {
    float* to = floats(results + count * kLanes);
    store(to, select(first_lanes_mask(count), vec(o[0]), vec(o[1])));
    store(to, load(floats(o[2]), count), kLanes - count);
  }
}
void bf16(Operands o, uint32_t* results) {
  Vec low, high;
  load_bf16(o[0], low, high);
  store(floats(results), low);
  store(floats(results) + kLanes, high);
}
void transposed(Operands o, uint32_t* results) {
  Vec block[kLanes];
  for (int r = 0; r < kLanes; ++r) block[r] = vec(o[0] + r * kLanes);
  transpose(block);
  for (int r = 0; r < kLanes; ++r) store(floats(results + r * kLanes), block[r]);
}

#if MOME_HAS_TILES
constexpr int64_t kLine = kAmxWords * sizeof(uint32_t);

// sums + a b in tile registers, with as many rows as the first word past a register's of the sums says.
template <void (*kAdd)()>
void tile_products(Operands o, uint32_t* results) {
  const uint8_t rows = static_cast<uint8_t>(test::tile_rows(o));
  shape_registers({0, rows, 0, 0, rows, 0, kAmxWords, 0});
  load_register<1>(o[0], kLine), load_register<4>(o[1], kLine), load_register<6>(o[2], kLine);
  kAdd();
  std::memset(results, 0, test::kTileWords * sizeof(uint32_t));
  store_register<1>(results, kLine);
  release_registers();
}
// A register with one line in all of its rows, and one that was cleared, stored between each other's rows.
void tile_moves(Operands o, uint32_t* results) {
  const uint8_t rows = static_cast<uint8_t>(test::tile_rows(o) / 2);
  std::memset(results, 0xff, test::kTileWords * sizeof(uint32_t));
  if (rows == 0) return;
  shape_registers({rows, rows, 0, 0, 0, 0, 0, 0});
  load_register<0>(o[1], 0), load_register<1>(o[2], kLine);
  clear_register<1>();
  store_register<0>(results, 2 * kLine), store_register<1>(results + kAmxWords, 2 * kLine);
  release_registers();
}
#endif

#define MOME_VECTOR(kind, function) {#function, Domain::any, true, kLanes, kind<function>}

#if defined(__aarch64__)
constexpr Domain kDotDomain = Domain::codes;
#else
constexpr Domain kDotDomain = Domain::any;
#endif

constexpr test::Primitive kPrimitives[] = {
    MOME_VECTOR(two, operator+),
    MOME_VECTOR(two, operator-),
    MOME_VECTOR(two, operator*),
    MOME_VECTOR(two, operator/),
    MOME_VECTOR(three, fma),
    MOME_VECTOR(three, fnma),
    MOME_VECTOR(two, min),
    MOME_VECTOR(two, max),
    MOME_VECTOR(one, sqrt),
    MOME_VECTOR(one, abs),
    MOME_VECTOR(one, round),
    MOME_VECTOR(two, copy_sign),
    {"select", Domain::any, true, kLanes, select_less},
    {"scale_by_power", Domain::powers, true, kLanes, two<scale_by_power>},
    {"reduce_add", Domain::any, true, 1, folded<reduce_add>},
    {"reduce_max", Domain::finite, true, 1, folded<reduce_max>},
    {"tails", Domain::any, true, (kLanes + 1) * kLanes, tails},
    {"load_bf16", Domain::any, true, 2 * kLanes, bf16},
    {"transpose", Domain::any, false, kLanes * kLanes, transposed},
    {"max_magnitude", Domain::positive, false, kLanes,
     [](Operands o, uint32_t* results) { store(floats(results), max_magnitude(vec(o[0]), vec(o[1]))); }},
    {"largest_bits", Domain::any, false, 1,
     [](Operands o, uint32_t* results) { results[0] = static_cast<uint32_t>(largest_bits(vec(o[0]))); }},
    {"to_float", Domain::any, false, kLanes,
     [](Operands o, uint32_t* results) { store(floats(results), to_float(ints(o[0]))); }},
    {"rounded", Domain::any, false, kLanes,
     [](Operands o, uint32_t* results) { store(floats(results), as_lanes(rounded(vec(o[0])))); }},
    {"consecutive_words", Domain::any, false, kLanes,
     [](Operands o, uint32_t* results) {
       store(floats(results), as_lanes(consecutive_words(as_ints(vec(o[0])), as_ints(vec(o[1])))));
     }},
    {"interleaved_words", Domain::any, false, kLanes,
     [](Operands o, uint32_t* results) {
       store(floats(results), as_lanes(interleaved_words(as_ints(vec(o[0])), as_ints(vec(o[1])))));
     }},
    {"dot_words", Domain::any, false, kLanes,
     [](Operands o, uint32_t* results) {
       store_ints(reinterpret_cast<int32_t*>(results), dot_words(ints(o[0]), ints(o[1]), ints(o[2])));
     }},
#if !defined(__AVX2__) || defined(__AVX512F__)  // 8 lanes take other 8-bit products than their emulation
    {"dot", kDotDomain, false, kLanes,
     [](Operands o, uint32_t* results) {
       const Ints weights = load_weights(reinterpret_cast<const std::byte*>(o[2]), 0);
       store_ints(reinterpret_cast<int32_t*>(results), dot(ints(o[0]), set1_word(o[1]), weights));
     }},
    {"quantise_words", Domain::any, false, kWordsPerVector,
     [](Operands o, uint32_t* results) { quantise_words(vec(o[0]), results); }},
#endif
#if MOME_HAS_PAIRS
    {"dot_pairs", Domain::any, true, kLanes,
     [](Operands o, uint32_t* results) {
       store(floats(results), dot_pairs(vec(o[0]), set1_pairs(o[1][0]), load_pairs(o[2])));
     }},
    {"consecutive_pairs", Domain::any, false, kLanes,
     [](Operands o, uint32_t* results) { store_pairs(results, consecutive_pairs(vec(o[0]), vec(o[1]))); }},
    {"interleaved_pairs", Domain::any, false, kLanes,
     [](Operands o, uint32_t* results) { store_pairs(results, interleaved_pairs(vec(o[0]), vec(o[1]))); }},
    {"as_pairs", Domain::any, false, kLanes,
     [](Operands o, uint32_t* results) { store(floats(results), as_lanes(as_pairs(vec(o[0])))); }},
#endif
#if MOME_HAS_TILES
    {"tile_bf16", Domain::any, true, test::kTileWords, tile_products<add_bf16_products<1, 4, 6>>},
    {"tile_bytes", Domain::any, false, test::kTileWords, tile_products<add_byte_products<1, 4, 6>>},
    {"tile_moves", Domain::any, false, test::kTileWords, tile_moves},
#endif
};

}  // namespace

constinit const test::PrimitiveList primitives = {kPrimitives, sizeof kPrimitives / sizeof kPrimitives[0]};

}  // namespace mome::MOME_ISA
