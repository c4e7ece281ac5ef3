// The loops of peaks.h, compiled once per instruction set. In assembly: g++ 12 keeps such sums in memory, and would
// compute what does not change between steps once.
#include <immintrin.h>

#include "cpu/vector/amx.h"
#include "native/peaks.h"
#if MOME_HAS_TILES
#include "cpu/vector/amx_tiles.h"
#endif

namespace mome::MOME_ISA {
namespace {

#ifdef __AVX512F__
using Register = __m512i;
#define MOME_ANY "v"
#define MOME_VEX ""
inline Register all_bytes(char value) { return _mm512_set1_epi8(value); }
inline Register all_words(short value) { return _mm512_set1_epi16(value); }
inline Register all_floats(float value) { return _mm512_castps_si512(_mm512_set1_ps(value)); }
inline double lowest(Register value) { return _mm_cvtsi128_si32(_mm512_castsi512_si128(value)); }
#else
using Register = __m256i;
#define MOME_ANY "x"
#define MOME_VEX "%{vex%} "  // of two encodings the one that a processor without AVX-512 has
inline Register all_bytes(char value) { return _mm256_set1_epi8(value); }
inline Register all_words(short value) { return _mm256_set1_epi16(value); }
inline Register all_floats(float value) { return _mm256_castps_si256(_mm256_set1_ps(value)); }
inline double lowest(Register value) { return _mm_cvtsi128_si32(_mm256_castsi256_si128(value)); }
#endif

constexpr double kBytes = sizeof(Register);
constexpr int kChains = 10;  // independent sums: a latency of 4 or 5 on two ports

// sum += a b in ten sums, by an instruction of three operands.
#define MOME_CHAINED_LOOP(name, prefix, instruction, a_value, b_value)                                          \
  double name(int64_t steps) {                                                                                  \
    Register s0{}, s1{}, s2{}, s3{}, s4{}, s5{}, s6{}, s7{}, s8{}, s9{};                                        \
    const Register a = a_value, b = b_value;                                                                    \
    for (int64_t step = 0; step < steps; ++step) {                                                              \
      asm volatile(prefix instruction " %11, %10, %0\n" prefix instruction " %11, %10, %1\n" prefix instruction \
                                      " %11, %10, %2\n" prefix instruction " %11, %10, %3\n" prefix instruction \
                                      " %11, %10, %4\n" prefix instruction " %11, %10, %5\n" prefix instruction \
                                      " %11, %10, %6\n" prefix instruction " %11, %10, %7\n" prefix instruction \
                                      " %11, %10, %8\n" prefix instruction " %11, %10, %9\n"                    \
                   : "+" MOME_ANY(s0), "+" MOME_ANY(s1), "+" MOME_ANY(s2), "+" MOME_ANY(s3), "+" MOME_ANY(s4),  \
                     "+" MOME_ANY(s5), "+" MOME_ANY(s6), "+" MOME_ANY(s7), "+" MOME_ANY(s8), "+" MOME_ANY(s9)   \
                   : MOME_ANY(a), MOME_ANY(b));                                                                 \
    }                                                                                                           \
    return lowest(s0) + lowest(s9);                                                                             \
  }

MOME_CHAINED_LOOP(fma, "", "vfmadd231ps", all_floats(0.999f), all_floats(0.001f))

#if defined(__AVX512VNNI__) || defined(__AVXVNNI__)
MOME_CHAINED_LOOP(vnni, MOME_VEX, "vpdpbusd", all_bytes(3), all_bytes(-2))
constexpr bench::PeakLoop kVnni{vnni, kChains * kBytes * 2};
#else
constexpr bench::PeakLoop kVnni{nullptr, 0};
#endif

#ifdef __AVX512BF16__
MOME_CHAINED_LOOP(bf16, "", "vdpbf16ps", all_words(0x3f80), all_words(0x3c00))
constexpr bench::PeakLoop kBf16{bf16, kChains * kBytes / 2 * 2};
#else
constexpr bench::PeakLoop kBf16{nullptr, 0};
#endif

#if MOME_HAS_TILES
// Four sums of two registers of rows and two of columns, as products have them.
template <void (*kFirst)(), void (*kSecond)(), void (*kThird)(), void (*kFourth)()>
double tiles(int64_t steps) {
  shape_registers({16, 16, 16, 16, 16, 16, 16, 16});
  alignas(64) int32_t line[16] = {};
  load_register<4>(line, 0), load_register<5>(line, 0), load_register<6>(line, 0), load_register<7>(line, 0);
  clear_register<0>(), clear_register<1>(), clear_register<2>(), clear_register<3>();
  for (int64_t step = 0; step < steps; ++step) kFirst(), kSecond(), kThird(), kFourth();
  alignas(64) int32_t sums[16][16];
  store_register<3>(sums, sizeof *sums);
  release_registers();
  return sums[0][0];
}
constexpr double kTileWords = 4 * 16 * 16 * 16;
constexpr bench::PeakLoop kTileBytes{tiles<add_byte_products<0, 4, 6>, add_byte_products<1, 4, 7>,
                                           add_byte_products<2, 5, 6>, add_byte_products<3, 5, 7>>,
                                     kTileWords * 4 * 2};
constexpr bench::PeakLoop kTileBf16{tiles<add_bf16_products<0, 4, 6>, add_bf16_products<1, 4, 7>,
                                          add_bf16_products<2, 5, 6>, add_bf16_products<3, 5, 7>>,
                                    kTileWords * 2 * 2};
#else
constexpr bench::PeakLoop kTileBytes{nullptr, 0}, kTileBf16{nullptr, 0};
#endif

// Two products of bytes, a sum of 16 bits, its halves summed to 32 bits, and the sum of these: five instructions for
// two registers of products, of which the multiplications, three, wait for a port. Temporaries are renamed, so four
// chains of additions do.
double maddubs(int64_t steps) {
  Register s0{}, s1{}, s2{}, s3{}, t, u;
  const Register a = all_bytes(3), b = all_bytes(-2), c = all_bytes(5), ones = all_words(1);
  for (int64_t step = 0; step < steps; ++step) {
#define MOME_PAIR(sum)                                                                                                 \
  "vpmaddubsw %7, %6, %4\n vpmaddubsw %8, %6, %5\n vpaddw %5, %4, %4\n vpmaddwd %9, %4, %4\n vpaddd %4, " sum ", " sum \
  "\n"
    asm volatile(MOME_PAIR("%0") MOME_PAIR("%1") MOME_PAIR("%2") MOME_PAIR("%3")
                 : "+" MOME_ANY(s0), "+" MOME_ANY(s1), "+" MOME_ANY(s2), "+" MOME_ANY(s3), "=&" MOME_ANY(t),
                   "=&" MOME_ANY(u)
                 : MOME_ANY(a), MOME_ANY(b), MOME_ANY(c), MOME_ANY(ones));
#undef MOME_PAIR
  }
  return lowest(s0) + lowest(s3);
}

double read(const float* data, int64_t count) {
  __m256 sum[8] = {};
  for (int64_t i = 0; i + 64 <= count; i += 64) {
#pragma GCC unroll 8
    for (int v = 0; v < 8; ++v) sum[v] = _mm256_add_ps(sum[v], _mm256_load_ps(data + i + 8 * v));
  }
  double total = 0;
  for (int v = 0; v < 8; ++v) total += _mm256_cvtss_f32(sum[v]);
  return total;
}

}  // namespace

const bench::PeakLoops peak_loops{
    .fma = {fma, kChains * kBytes / 4 * 2},
    .vnni = kVnni,
    .maddubs = {maddubs, 4 * 2 * kBytes * 2},
    .bf16 = kBf16,
    .tile_bytes = kTileBytes,
    .tile_bf16 = kTileBf16,
    .read = read,
};

}  // namespace mome::MOME_ISA
