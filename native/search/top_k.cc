#include "search/top_k.h"

#include <algorithm>
#include <cmath>

namespace mome {
namespace {

constexpr int64_t kValuesAtOnce = 1 << 21;  // 8 MiB of rows: about a millisecond
constexpr int64_t kHitsAtOnce = 1 << 16;    // sorted in a few milliseconds
constexpr int kLanes = 8;                   // sums that do not wait for each other

struct Hit {
  float score;
  int32_t index;
  bool operator<(const Hit& other) const {
    const bool is_nan = std::isnan(score), other_is_nan = std::isnan(other.score);
    if (is_nan != other_is_nan) return other_is_nan;
    return is_nan || score == other.score ? index < other.index : score > other.score;
  }
};

float dot(const float* a, const float* b, int64_t width) {
  float sums[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= width; i += kLanes) {
    for (int lane = 0; lane < kLanes; lane++) sums[lane] += a[i + lane] * b[i + lane];
  }
  float sum = 0;
  for (; i < width; i++) sum += a[i] * b[i];
  for (const float lane : sums) sum += lane;
  return sum;
}

// Sorts in pieces: blocks first, then neighbours merged until one block is left.
bool sort(std::vector<Hit>& hits, const RunPiece& run) {
  const auto at = [&](size_t place) {
    return hits.begin() + static_cast<std::ptrdiff_t>(std::min(place, hits.size()));
  };
  for (size_t first = 0; first < hits.size(); first += kHitsAtOnce) {
    if (!run([&] { std::sort(at(first), at(first + kHitsAtOnce)); })) return false;
  }
  std::vector<Hit> merged(hits.size() > kHitsAtOnce ? hits.size() : 0);
  for (size_t block = kHitsAtOnce; block < hits.size(); block *= 2) {
    for (size_t first = 0; first < hits.size(); first += 2 * block) {
      const auto merge = [&] {
        std::merge(at(first), at(first + block), at(first + block), at(first + 2 * block),
                   merged.begin() + static_cast<std::ptrdiff_t>(first));
      };
      if (!run(merge)) return false;
    }
    hits.swap(merged);
  }
  return true;
}

}  // namespace

Status top_k(const float* rows, int64_t count, int64_t width, const float* query, int64_t k, const RunPiece& run,
             TopK& result) {
  const Status aborted = error(Code::aborted, "topK: aborted");
  std::vector<Hit> hits(static_cast<size_t>(count));
  const int64_t rows_at_once = std::max<int64_t>(1, kValuesAtOnce / width);
  for (int64_t first = 0; first < count; first += rows_at_once) {
    const auto score = [&] {
      for (int64_t row = first; row < std::min(count, first + rows_at_once); row++) {
        hits[static_cast<size_t>(row)] = {dot(rows + row * width, query, width), static_cast<int32_t>(row)};
      }
    };
    if (!run(score)) return aborted;
  }
  const size_t best = static_cast<size_t>(std::min(k, count));
  if (best < hits.size()) {
    if (!run([&] { std::nth_element(hits.begin(), hits.begin() + static_cast<std::ptrdiff_t>(best), hits.end()); }))
      return aborted;
    hits.resize(best);
  }
  if (!sort(hits, run)) return aborted;
  result.indices.resize(best);
  result.scores.resize(best);
  for (size_t i = 0; i < best; i++) {
    result.indices[i] = hits[i].index;
    result.scores[i] = hits[i].score;
  }
  return {};
}

}  // namespace mome
