// Weights in panels of kPanel columns, [columns / kPanel][depth][kPanel], zeros at the end. Packing happens once per weight (and
// after each optimiser step), moves 8 bytes per element and is bound by memory.
#pragma once

#include "core/kernel.h"
#include "cpu/vector/gemm.h"

namespace mome::MOME_ISA {

inline int64_t packed_weight_size(int64_t rows, int64_t columns, Packing packing) {
  return packing == Packing::forward ? packed_columns_size(columns, rows) : packed_columns_size(rows, columns);
}

inline void pack_weight(const float* weight, int64_t rows, int64_t columns, Packing packing, float* packed, ThreadPool& pool) {
  if (rows == 0 || columns == 0) return;
  const PlainSource source{weight, columns};
  if (packing == Packing::forward) {  // element (k, n) = weight[n, k]
    pool.parallel_for(panels_of(rows), [&](int64_t panel, int) {
      float* out = packed + panel * columns * kPanel;
      for (int64_t half = 0; half < kPanel; half += kLanes) {
        const int64_t row = panel * kPanel + half;
        pack_transposed(source, row, larger(0, smaller(kLanes, rows - row)), columns, out + half, kPanel);
      }
    });
  } else {  // element (k, n) = weight[k, n]
    pool.parallel_for(panels_of(columns), [&](int64_t panel, int) {
      const int64_t column = panel * kPanel;
      pack_straight(source, 0, rows, column, smaller(kPanel, columns - column), packed + panel * rows * kPanel, kPanel,
                    nullptr);
    });
  }
}

}  // namespace mome::MOME_ISA
