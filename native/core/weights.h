// The named parameters of a model, their gradients and moments, and their packed forms for one target's kernels.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/device.h"
#include "core/kernel.h"
#include "core/matrix.h"
#include "core/memory.h"
#include "core/status.h"

namespace mome {

enum class FileType { f32, f16, bf16, i8 };

// A tensor's place in a file.
struct FileRegion {
  std::string name;
  std::vector<int64_t> shape;
  FileType type = FileType::f32;
  uint64_t offset = 0;        // bytes from the start of the file
  uint64_t scale_offset = 0;  // i8: where the float32 scales of the rows lie
};

// Forms a parameter has on a device: float32 as it is, or packed by the target's Packer.
inline constexpr int kPlainForm = 0, kPackedForm = 1;

class SourceFile;  // an open file, read a tensor at a time

struct Parameter {
  std::string name;
  std::vector<int64_t> shape;
  int64_t count = 0;
  AlignedMemory data;      // row-major; empty once released, or while its values are still in `file`
  std::shared_ptr<SourceFile> file;  // where the values come from, until they are changed
  FileRegion region;
  AlignedMemory gradient;  // present when training
  AlignedMemory m, v;
  uint64_t version = 1;    // raised when data changes
  WeightType type = WeightType::f32;       // what it is kept as, once a program reads it as a matrix
  bool typed = false;
  AlignedMemory packed[2];                 // by Packing
  uint64_t packed_version[2] = {0, 0};
  DeviceMemory on_device[2];               // kPlainForm, kPackedForm; sent up at `sent_version`
  uint64_t sent_version[2] = {0, 0};

  // As a matrix [first dimension, all others].
  int64_t rows() const { return shape.empty() ? 1 : shape[0]; }
  int64_t columns() const { return rows() == 0 ? 0 : count / rows(); }
};

// Moments an optimiser keeps.
enum class Moment { first, second };

class WeightStore {
 public:
  // `type` is what matrices are kept as where the op allows it (core/decode.h).
  explicit WeightStore(WeightType type = WeightType::f32) : type_(type) {}
  WeightType type() const { return type_; }
  // Raised whenever values or the memory they lie in change: what was decoded before is void.
  uint64_t generation() const { return generation_; }

  // Copies `count` values of `data`.
  Status add(const std::string& name, const std::vector<int64_t>& shape, const float* data, int64_t count);
  // Opens `path` and takes in the regions, each checked against the file's size. Values are read when they are first needed, one
  // tensor at a time, and a matrix goes straight into its packed form: no second copy of the weights ever exists.
  Status add_from_file(const std::string& path, const std::vector<FileRegion>& regions);
  // Gives every parameter a zero gradient and zero moments.
  Status enable_training();
  bool training() const { return training_; }

  // Index of a parameter, -1 when there is none.
  int find(std::string_view name) const;
  Parameter& at(int index) { return parameters_[index]; }
  const Parameter& at(int index) const { return parameters_[index]; }
  int size() const { return static_cast<int>(parameters_.size()); }

  // Makes the packed form for `target` if it is missing or older than the data. Where the target reads weights unpacked, the data
  // itself is rounded to `type`.
  Status pack(int index, Packing packing, Target target, WeightType type, ThreadPool& pool);
  // Brings a parameter to a device, packed as `type` or (type null) as float32. Values that came from a file leave this processor's
  // memory again.
  Status send(int index, const WeightType* type, const std::shared_ptr<Device>& device, ThreadPool& pool);
  // Brings the row-major values into memory.
  Status load(int index);
  // Drops the row-major data of matrices that are only ever read packed (inference).
  void release_plain(const std::vector<bool>& packed_only);
  // Row-major values; fails for released ones that came from no file.
  Status read(int index, float* values) const;
  Status write(int index, const float* values);
  // Says that somebody changed the values in `data` of a parameter.
  void changed(int index);
  void zero_gradients();
  size_t bytes() const;

 private:
  Status emplace(const std::string& name, const std::vector<int64_t>& shape, Parameter** parameter);
  Status reserve_data(Parameter& parameter);

  WeightType type_;

  std::vector<Parameter> parameters_;
  std::unordered_map<std::string, int> index_;
  bool training_ = false;
  uint64_t generation_ = 1;
};

}  // namespace mome
