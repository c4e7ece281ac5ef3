// Scored rows, their one order, and how they are sorted: shared by the searches of this folder.
#pragma once

#include <cmath>
#include <cstdint>
#include <functional>
#include <vector>

namespace mome {

// Runs one piece of a search, of a few milliseconds at most. Returns false, with or without having run it, to end the
// search.
using RunPiece = std::function<bool(const std::function<void()>& piece)>;

// The best rows, best first: equal scores by index, NaN last.
struct TopK {
  std::vector<int32_t> indices;
  std::vector<float> scores;
};

struct Hit {
  float score;
  int32_t index;
  // Better hits are smaller.
  bool operator<(const Hit& other) const {
    const bool is_nan = std::isnan(score), other_is_nan = std::isnan(other.score);
    if (is_nan != other_is_nan) return other_is_nan;
    return is_nan || score == other.score ? index < other.index : score > other.score;
  }
};

// The dot product of float32 rows, always summed in the same order.
float dot(const float* a, const float* b, int64_t width);

// Puts the `best` smallest hits first, in order, and drops the others. False when `run` ended the search.
bool keep_best(std::vector<Hit>& hits, size_t best, const RunPiece& run);

// The hits as indices and scores.
void take_hits(const std::vector<Hit>& hits, TopK& result);

}  // namespace mome
