#include "test/error_map.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <functional>
#include <vector>

#include "core/ops/linear.h"
#include "test/comparison.h"

namespace mome::test {
namespace {

std::string number(double value) {
  char text[32];
  std::snprintf(text, sizeof text, std::isfinite(value) ? "%.6g" : "\"%g\"", value);
  return text;
}

struct Share {
  int64_t wrong = 0, all = 0;
  double value() const { return all == 0 ? 0 : static_cast<double>(wrong) / static_cast<double>(all); }
};

std::string list(const std::vector<Share>& shares) {
  std::string text = "[";
  for (const Share& share : shares) text += (text.size() > 1 ? ", " : "") + number(share.value());
  return text + "]";
}

}  // namespace

std::string error_map(const MappedOutput& where, const Tensor& actual, const Tensor& expected) {
  constexpr int64_t kTile = 64, kMostTiles = 64, kMostElements = 12;
  const int64_t count = static_cast<int64_t>(expected.size());
  const int64_t columns = where.columns > 0 && count % where.columns == 0 ? where.columns : count;
  double squares = 0;
  for (const float value : expected) squares += std::isfinite(value) ? static_cast<double>(value) * value : 0;
  const double threshold = 8 * where.bound * std::sqrt(squares / static_cast<double>(std::max<int64_t>(count, 1)));
  std::vector<Share> rows(64), narrow(8), tiles;
  const int64_t across = (columns + kTile - 1) / kTile;
  tiles.resize(static_cast<size_t>(columns == 0 ? 0 : (count / columns + kTile - 1) / kTile * across));
  Share all;
  std::string elements;
  for (int64_t i = 0; i < count; i++) {
    const double a = static_cast<size_t>(i) < actual.size() ? actual[static_cast<size_t>(i)] : NAN,
                 e = expected[static_cast<size_t>(i)];
    const int64_t row = i / columns, column = i % columns;
    const bool wrong = !(std::fabs(a - e) <= threshold || (std::isnan(a) && std::isnan(e)) || a == e);
    for (Share* share : {&all, &rows[static_cast<size_t>(row % 64)], &narrow[static_cast<size_t>(column % 8)],
                         &tiles[static_cast<size_t>(row / kTile * across + column / kTile)]}) {
      share->all++;
      share->wrong += wrong;
    }
    if (wrong && all.wrong <= kMostElements) {
      elements += std::string(elements.empty() ? "" : ", ") + "{\"row\": " + std::to_string(row) +
                  ", \"column\": " + std::to_string(column) + ", \"got\": " + number(a) +
                  ", \"expected\": " + number(e) + "}";
    }
  }
  std::string wrong_tiles;
  int64_t listed = 0;
  for (size_t i = 0; i < tiles.size() && listed < kMostTiles; i++) {
    if (tiles[i].wrong == 0) continue;
    listed++;
    wrong_tiles += std::string(wrong_tiles.empty() ? "" : ", ") +
                   "{\"row\": " + std::to_string(static_cast<int64_t>(i) / across * kTile) +
                   ", \"column\": " + std::to_string(static_cast<int64_t>(i) % across * kTile) +
                   ", \"share\": " + number(tiles[i].value()) + "}";
  }
  return "{\"map\": {\"op\": \"" + std::string(where.op) + "\", \"type\": \"" + std::string(where.type) +
         "\", \"case\": \"" + where.name + "\", \"output\": \"" + where.output +
         "\", \"rows\": " + std::to_string(columns == 0 ? 0 : count / columns) +
         ", \"columns\": " + std::to_string(columns) + ", \"share\": " + number(all.value()) +
         ", \"byRow64\": " + list(rows) + ", \"byColumn8\": " + list(narrow) + ", \"byTile\": [" + wrong_tiles +
         "], \"first\": [" + elements + "]}}";
}

int probe_products(const std::shared_ptr<Device>& device) {
  constexpr int64_t kRows = 200, kDepth = 128, kColumns = 392;  // whole tiles and others in both directions
  const auto named = [](int64_t i) { return static_cast<float>(i % 255 + 1); };
  // x [rows, depth], weight [columns, depth] and what each result must be.
  struct Probe {
    const char* name;
    std::function<float(int64_t row, int64_t k)> x;
    std::function<float(int64_t column, int64_t k)> weight;
    std::function<float(int64_t row, int64_t column)> y;
  };
  const auto identity = [](int64_t i, int64_t k) { return i % kDepth == k ? 1.0f : 0.0f; };
  const Probe probes[] = {
      {"probe: which place along the depth a row takes", identity, [&](int64_t, int64_t k) { return named(k); },
       [&](int64_t row, int64_t) { return named(row % kDepth); }},
      {"probe: which place along the depth a column takes", [&](int64_t, int64_t k) { return named(k); }, identity,
       [&](int64_t, int64_t column) { return named(column % kDepth); }},
      {"probe: which column of the weight is read", identity, [&](int64_t column, int64_t) { return named(column); },
       [&](int64_t, int64_t column) { return named(column); }},
      {"probe: which row of x is read", [&](int64_t row, int64_t) { return named(row); }, identity,
       [&](int64_t row, int64_t) { return named(row); }},
  };
  ThreadPool pool(1);
  for (const Probe& probe : probes) {
    Tensor x, weight, expected, actual(kRows * kColumns, NAN);
    for (int64_t row = 0; row < kRows; row++) {
      for (int64_t k = 0; k < kDepth; k++) x.push_back(probe.x(row, k));
      for (int64_t column = 0; column < kColumns; column++) expected.push_back(probe.y(row, column));
    }
    for (int64_t column = 0; column < kColumns; column++) {
      for (int64_t k = 0; k < kDepth; k++) weight.push_back(probe.weight(column, k));
    }
    Runner runner(Target::cuda, pool, WeightType::bf16, device);
    const Status status =
        runner.run(LinearForward{kRows, x.data(), runner.matrix(weight, kColumns, kDepth), nullptr, actual.data()});
    if (!status.ok()) {
      fail(std::string(probe.name) + ": " + status.message());
      break;  // the device may be lost: later probes would say nothing of themselves
    }
    if (actual == expected) continue;
    std::printf("%s\n", error_map({"linear", "bfloat16", probe.name, "y", kColumns, 0}, actual, expected).c_str());
    fail(std::string(probe.name) + ": not exactly what was written there");
  }
  return static_cast<int>(std::size(probes));
}

}  // namespace mome::test
