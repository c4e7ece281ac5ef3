#include "search/top_k_i8.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>

#include "core/kernel.h"
#include "search/vector/dots_i8.h"

namespace mome {
namespace {

constexpr int64_t kBytesAtOnce = 1 << 18;  // codes of one block: they stay in the second-level cache
constexpr int64_t kBlocksAtOnce = 8;       // blocks of one piece: 2 MiB, less than a millisecond from memory
constexpr int64_t kRowsAtOnce = 64;        // float32 rows read in one piece
constexpr size_t kLeastKept = 1024;        // hits gathered beyond those wanted before they are sorted out

void dots_ref(const int8_t* codes, int64_t rows, int64_t stride, const int8_t* query, int32_t* sums) {
  for (int64_t row = 0; row < rows; row++) {
    int32_t sum = 0;
    for (int64_t i = 0; i < stride; i++) sum += int32_t{codes[row * stride + i]} * query[i];
    sums[row] = sum;
  }
}

Target kernels_of(ScanTarget target) {
  switch (target) {
    case ScanTarget::avx2: return Target::avx2;
    case ScanTarget::avx2_vnni: return Target::avx2_vnni;
    case ScanTarget::avx512_vnni: return Target::avx512_vnni;
    case ScanTarget::neon: return Target::neon;
    case ScanTarget::neon_dot: return Target::neon_dot;
    default: return Target::ref;
  }
}

DotsI8* dots_of(ScanTarget target) {
  switch (target) {
#if defined(MOME_SCAN_avx2)
    case ScanTarget::avx2: return avx2::dots_i8;
#endif
#if defined(MOME_SCAN_avx2_vnni)
    case ScanTarget::avx2_vnni: return avx2_vnni::dots_i8;
#endif
#if defined(MOME_SCAN_avx512_vnni)
    case ScanTarget::avx512_vnni: return avx512_vnni::dots_i8;
#endif
#if defined(MOME_SCAN_neon)
    case ScanTarget::neon: return neon::dots_i8;
#endif
#if defined(MOME_SCAN_neon_dot)
    case ScanTarget::neon_dot: return neon_dot::dots_i8;
#endif
    default: return dots_ref;
  }
}

ScanTarget best_scan() {
  static const ScanTarget best = [] {
    for (const ScanTarget target :
         {ScanTarget::avx512_vnni, ScanTarget::avx2_vnni, ScanTarget::avx2, ScanTarget::neon_dot, ScanTarget::neon})
      if (scan_supported(target)) return target;
    return ScanTarget::ref;
  }();
  return best;
}

// A query as codes, as rows are: the same largest code for its largest value.
struct CodedQuery {
  std::vector<int8_t> codes;
  float scale = 0;
};

CodedQuery code_query(const float* query, int64_t width) {
  CodedQuery coded{std::vector<int8_t>(static_cast<size_t>(code_stride(width))), 0};
  float largest = 0;
  for (int64_t i = 0; i < width; i++) largest = std::max(largest, std::fabs(query[i]));
  if (largest == 0) return coded;
  coded.scale = largest / 127;
  for (int64_t i = 0; i < width; i++)
    coded.codes[static_cast<size_t>(i)] = static_cast<int8_t>(std::lrintf(query[i] * (127 / largest)));
  return coded;
}

// The best hits so far: gathered beyond the limit, then sorted out.
class BestHits {
 public:
  explicit BestHits(size_t most) : most_(most) { hits_.reserve(std::min<size_t>(2 * most, 1 << 20) + kLeastKept); }

  void add(float score, int32_t index) {
    // Rows come in order: one that is no better than the worst kept is behind it.
    if (is_full_ && !(score > worst_)) return;
    hits_.push_back({score, index});
    if (hits_.size() >= 2 * most_ + kLeastKept) sort_out();
  }

  std::vector<Hit>& hits() { return hits_; }

 private:
  void sort_out() {
    const auto end = hits_.begin() + static_cast<std::ptrdiff_t>(most_);
    std::nth_element(hits_.begin(), end - 1, hits_.end());
    worst_ = hits_[most_ - 1].score;
    is_full_ = true;
    hits_.resize(most_);
  }

  const size_t most_;
  std::vector<Hit> hits_;
  bool is_full_ = false;
  float worst_ = 0;
};

}  // namespace

int64_t code_stride(int64_t width) { return (width + kCodeGroup - 1) / kCodeGroup * kCodeGroup; }

bool scan_supported(ScanTarget target) {
  switch (target) {
    case ScanTarget::best:
    case ScanTarget::ref: return true;
    default: return dots_of(target) != dots_ref && target_supported(kernels_of(target));
  }
}

Status MemoryRowsI8::codes(int64_t first, int64_t, const int8_t*& codes, const float*& scales) {
  codes = codes_ + first * stride_;
  scales = scales_ + first;
  return {};
}

Status MemoryRowsI8::row(int64_t index, const float*& values) {
  values = rows_ + index * width_;
  return {};
}

FileRowsI8::FileRowsI8(int descriptor, int64_t codes_at, int64_t scales_at, int64_t rows_at, int64_t stride,
                       int64_t width)
    : descriptor_(descriptor),
      codes_at_(codes_at),
      scales_at_(scales_at),
      rows_at_(rows_at),
      stride_(stride),
      width_(width) {
  posix_fadvise(descriptor_, static_cast<off_t>(codes_at_), 0, POSIX_FADV_SEQUENTIAL);
}

FileRowsI8::~FileRowsI8() { close(descriptor_); }

Status FileRowsI8::read(void* target, int64_t bytes, int64_t position) const {
  for (int64_t done = 0; done < bytes;) {
    const ssize_t got = pread(descriptor_, static_cast<char*>(target) + done, static_cast<size_t>(bytes - done),
                              static_cast<off_t>(position + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return error(Code::io, "search: expected to read the index, got %s", std::strerror(errno));
    if (got == 0)
      return error(Code::invalid_file,
                   "search: expected %lld bytes at %lld of the index, got %lld: the file is cut off",
                   static_cast<long long>(bytes), static_cast<long long>(position), static_cast<long long>(done));
    done += got;
  }
  return {};
}

Status FileRowsI8::codes(int64_t first, int64_t rows, const int8_t*& codes, const float*& scales) {
  if (codes_.size() < static_cast<size_t>(rows * stride_)) codes_.resize(static_cast<size_t>(rows * stride_));
  if (scales_.size() < static_cast<size_t>(rows)) scales_.resize(static_cast<size_t>(rows));
  MOME_RETURN_IF_ERROR(read(codes_.data(), rows * stride_, codes_at_ + first * stride_));
  MOME_RETURN_IF_ERROR(read(scales_.data(), rows * 4, scales_at_ + first * 4));
  codes = codes_.data();
  scales = scales_.data();
  return {};
}

Status FileRowsI8::row(int64_t index, const float*& values) {
  row_.resize(static_cast<size_t>(width_));
  MOME_RETURN_IF_ERROR(read(row_.data(), width_ * 4, rows_at_ + index * width_ * 4));
  values = row_.data();
  return {};
}

Status top_k_i8(RowsI8& source, int64_t count, int64_t width, const float* query, int64_t k, int64_t candidates,
                const RunPiece& run, TopK& result, ScanTarget target) {
  const Status aborted = error(Code::aborted, "topK: aborted");
  const int64_t stride = code_stride(width);
  const CodedQuery coded = code_query(query, width);
  DotsI8* const dots = dots_of(target == ScanTarget::best ? best_scan() : target);
  const int64_t wanted = std::min(count, source.is_exact() ? std::max(k, candidates) : k);
  if (wanted < 1) {
    take_hits({}, result);
    return {};
  }
  BestHits best(static_cast<size_t>(wanted));
  const int64_t rows_at_once = std::max<int64_t>(1, kBytesAtOnce / stride);
  std::vector<int32_t> sums(static_cast<size_t>(rows_at_once));
  Status status;
  const auto scan = [&](int64_t first) -> Status {
    const int64_t rows = std::min(count - first, rows_at_once);
    const int8_t* codes = nullptr;
    const float* scales = nullptr;
    MOME_RETURN_IF_ERROR(source.codes(first, rows, codes, scales));
    dots(codes, rows, stride, coded.codes.data(), sums.data());
    for (int64_t row = 0; row < rows; row++) {
      const float score = static_cast<float>(sums[static_cast<size_t>(row)]) * (coded.scale * scales[row]);
      if (!std::isfinite(score))
        return error(Code::non_finite, "search: expected finite rows in the index, got another value in row %lld",
                     static_cast<long long>(first + row));
      best.add(score, static_cast<int32_t>(first + row));
    }
    return {};
  };
  const int64_t piece_rows = rows_at_once * kBlocksAtOnce;
  for (int64_t piece = 0; piece < count; piece += piece_rows) {
    const auto blocks = [&] {
      for (int64_t first = piece; status.ok() && first < std::min(count, piece + piece_rows); first += rows_at_once)
        status = scan(first);
    };
    if (!run(blocks)) return aborted;
    if (!status.ok()) return status;
  }
  std::vector<Hit>& hits = best.hits();
  if (!keep_best(hits, static_cast<size_t>(wanted), run)) return aborted;
  if (source.is_exact()) {
    // In the order of the file.
    std::sort(hits.begin(), hits.end(), [](const Hit& a, const Hit& b) { return a.index < b.index; });
    for (size_t first = 0; first < hits.size(); first += kRowsAtOnce) {
      const auto rescore = [&] {
        for (size_t i = first; status.ok() && i < std::min(hits.size(), first + kRowsAtOnce); i++) {
          const float* values = nullptr;
          status = source.row(hits[i].index, values);
          if (!status.ok()) return;
          hits[i].score = dot(values, query, width);
          if (!std::isfinite(hits[i].score))
            status = error(Code::non_finite, "search: expected finite rows in the index, got another value in row %lld",
                           static_cast<long long>(hits[i].index));
        }
      };
      if (!run(rescore)) return aborted;
      if (!status.ok()) return status;
    }
    if (!keep_best(hits, static_cast<size_t>(std::min(k, wanted)), run)) return aborted;
  }
  take_hits(hits, result);
  return {};
}

}  // namespace mome
