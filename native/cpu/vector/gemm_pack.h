// Operands in the order the tile kernel reads them, made from anything that can give a vector of its row.
//
// A source has `Vec load(row, column, count)`: `count` <= kLanes values of one row, the rest 0; and `void
// prepare(row)`, called once before the first load of a row within one packing (a layer norm takes its mean there).
//
// Rows of A are cut into as few tiles as possible and these as even as possible, so no tile is left with a few rows;
// tile t is stored as [steps][R], or in groups of steps (gemm_kernel.h), at offset first_row(t) * steps. B is cut into
// panels of kPanel columns, [steps][kPanel] each, the last one filled up with zeros. A step is one element of the
// contraction, or a pair of bfloat16 (pairs.h).
#pragma once

#include <cstdint>

#include "cpu/vector/gemm_kernel.h"
#include "cpu/vector/moments.h"

namespace mome::MOME_ISA {
namespace {

// ---- Sources ----------------------------------------------------------------------------------------------------------------

inline Vec load_part(const float* p, int64_t count) { return count == kLanes ? load(p) : load(p, count); }
inline void store_part(float* p, Vec x, int64_t count) {
  if (count == kLanes) {
    store(p, x);
  } else {
    store(p, x, count);
  }
}

// The matrix at `x`, rows `stride` floats apart.
struct PlainSource {
  const float* x;
  int64_t stride;
  void prepare(int64_t) const {}
  Vec load(int64_t row, int64_t column, int64_t count) const { return load_part(x + row * stride + column, count); }
};

// row_scale * column_scale * x, each factor optional.
struct ScaledSource {
  const float* x;
  int64_t stride;
  const float* row_scale;
  const float* column_scale;
  void prepare(int64_t) const {}
  Vec load(int64_t row, int64_t column, int64_t count) const {
    Vec value = load_part(x + row * stride + column, count);
    if (row_scale != nullptr) value = value * set1(row_scale[row]);
    if (column_scale != nullptr) value = value * load_part(column_scale + column, count);
    return value;
  }
};

// layer_norm(x) * gamma + beta. `moments` [rows] is filled by prepare, or read where `known`.
struct NormSource {
  const float* x;
  int64_t width;
  const float* gamma;
  const float* beta;
  float eps;
  Moments* moments;
  bool known;
  void prepare(int64_t row) const {
    if (!known) moments[row] = row_moments(x + row * width, width, eps);
  }
  Vec load(int64_t row, int64_t column, int64_t count) const {
    const Vec scale = set1(moments[row].inverse_deviation);
    const Vec normed = (load_part(x + row * width + column, count) - set1(moments[row].mean)) * scale;
    return fma(normed, load_part(gamma + column, count), load_part(beta + column, count));
  }
};

// ---- Tiles ------------------------------------------------------------------------------------------------------------------

struct Tiles {
  int64_t count, base, longer;  // the first `longer` tiles have base + 1 rows, the others base
  Tiles(int64_t rows, int64_t most) {
    count = ceil_div(rows, most);
    base = count == 0 ? 0 : rows / count;
    longer = count == 0 ? 0 : rows % count;
  }
  int64_t first_row(int64_t tile) const { return tile * base + smaller(tile, longer); }
  int64_t rows(int64_t tile) const { return base + (tile < longer ? 1 : 0); }
};

template <typename Panel>
inline Tiles tiles_of(int64_t rows) {
  return Tiles(rows, Panel::kTileRows);
}

inline int64_t panels_of(int64_t columns) { return ceil_div(columns, kPanel); }
inline int64_t packed_columns_size(int64_t depth, int64_t columns) {
  return panels_of(columns) * most_steps(depth) * kPanel;
}

// Panels cut into groups, as even as possible in whole units of `unit` panels: of at most `most` panels each, and so
// many that with `row_blocks` blocks of rows every thread gets `items_per_thread` items, and all threads equally many,
// where there are enough units for that.
struct PanelGroups {
  int64_t panels, unit, count;
  PanelGroups(int64_t panels, int64_t unit, int64_t most, int64_t row_blocks, int64_t items_per_thread, int64_t threads)
      : panels(panels),
        unit(unit),
        count(larger(ceil_div(panels, most), ceil_div(items_per_thread * threads, row_blocks))) {
    while (row_blocks * count % threads != 0) ++count;
    count = smaller(count, units());
  }
  int64_t units() const { return ceil_div(panels, unit); }
  int64_t first(int64_t group) const { return smaller(panels, units() * group / count * unit); }
};

// ---- Transposition in registers ---------------------------------------------------------------------------------------------

#if MOME_OWN_PRIMITIVES  // emulated.h or neon.h has it
#elif defined(__AVX512F__)
inline void transpose(Vec (&m)[16]) {
  __m512 a[16];
  for (int i = 0; i < 16; i += 2) {
    a[i] = _mm512_unpacklo_ps(m[i].v, m[i + 1].v);
    a[i + 1] = _mm512_unpackhi_ps(m[i].v, m[i + 1].v);
  }
  // b[4 g + c]: column 4 lane + c of the rows 4 g ... 4 g + 3.
  __m512 b[16];
  for (int g = 0; g < 4; ++g) {
    const __m512d lo0 = _mm512_castps_pd(a[4 * g]), hi0 = _mm512_castps_pd(a[4 * g + 1]);
    const __m512d lo1 = _mm512_castps_pd(a[4 * g + 2]), hi1 = _mm512_castps_pd(a[4 * g + 3]);
    b[4 * g] = _mm512_castpd_ps(_mm512_unpacklo_pd(lo0, lo1));
    b[4 * g + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(lo0, lo1));
    b[4 * g + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(hi0, hi1));
    b[4 * g + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(hi0, hi1));
  }
  for (int c = 0; c < 4; ++c) {
    const __m512 even01 = _mm512_shuffle_f32x4(b[c], b[4 + c], 0x88),
                 odd01 = _mm512_shuffle_f32x4(b[c], b[4 + c], 0xdd);
    const __m512 even23 = _mm512_shuffle_f32x4(b[8 + c], b[12 + c], 0x88);
    const __m512 odd23 = _mm512_shuffle_f32x4(b[8 + c], b[12 + c], 0xdd);
    m[c].v = _mm512_shuffle_f32x4(even01, even23, 0x88);
    m[8 + c].v = _mm512_shuffle_f32x4(even01, even23, 0xdd);
    m[4 + c].v = _mm512_shuffle_f32x4(odd01, odd23, 0x88);
    m[12 + c].v = _mm512_shuffle_f32x4(odd01, odd23, 0xdd);
  }
}
#else
inline void transpose(Vec (&m)[8]) {
  __m256 a[8], b[8];
  for (int i = 0; i < 8; i += 2) {
    a[i] = _mm256_unpacklo_ps(m[i].v, m[i + 1].v);
    a[i + 1] = _mm256_unpackhi_ps(m[i].v, m[i + 1].v);
  }
  for (int g = 0; g < 2; ++g) {
    b[4 * g] = _mm256_shuffle_ps(a[4 * g], a[4 * g + 2], 0x44);
    b[4 * g + 1] = _mm256_shuffle_ps(a[4 * g], a[4 * g + 2], 0xee);
    b[4 * g + 2] = _mm256_shuffle_ps(a[4 * g + 1], a[4 * g + 3], 0x44);
    b[4 * g + 3] = _mm256_shuffle_ps(a[4 * g + 1], a[4 * g + 3], 0xee);
  }
  for (int c = 0; c < 4; ++c) {
    m[c].v = _mm256_permute2f128_ps(b[c], b[4 + c], 0x20);
    m[4 + c].v = _mm256_permute2f128_ps(b[c], b[4 + c], 0x31);
  }
}
#endif

// ---- Packing ----------------------------------------------------------------------------------------------------------------

// `rows` <= kLanes rows of words, transposed: out[step * stride + r] for step < steps. `words(r, step)` gives kLanes
// words of row r from `step` on. Writes kLanes words per step, of which the next steps overwrite those beyond the
// stride; the last steps write exactly min(stride, kLanes).
template <typename Words>
inline void transpose_words(const Words& words, int64_t rows, int64_t steps, float* out, int64_t stride) {
  const int64_t width = smaller(stride, kLanes);
  const int64_t safe = steps - ceil_div(kLanes, stride);  // the last step where a whole vector stays inside
  for (int64_t k = 0; k < steps; k += kLanes) {
    const int64_t count = smaller(kLanes, steps - k);
    Vec block[kLanes];
#pragma GCC unroll 16
    for (int r = 0; r < kLanes; ++r) block[r] = r < rows ? words(r, k) : zero();
    transpose(block);
    if (k + kLanes - 1 <= safe) {
#pragma GCC unroll 16
      for (int c = 0; c < kLanes; ++c) store(out + (k + c) * stride, block[c]);
    } else {
      for (int c = 0; c < count; ++c) store_part(out + (k + c) * stride, block[c], width);
    }
  }
}

// kLanes words of one row of the source from `step` on: single values, or pairs of them.
template <int64_t kStepDepth, typename Source>
inline Vec words_of(const Source& source, int64_t row, int64_t step, int64_t depth) {
  const int64_t column = step * kStepDepth;
  const Vec first = source.load(row, column, smaller(kLanes, depth - column));
#if MOME_HAS_PAIRS
  if constexpr (kStepDepth == 2) {
    const int64_t rest = depth - column - kLanes;
    return as_lanes(
        consecutive_pairs(first, rest > 0 ? source.load(row, column + kLanes, smaller(kLanes, rest)) : zero()));
  }
#endif
  return first;
}

// `rows` <= kLanes rows of the source from `row` on, as steps of a packed operand.
template <typename Panel, typename Source>
inline void pack_transposed(const Source& source, int64_t row, int64_t rows, int64_t depth, float* out,
                            int64_t stride) {
  transpose_words([&](int64_t r, int64_t step) { return words_of<Panel::kStepDepth>(source, row + r, step, depth); },
                  rows, steps_of<Panel>(depth), out, stride);
}

// Rows of the source from `row` on as a packed tile of A in groups of kLanes steps.
template <typename Panel, typename Source>
inline void pack_grouped(const Source& source, int64_t row, int64_t rows, int64_t depth, float* out) {
  static_assert(Panel::kStepGroup == kLanes);
  const int64_t steps = steps_of<Panel>(depth);
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t k = 0; k < steps; k += kLanes)
      store(out + word_place<kLanes>(rows, r, k), words_of<Panel::kStepDepth>(source, row + r, k, depth));
  }
}

// The first `columns` columns of a finished tile [R][kPanel], as as many elements of a packed tile of A, out
// [steps][R]. Writes nothing past these steps: those after them may be another thread's. Columns past `columns` must be
// 0.
template <typename Panel>
inline void pack_finished(const float* tile, int64_t rows, int64_t columns, float* out) {
  constexpr int64_t kStepDepth = Panel::kStepDepth;
  const PlainSource source{tile, kPanel};
  if constexpr (Panel::kStepGroup != 1) return pack_grouped<Panel>(source, 0, rows, columns, out);
  const int64_t steps = ceil_div(columns, kStepDepth);
  for (int64_t k = 0; k < steps; k += kLanes) {
    Vec block[kLanes];
#pragma GCC unroll 16
    for (int r = 0; r < kLanes; ++r)
      block[r] = r < Panel::kTileRows && r < rows ? words_of<kStepDepth>(source, r, k, kPanel) : zero();
    transpose(block);
    const int64_t count = smaller(kLanes, steps - k);
    for (int64_t i = 0; i < count; ++i) {
      const int64_t at = (k + i) * rows;
      if (at + kLanes <= steps * rows) {
        store(out + at, block[i]);
      } else {
        store(out + at, block[i], rows);
      }
    }
  }
}

// One tile of A, where a row of A is a row of the source.
template <typename Panel, typename Source>
inline void pack_tile(const Source& source, int64_t row, int64_t rows, int64_t depth, float* out) {
  for (int64_t r = 0; r < rows; ++r) source.prepare(row + r);
  if constexpr (Panel::kStepGroup == 1) {
    pack_transposed<Panel>(source, row, rows, depth, out, rows);
  } else {
    pack_grouped<Panel>(source, row, rows, depth, out);
  }
}

// `depth` rows of the source from `row` on, `columns` of them from `column` on, as [steps][stride], filled up with
// zeros. Used where the contraction runs over the rows of the source: `columns` = stride <= Panel::kTileRows for A, <=
// stride = kPanel for B. `sums` (or null) += the sum of each column, taken in ascending row order; it is indexed like
// the source.
template <typename Panel, typename Source>
inline void pack_straight(const Source& source, int64_t row, int64_t depth, int64_t column, int64_t columns, float* out,
                          int64_t stride, float* sums) {
  constexpr int64_t kStepDepth = Panel::kStepDepth;
  const int64_t steps = steps_of<Panel>(depth);
  const int64_t safe = stride < kLanes ? steps - ceil_div(kLanes, stride) : -1;  // as in transpose_words
  for (int64_t c = 0; c < stride; c += kLanes) {
    const int64_t count = larger(0, smaller(kLanes, columns - c));
    const int64_t width = smaller(kLanes, stride - c);
    Vec sum = zero();
    const auto next = [&](int64_t k) {
      const Vec value = count > 0 && k < depth ? source.load(row + k, column + c, count) : zero();
      sum = sum + value;
      return value;
    };
    for (int64_t step = 0; step < steps; ++step) {
      Vec words = next(step * kStepDepth);
#if MOME_HAS_PAIRS
      if constexpr (kStepDepth == 2) words = as_lanes(interleaved_pairs(words, next(step * 2 + 1)));
#endif
      if (step <= safe) {
        store(out + step * stride + c, words);
      } else {
        store_part(out + step * stride + c, words, width);
      }
    }
    if (sums != nullptr && count > 0) store_part(sums + column + c, load_part(sums + column + c, count) + sum, count);
  }
}

// The same for a tile of A, `columns` of them its rows.
template <typename Panel, typename Source>
inline void pack_straight_tile(const Source& source, int64_t row, int64_t depth, int64_t column, int64_t columns,
                               float* out, float* sums) {
#if MOME_HAS_TILES
  if constexpr (Panel::kStepGroup != 1) {
    static_assert(Panel::kStepGroup == kLanes && Panel::kStepDepth == 2);
    for (int64_t c = 0; c < columns; c += kLanes) {
      const int64_t count = smaller(kLanes, columns - c);
      Vec sum = zero();
      const auto next = [&](int64_t k) {
        const Vec value = k < depth ? source.load(row + k, column + c, count) : zero();
        sum = sum + value;
        return value;
      };
      for (int64_t step = 0; step < steps_of<Panel>(depth); step += kLanes) {
        Vec block[kLanes];
        for (int64_t i = 0; i < kLanes; ++i) {
          const Vec low = next((step + i) * 2);
          block[i] = as_lanes(interleaved_pairs(low, next((step + i) * 2 + 1)));
        }
        transpose(block);
        for (int64_t r = 0; r < count; ++r) store(out + word_place<kLanes>(columns, c + r, step), block[r]);
      }
      if (sums != nullptr) store_part(sums + column + c, load_part(sums + column + c, count) + sum, count);
    }
    return;
  }
#endif
  pack_straight<Panel>(source, row, depth, column, columns, out, columns, sums);
}

}  // namespace
}  // namespace mome::MOME_ISA
