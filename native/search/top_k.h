// Exact search: the rows of a matrix with the largest dot products.
#pragma once

#include <cstdint>

#include "core/status.h"
#include "search/hits.h"

namespace mome {

// Finds the min(k, count) best of `count` rows [count, width] for a query [width].
// The cost is one pass over the rows, and sorting as many scores as are wanted.
Status top_k(const float* rows, int64_t count, int64_t width, const float* query, int64_t k, const RunPiece& run,
             TopK& result);

}  // namespace mome
