// Search over rows of 8-bit codes, in memory or in a file, with the best candidates re-scored by their float32 rows.
#pragma once

#include <cstdint>
#include <vector>

#include "core/status.h"
#include "search/hits.h"

namespace mome {

// Where the rows are. Row i is about scales[i] * codes[i, 0 .. width); its float32 values are the exact ones.
class RowsI8 {
 public:
  virtual ~RowsI8() = default;
  // Codes [rows, stride] and scales [rows] of rows [first, first + rows), valid until the next call.
  virtual Status codes(int64_t first, int64_t rows, const int8_t*& codes, const float*& scales) = 0;
  // Whether there are float32 rows.
  virtual bool is_exact() const = 0;
  // The float32 values [width] of a row, valid until the next call.
  virtual Status row(int64_t index, const float*& values) = 0;
};

// Rows in memory; `rows` is null where there are no float32 rows.
class MemoryRowsI8 : public RowsI8 {
 public:
  MemoryRowsI8(const int8_t* codes, const float* scales, int64_t stride, const float* rows, int64_t width)
      : codes_(codes), scales_(scales), stride_(stride), rows_(rows), width_(width) {}
  Status codes(int64_t first, int64_t rows, const int8_t*& codes, const float*& scales) override;
  bool is_exact() const override { return rows_ != nullptr; }
  Status row(int64_t index, const float*& values) override;

 private:
  const int8_t* codes_;
  const float* scales_;
  int64_t stride_;
  const float* rows_;
  int64_t width_;
};

// Rows of an open file, read piece by piece: nothing stays in memory, and a file that is cut meanwhile is an error,
// where a mapping would end the process. (Reading costs some 15 % more than a mapping of cached pages.) Positions are
// bytes; `rows_at` is 0 where there are no float32 rows.
class FileRowsI8 : public RowsI8 {
 public:
  // Takes over the descriptor.
  FileRowsI8(int descriptor, int64_t codes_at, int64_t scales_at, int64_t rows_at, int64_t stride, int64_t width);
  ~FileRowsI8() override;
  FileRowsI8(const FileRowsI8&) = delete;
  FileRowsI8& operator=(const FileRowsI8&) = delete;
  Status codes(int64_t first, int64_t rows, const int8_t*& codes, const float*& scales) override;
  bool is_exact() const override { return rows_at_ > 0; }
  Status row(int64_t index, const float*& values) override;

 private:
  Status read(void* target, int64_t bytes, int64_t position) const;

  const int descriptor_;
  const int64_t codes_at_, scales_at_, rows_at_, stride_, width_;
  std::vector<int8_t> codes_;
  std::vector<float> scales_, row_;
};

// Kernel sets that the products of codes are written for, and "ref", which every machine runs.
enum class ScanTarget { best, ref, avx2, avx2_vnni, avx512_vnni, neon, neon_dot };

bool scan_supported(ScanTarget target);

// Finds the min(k, count) best of `count` rows for a query [width]. The first `candidates` by their codes are scored
// once more by float32 rows, with the bits that top_k gives; without such rows scores are those of the codes. Equal
// scores are ordered by index. The result does not depend on the target.
Status top_k_i8(RowsI8& source, int64_t count, int64_t width, const float* query, int64_t k, int64_t candidates,
                const RunPiece& run, TopK& result, ScanTarget target = ScanTarget::best);

// The bytes of a row of codes.
int64_t code_stride(int64_t width);

}  // namespace mome
