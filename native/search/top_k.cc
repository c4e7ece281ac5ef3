#include "search/top_k.h"

#include <algorithm>

namespace mome {
namespace {

constexpr int64_t kValuesAtOnce = 1 << 21;  // 8 MiB of rows: about a millisecond

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
  if (!keep_best(hits, static_cast<size_t>(std::min(k, count)), run)) return aborted;
  take_hits(hits, result);
  return {};
}

}  // namespace mome
