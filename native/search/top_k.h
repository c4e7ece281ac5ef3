// Exact search: the rows of a matrix with the largest dot products.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "core/status.h"

namespace mome {

// The best rows, best first: equal scores by index, NaN last.
struct TopK {
  std::vector<int32_t> indices;
  std::vector<float> scores;
};

// Runs one piece of a search, of a few milliseconds at most. Returns false, with or without having run it, to end the
// search.
using RunPiece = std::function<bool(const std::function<void()>& piece)>;

// Finds the min(k, count) best of `count` rows [count, width] for a query [width].
// The cost is one pass over the rows, and sorting as many scores as are wanted.
Status top_k(const float* rows, int64_t count, int64_t width, const float* query, int64_t k, const RunPiece& run,
             TopK& result);

}  // namespace mome
