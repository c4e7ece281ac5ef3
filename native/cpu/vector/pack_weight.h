// Weights in panels of kPanel columns, [columns / kPanel][steps][kPanel], zeros at the end; bfloat16 as the tile reads
// it (gemm_kernel.h) and int8 with scales and compensations (gemm_i8.h). Packing happens once per weight (and after
// each optimiser step) and is bound by memory.
#pragma once

#include "core/kernel.h"
#include "cpu/vector/gemm.h"

namespace mome::MOME_ISA {
namespace {

inline size_t packed_weight_size(int64_t rows, int64_t columns, Form form, WeightType type) {
  const int64_t depth = form == Form::packed ? columns : rows, outputs = form == Form::packed ? rows : columns;
  switch (type) {
    case WeightType::f32: return static_cast<size_t>(panels_of(outputs) * depth * F32Panel::kStepBytes);
    case WeightType::bf16:
      return static_cast<size_t>(panels_of(outputs) * steps_of<Bf16WeightPanel>(depth) * Bf16WeightPanel::kStepBytes);
    case WeightType::i8: return static_cast<size_t>(panels_of(rows) * I8Panel::bytes(columns));
  }
  return 0;
}

template <typename Panel>
inline void pack_word_panel(const float* weight, int64_t rows, int64_t columns, int64_t panel, float* out) {
  const PlainSource source{weight, columns};
  for (int64_t half = 0; half < kPanel; half += kLanes) {
    const int64_t row = panel * kPanel + half;
    pack_transposed<Panel>(source, row, larger(0, smaller(kLanes, rows - row)), columns, out + half, kPanel);
  }
}

#if MOME_HAS_PAIRS
inline void pack_bf16_panel(const float* weight, int64_t rows, int64_t columns, int64_t panel, uint32_t* out) {
  pack_word_panel<Bf16WeightPanel>(weight, rows, columns, panel, reinterpret_cast<float*>(out));
}
#else
// Rounds up to 16 outputs at a time and sets their halves together.
inline void pack_bf16_panel(const float* weight, int64_t rows, int64_t columns, int64_t panel, uint32_t* out) {
  constexpr int64_t kChunk = 64;
  float rounded[kPanel][kChunk];
  for (int64_t k = 0; k < columns; k += kChunk) {
    const int64_t count = smaller(kChunk, columns - k);
    for (int64_t c = 0; c < kPanel; ++c) {
      const int64_t row = panel * kPanel + c;
      if (row < rows) round_to_bf16(weight + row * columns + k, count, rounded[c]);
    }
    for (int64_t i = 0; i < count; ++i) {
      for (int64_t c = 0; c < kLanes; ++c) {
        const auto bits = [&](int64_t column) {
          return panel * kPanel + column < rows ? __builtin_bit_cast(uint32_t, rounded[column][i]) : 0u;
        };
        out[(k + i) * kLanes + c] = bits(c) >> 16 | (bits(kLanes + c) & 0xffff0000u);
      }
    }
  }
}
#endif

inline void pack_i8_panel(const float* weight, const float* row_scales, int64_t rows, int64_t columns, int64_t panel,
                          std::byte* out) {
  const I8Panel view{out, columns};
  std::memset(out, 0, static_cast<size_t>(I8Panel::bytes(columns)));
  float* scales = const_cast<float*>(view.scale());
  int32_t* whole = const_cast<int32_t*>(view.whole());
  int8_t* to = reinterpret_cast<int8_t*>(const_cast<std::byte*>(view.weights()));
  for (int64_t c = 0; c < kPanel && panel * kPanel + c < rows; ++c) {
    const int64_t at = panel * kPanel + c;
    const float* row = weight + at * columns;
    const float scale = row_scales != nullptr ? row_scales[at] : weight_row_scale(row, columns);
    const double factor = weight_row_factor(row, columns, scale, kSumLimit);
    scales[c] = narrowed_scale(scale, factor);
    for (int64_t first = 0; first < columns; first += kQuantBlock) {
      int8_t q[kQuantBlock];
      const int64_t count = smaller(kQuantBlock, columns - first);
      quantise_weights(row + first, count, scale, factor, q);
      int32_t sum = 0;
      for (int64_t i = 0; i < count; ++i) {
        const int64_t k = first + i;
        to[k / kLaneDepth * kPanel * kLaneDepth + c * kLaneDepth + k % kLaneDepth] = q[i];
        sum += q[i];
      }
      const_cast<int32_t*>(view.block(first / kQuantBlock))[c] = -kQuantOffset * sum;
      whole[c] -= kQuantOffset * sum;
    }
  }
}

// Element (k, n) of the operand is weight[k, n]. bfloat16 where the target multiplies it.
template <typename Panel>
inline void pack_transposed_panels(const float* weight, int64_t rows, int64_t columns, void* packed, ThreadPool& pool) {
  const int64_t steps = steps_of<Panel>(rows);
  pool.parallel_for(panels_of(columns), [&](int64_t panel, int) {
    const int64_t column = panel * kPanel;
    pack_straight<Panel>(PlainSource{weight, columns}, 0, rows, column, smaller(kPanel, columns - column),
                         static_cast<float*>(packed) + panel * steps * kPanel, kPanel, nullptr);
  });
}

inline void pack_weight(const float* weight, const float* row_scales, int64_t rows, int64_t columns, Form form,
                        WeightType type, void* packed, ThreadPool& pool) {
  if (rows == 0 || columns == 0) return;
  if (form == Form::packed_transposed) {
    if (type == WeightType::bf16) {
      pack_transposed_panels<Bf16WeightPanel>(weight, rows, columns, packed, pool);
    } else {
      pack_transposed_panels<F32Panel>(weight, rows, columns, packed, pool);
    }
    return;
  }
  pool.parallel_for(panels_of(rows), [&](int64_t panel, int) {  // element (k, n) = weight[n, k]
    switch (type) {
      case WeightType::f32:
        pack_word_panel<F32Panel>(weight, rows, columns, panel, static_cast<float*>(packed) + panel * columns * kPanel);
        break;
      case WeightType::bf16:
        pack_bf16_panel(
            weight, rows, columns, panel,
            reinterpret_cast<uint32_t*>(static_cast<std::byte*>(packed) +
                                        panel * steps_of<Bf16WeightPanel>(columns) * Bf16WeightPanel::kStepBytes));
        break;
      case WeightType::i8:
        pack_i8_panel(weight, row_scales, rows, columns, panel,
                      static_cast<std::byte*>(packed) + panel * I8Panel::bytes(columns));
        break;
    }
  });
}

}  // namespace
}  // namespace mome::MOME_ISA
