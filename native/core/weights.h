// The named parameters of a model, their gradients and moments, and their packed forms for one target's kernels.
#pragma once

#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/kernel.h"
#include "core/matrix.h"
#include "core/memory.h"
#include "core/status.h"

namespace mome {

enum class FileType { f32, f16, bf16 };

// A tensor's place in a file.
struct FileRegion {
  std::string name;
  std::vector<int64_t> shape;
  FileType type = FileType::f32;
  uint64_t offset = 0;  // bytes from the start of the file
};

struct Parameter {
  std::string name;
  std::vector<int64_t> shape;
  int64_t count = 0;
  AlignedMemory data;      // row-major; empty once released
  AlignedMemory gradient;  // present when training
  AlignedMemory m, v;
  uint64_t version = 1;    // raised when data changes
  AlignedMemory packed[2]; // by Packing
  uint64_t packed_version[2] = {0, 0};

  // As a matrix [first dimension, all others].
  int64_t rows() const { return shape.empty() ? 1 : shape[0]; }
  int64_t columns() const { return rows() == 0 ? 0 : count / rows(); }
};

// Moments an optimiser keeps.
enum class Moment { first, second };

class WeightStore {
 public:
  // Copies `count` values of `data`.
  Status add(const std::string& name, const std::vector<int64_t>& shape, const float* data, int64_t count);
  // Maps `path` read-only and takes in the regions, converting to float32. Checks every region against the file's size.
  Status add_from_file(const std::string& path, const std::vector<FileRegion>& regions);
  // Gives every parameter a zero gradient and zero moments.
  Status enable_training();
  bool training() const { return training_; }

  // Index of a parameter, -1 when there is none.
  int find(std::string_view name) const;
  Parameter& at(int index) { return parameters_[index]; }
  const Parameter& at(int index) const { return parameters_[index]; }
  int size() const { return static_cast<int>(parameters_.size()); }

  // Makes the packed form for `target` if it is missing or older than the data. Nothing to do for targets without a packer.
  Status pack(int index, Packing packing, Target target, ThreadPool& pool);
  // Drops the row-major data of matrices that are only ever read packed (inference).
  void release_plain(const std::vector<bool>& packed_only);
  // Row-major values; fails for released ones.
  Status read(int index, float* values) const;
  Status write(int index, const float* values);
  void zero_gradients();
  size_t bytes() const;

 private:
  Status emplace(const std::string& name, const std::vector<int64_t>& shape, Parameter** parameter);

  std::vector<Parameter> parameters_;
  std::unordered_map<std::string, int> index_;
  bool training_ = false;
};

}  // namespace mome
