#include "search/hits.h"

#include <algorithm>

namespace mome {
namespace {

constexpr size_t kHitsAtOnce = 1 << 16;  // sorted in a few milliseconds
constexpr int kLanes = 8;                // sums that do not wait for each other

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

bool keep_best(std::vector<Hit>& hits, size_t best, const RunPiece& run) {
  if (best < hits.size()) {
    if (!run([&] { std::nth_element(hits.begin(), hits.begin() + static_cast<std::ptrdiff_t>(best), hits.end()); }))
      return false;
    hits.resize(best);
  }
  return sort(hits, run);
}

void take_hits(const std::vector<Hit>& hits, TopK& result) {
  result.indices.resize(hits.size());
  result.scores.resize(hits.size());
  for (size_t i = 0; i < hits.size(); i++) {
    result.indices[i] = hits[i].index;
    result.scores[i] = hits[i].score;
  }
}

}  // namespace mome
