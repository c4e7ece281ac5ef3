// How the rows of a normalisation are cut into work: fixed, so that results do not depend on the number of threads.
#pragma once

#include <cstdint>

namespace mome::MOME_ISA {
namespace {

inline constexpr int64_t kRowsPerItem = 32;  // rows of a work item
inline constexpr int64_t kMaxPartials = 64;  // partial sums of the parameter gradients

// The number of partial sums for so many rows.
inline int64_t row_partials(int64_t rows) {
  const int64_t wanted = (rows + kRowsPerItem - 1) / kRowsPerItem;
  return wanted < kMaxPartials ? wanted : kMaxPartials;
}

}  // namespace
}  // namespace mome::MOME_ISA
