// Rows that fall into groups with parameters of their own (experts). Where the groups lie is read from the device's
// memory: launches of the same sizes are then the same launches, wherever the groups end.
#pragma once

#include <cstdint>

#include "cuda/primitives/platform.h"

namespace mome::cuda {

inline constexpr int kMaxGroups = 3;  // As many as a block has experts.

struct RowGroups {
  int rows;
  int groups;
  // [groups + 1] on the device: group e has rows [bounds[e], bounds[e + 1]). Null: one group has all rows.
  const int32_t* bounds;
};

// The bounds as kernels use them: ascending and inside [0, rows], whatever numbers were given; groups that are not
// there are empty.
struct GroupBounds {
  int at[kMaxGroups + 1];
};

MOME_DEVICE GroupBounds read_bounds(const RowGroups& rows) {
  GroupBounds bounds;
  if (rows.bounds == nullptr) {
#pragma unroll
    for (int i = 0; i <= kMaxGroups; i++) bounds.at[i] = i == 0 ? 0 : rows.rows;
    return bounds;
  }
  int least = 0;
#pragma unroll
  for (int i = 0; i <= kMaxGroups; i++) {
    const int given = i <= rows.groups ? rows.bounds[i] : least;
    least = given < least ? least : given < rows.rows ? given : rows.rows;
    bounds.at[i] = least;
  }
  return bounds;
}

}  // namespace mome::cuda
