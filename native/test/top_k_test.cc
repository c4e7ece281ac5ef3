// Checks of top_k against a plain sort of all scores. Exit status 0 only if every check held, the planted errors
// included.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

#include "search/top_k.h"

namespace {

int failures = 0;

void expect(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "FAILED: %s\n", what);
  failures++;
}

bool always(const std::function<void()>& piece) {
  piece();
  return true;
}

// Whether `result` names the best rows: with width 1 and the query 1 a row's score is its value.
bool is_best(const std::vector<float>& values, int64_t k, const mome::TopK& result) {
  std::vector<int32_t> order(values.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    if (std::isnan(values[a]) || std::isnan(values[b])) return !std::isnan(values[a]) && std::isnan(values[b]);
    return values[a] > values[b];
  });
  order.resize(std::min<size_t>(order.size(), static_cast<size_t>(k)));
  if (result.indices != order || result.scores.size() != order.size()) return false;
  for (size_t i = 0; i < order.size(); i++) {
    const float wanted = values[order[i]];
    if (!(result.scores[i] == wanted || (std::isnan(result.scores[i]) && std::isnan(wanted)))) return false;
  }
  return true;
}

void compare(int64_t count, int64_t k, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) {
    value = static_cast<float>(random() % 1000) / 8;  // many are equal
    if (random() % 50 == 0) value = std::numeric_limits<float>::quiet_NaN();
  }
  const float query = 1;
  mome::TopK result;
  const bool ok = mome::top_k(values.data(), count, 1, &query, k, always, result).ok();
  char what[96];
  std::snprintf(what, sizeof what, "count %lld, k %lld", static_cast<long long>(count), static_cast<long long>(k));
  expect(ok && is_best(values, k, result), what);
  if (result.indices.size() < 2) return;
  std::swap(result.indices[0], result.indices[1]);
  expect(!is_best(values, k, result), "a planted error is noticed");
}

}  // namespace

int main() {
  uint32_t seed = 1;
  // Around blocks that are sorted apart: 65,536 hits.
  for (const int64_t count : {0, 1, 2, 9, 1000, 65535, 65536, 65537, 131072, 200001, 400000}) {
    for (const int64_t k : {int64_t{0}, int64_t{1}, int64_t{10}, count / 2, count - 1, count, count + 5}) {
      if (k >= 0) compare(count, k, seed++);
    }
  }
  // Sums of whole and cut lanes.
  for (const int64_t width : {1, 7, 8, 9, 48, 769}) {
    std::vector<float> rows(static_cast<size_t>(3 * width), 0.f), query(static_cast<size_t>(width), 1.f);
    std::fill(rows.begin() + width, rows.begin() + 2 * width, 2.f);
    rows.back() = 3.f;
    mome::TopK result;
    const bool ok = mome::top_k(rows.data(), 3, width, query.data(), 3, always, result).ok();
    const std::vector<int32_t> order = width == 1 ? std::vector<int32_t>{2, 1, 0} : std::vector<int32_t>{1, 2, 0};
    expect(ok && result.indices == order && result.scores[width == 1 ? 1 : 0] == 2.f * static_cast<float>(width),
           "width");
  }
  // A search ends at whichever piece says so: while rows are read, selected, sorted and merged.
  std::vector<float> values(300000);
  for (size_t i = 0; i < values.size(); i++) values[i] = static_cast<float>((i * 7919) % 300007);
  const float query = 1;
  int pieces = 0;
  mome::TopK result;
  const auto counted = [&](const std::function<void()>& piece) {
    pieces++;
    piece();
    return true;
  };
  expect(mome::top_k(values.data(), 300000, 1, &query, 299999, counted, result).ok(), "counted");
  expect(pieces > 10, "sorting is cut into pieces");
  for (int last = 0; last < pieces; last++) {
    int done = 0;
    const auto until = [&](const std::function<void()>& piece) {
      if (done++ == last) return false;
      piece();
      return true;
    };
    const mome::Status status = mome::top_k(values.data(), 300000, 1, &query, 299999, until, result);
    expect(status.code() == mome::Code::aborted && done == last + 1, "the search ends when it is told to");
  }
  if (failures == 0) std::puts("top_k: every check held");
  return failures == 0 ? 0 : 1;
}
