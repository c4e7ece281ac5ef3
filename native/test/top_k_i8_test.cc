// Checks of the search over 8-bit rows: every kernel set against the plain sums, results against a plain sort, rows of
// a file against rows in memory. Exit status 0 only if every check held, the planted errors included.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <limits>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "search/top_k.h"
#include "search/top_k_i8.h"

namespace {

using mome::ScanTarget;

int failures = 0;
std::mt19937 generator(7);

void expect(bool holds, const std::string& what) {
  if (holds) return;
  std::fprintf(stderr, "FAILED: %s\n", what.c_str());
  failures++;
}

bool always(const std::function<void()>& piece) {
  piece();
  return true;
}

float normal() { return std::normal_distribution<float>()(generator); }

// Rows of length 1 as they are and as codes.
struct Rows {
  int64_t count, width, stride;
  std::vector<float> values, scales;
  std::vector<int8_t> codes;

  Rows(int64_t count, int64_t width)
      : count(count),
        width(width),
        stride(mome::code_stride(width)),
        values(static_cast<size_t>(count * width)),
        scales(static_cast<size_t>(count)),
        codes(static_cast<size_t>(count * stride)) {
    for (int64_t row = 0; row < count; row++) {
      float* own = &values[static_cast<size_t>(row * width)];
      float squares = 0, largest = 0;
      for (int64_t i = 0; i < width; i++) own[i] = normal();
      for (int64_t i = 0; i < width; i++) squares += own[i] * own[i];
      for (int64_t i = 0; i < width; i++) own[i] /= std::sqrt(squares);
      for (int64_t i = 0; i < width; i++) largest = std::max(largest, std::fabs(own[i]));
      scales[static_cast<size_t>(row)] = largest / 127;
      for (int64_t i = 0; i < width; i++)
        codes[static_cast<size_t>(row * stride + i)] = static_cast<int8_t>(std::lrintf(own[i] * 127 / largest));
    }
  }

  mome::MemoryRowsI8 in_memory(bool exact) const {
    return {codes.data(), scales.data(), stride, exact ? values.data() : nullptr, width};
  }
};

const std::vector<std::pair<ScanTarget, const char*>> kTargets = {{ScanTarget::best, "best"},
                                                                  {ScanTarget::ref, "ref"},
                                                                  {ScanTarget::avx2, "avx2"},
                                                                  {ScanTarget::avx2_vnni, "avx2_vnni"},
                                                                  {ScanTarget::avx512_vnni, "avx512_vnni"},
                                                                  {ScanTarget::neon, "neon"},
                                                                  {ScanTarget::neon_dot, "neon_dot"}};

// The scores of codes, by their definition.
mome::TopK plain(const Rows& rows, const std::vector<float>& query, int64_t k) {
  float largest = 0;
  for (const float value : query) largest = std::max(largest, std::fabs(value));
  std::vector<mome::Hit> hits;
  for (int64_t row = 0; row < rows.count; row++) {
    int32_t sum = 0;
    for (int64_t i = 0; i < rows.width; i++)
      sum += rows.codes[static_cast<size_t>(row * rows.stride + i)] *
             static_cast<int32_t>(std::lrintf(query[static_cast<size_t>(i)] * (127 / largest)));
    hits.push_back(
        {static_cast<float>(sum) * (largest / 127 * rows.scales[static_cast<size_t>(row)]), static_cast<int32_t>(row)});
  }
  std::sort(hits.begin(), hits.end());
  hits.resize(static_cast<size_t>(std::min(k, rows.count)));
  mome::TopK result;
  mome::take_hits(hits, result);
  return result;
}

bool same(const mome::TopK& a, const mome::TopK& b) { return a.indices == b.indices && a.scores == b.scores; }

void check_targets() {
  for (const int64_t width : {1, 5, 48, 63, 64, 65, 192, 768}) {
    for (const int64_t count : {1, 2, 3, 4, 5, 7, 8, 9, 64, 3001}) {
      const Rows rows(count, width);
      std::vector<float> query(static_cast<size_t>(width));
      for (float& value : query) value = normal();
      for (const int64_t k : {int64_t{1}, int64_t{10}, count}) {
        mome::TopK wanted = plain(rows, query, k);
        for (const auto& [target, name] : kTargets) {
          if (!mome::scan_supported(target)) continue;
          mome::MemoryRowsI8 source = rows.in_memory(false);
          mome::TopK result;
          const bool ok = mome::top_k_i8(source, count, width, query.data(), k, 0, always, result, target).ok();
          expect(ok && same(result, wanted), std::string(name) + ", width " + std::to_string(width) + ", count " +
                                                 std::to_string(count) + ", k " + std::to_string(k));
        }
        wanted.indices[0]++;
        mome::MemoryRowsI8 source = rows.in_memory(false);
        mome::TopK result;
        expect(mome::top_k_i8(source, count, width, query.data(), k, 0, always, result).ok() && !same(result, wanted),
               "a planted error is noticed");
      }
    }
  }
}

// Sums of the largest codes, and of equal rows, whose places decide.
void check_extremes() {
  constexpr int64_t kCount = 5000, kWidth = 4096;
  Rows rows(1, kWidth);
  rows.count = kCount;
  rows.codes.assign(static_cast<size_t>(kCount * rows.stride), 127);
  rows.scales.assign(static_cast<size_t>(kCount), 1);
  const std::vector<float> up(static_cast<size_t>(kWidth), 127), down(static_cast<size_t>(kWidth), -127);
  for (const auto& [target, name] : kTargets) {
    if (!mome::scan_supported(target)) continue;
    for (const auto& query : {up, down}) {
      mome::MemoryRowsI8 source = rows.in_memory(false);
      mome::TopK result;
      const bool ok = mome::top_k_i8(source, kCount, kWidth, query.data(), 7, 0, always, result, target).ok();
      const float wanted = (query[0] > 0 ? 1.f : -1.f) * 127 * 127 * kWidth;
      expect(ok && result.indices == std::vector<int32_t>{0, 1, 2, 3, 4, 5, 6} &&
                 result.scores == std::vector<float>(7, wanted),
             std::string("extremes, ") + name);
    }
  }
}

// Re-scored results have the bits of the exact search, and miss none of them here.
void check_rescoring() {
  const Rows rows(20000, 192);
  for (int round = 0; round < 5; round++) {
    std::vector<float> query(192);
    for (float& value : query) value = normal();
    mome::TopK exact, result;
    mome::MemoryRowsI8 source = rows.in_memory(true);
    const bool ok = mome::top_k(rows.values.data(), rows.count, rows.width, query.data(), 10, always, exact).ok() &&
                    mome::top_k_i8(source, rows.count, rows.width, query.data(), 10, 64, always, result).ok();
    expect(ok && same(exact, result), "re-scored as the exact search");
    mome::MemoryRowsI8 coded = rows.in_memory(false);
    expect(mome::top_k_i8(coded, rows.count, rows.width, query.data(), 10, 64, always, result).ok() &&
               !same(exact, result),
           "scores of codes are others");
  }
}

std::string write_rows(const Rows& rows) {
  std::string path = (std::filesystem::temp_directory_path() / "mome-top-k-XXXXXX").string();
  const int descriptor = mkstemp(path.data());
  const auto put = [&](const void* data, size_t bytes) { return write(descriptor, data, bytes) == ssize_t(bytes); };
  const bool ok = put("sixteen bytes...", 16) && put(rows.codes.data(), rows.codes.size()) &&
                  put(rows.scales.data(), rows.scales.size() * 4) && put(rows.values.data(), rows.values.size() * 4);
  close(descriptor);
  expect(ok, "writing a file");
  return path;
}

void check_file() {
  const Rows rows(30000, 100);
  const std::string path = write_rows(rows);
  const int64_t scales_at = static_cast<int64_t>(rows.codes.size()), rows_at = scales_at + 4 * rows.count;
  const auto search = [&](mome::TopK& result) {
    mome::FileRowsI8 source(open(path.c_str(), O_RDONLY), 16, 16 + scales_at, 16 + rows_at, rows.stride, rows.width);
    return mome::top_k_i8(source, rows.count, rows.width, rows.values.data(), 10, 64, always, result);
  };
  mome::MemoryRowsI8 source = rows.in_memory(true);
  mome::TopK wanted, result;
  expect(mome::top_k_i8(source, rows.count, rows.width, rows.values.data(), 10, 64, always, wanted).ok() &&
             wanted.indices[0] == 0,
         "rows in memory");
  expect(search(result).ok() && same(result, wanted), "rows of a file");
  // Cut inside the float32 rows (the best one is row 0: cut all), inside the scales, inside the codes.
  for (const int64_t length : {rows_at + 10, scales_at + 5, int64_t{1000}, int64_t{0}}) {
    expect(truncate(path.c_str(), length) == 0, "cutting a file");
    const mome::Status status = search(result);
    expect(status.code() == mome::Code::invalid_file && status.message().find("cut off") != std::string::npos,
           "a file cut to " + std::to_string(length) + " bytes");
  }
  unlink(path.c_str());
  Rows wrong(3000, 64);
  wrong.scales[2001] = std::numeric_limits<float>::quiet_NaN();
  mome::MemoryRowsI8 damaged = wrong.in_memory(true);
  const mome::Status status = mome::top_k_i8(damaged, 3000, 64, rows.values.data(), 10, 64, always, result);
  expect(status.code() == mome::Code::non_finite && status.message().find("row 2001") != std::string::npos,
         "a scale that is no number");
}

void check_abort() {
  const Rows rows(60000, 64);
  int pieces = 0;
  mome::TopK result;
  mome::MemoryRowsI8 source = rows.in_memory(true);
  const auto counted = [&](const std::function<void()>& piece) {
    pieces++;
    piece();
    return true;
  };
  expect(mome::top_k_i8(source, rows.count, 64, rows.values.data(), 100, 400, counted, result).ok() && pieces > 8,
         "a search is cut into pieces");
  for (int last = 0; last < pieces; last++) {
    int done = 0;
    const auto until = [&](const std::function<void()>& piece) {
      if (done++ == last) return false;
      piece();
      return true;
    };
    const mome::Status status = mome::top_k_i8(source, rows.count, 64, rows.values.data(), 100, 400, until, result);
    expect(status.code() == mome::Code::aborted && done == last + 1, "the search ends when it is told to");
  }
  expect(mome::top_k_i8(source, 0, 64, rows.values.data(), 10, 64, always, result).ok() && result.indices.empty(),
         "no rows");
  const std::vector<float> zero(64);
  expect(mome::top_k_i8(source, 100, 64, zero.data(), 3, 0, always, result).ok() &&
             result.indices == std::vector<int32_t>{0, 1, 2},
         "a query of zeros");
}

}  // namespace

int main() {
  check_targets();
  check_extremes();
  check_rescoring();
  check_file();
  check_abort();
  if (failures == 0) std::puts("top_k_i8: every check held");
  return failures == 0 ? 0 : 1;
}
