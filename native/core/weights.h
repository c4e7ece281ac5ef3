// The named parameters of a model with their gradients and moments, each kept in the forms that one target's kernels
// read.
#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "core/device.h"
#include "core/kernel.h"
#include "core/matrix.h"
#include "core/memory.h"
#include "core/status.h"

namespace mome {

enum class FileType { f32, f16, bf16, i8 };

// The place of a tensor in a file.
struct FileRegion {
  std::string name;
  std::vector<int64_t> shape;
  FileType type = FileType::f32;
  uint64_t offset = 0;        // bytes from the start of the file
  uint64_t scale_offset = 0;  // i8: where the float32 scales of the rows lie
};

class SourceFile;  // an open file, read a tensor at a time

// One T for each Form.
template <typename T>
struct PerForm {
  T values[kForms] = {};

  T& operator[](Form form) { return values[static_cast<int>(form)]; }
  const T& operator[](Form form) const { return values[static_cast<int>(form)]; }
};

// An open file descriptor and its only owner; -1 for none.
class FileDescriptor {
 public:
  explicit FileDescriptor(int value = -1) : value_(value) {}
  FileDescriptor(FileDescriptor&& other) noexcept : value_(std::exchange(other.value_, -1)) {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept {
    std::swap(value_, other.value_);
    return *this;
  }
  ~FileDescriptor();
  int get() const { return value_; }

 private:
  int value_;
};

struct Parameter {
  std::string name;
  std::vector<int64_t> shape;
  int64_t count = 0;

  // Where the values come from, until somebody changes them.
  struct {
    std::shared_ptr<SourceFile> source;
    FileRegion region;
  } file;
  // In this processor's memory. The plain form is empty once released, or while its values are still in the file.
  PerForm<AlignedMemory> host;
  PerForm<DeviceMemory> device;
  // Empty unless the weights are trained.
  struct {
    AlignedMemory gradient, m, v;
  } training;
  // `values` rises when the values change; a form is up to date when its version is the same.
  struct {
    uint64_t values = 1;
    PerForm<uint64_t> host, device;
  } versions;
  // The type of the matrix, once a program reads the parameter as one.
  std::optional<WeightType> type;

  // As a matrix [first dimension, all others].
  int64_t rows() const { return shape.empty() ? 1 : shape[0]; }
  int64_t columns() const { return rows() == 0 ? 0 : count / rows(); }
};

class WeightStore {
 public:
  // Matrices are kept as `type` where their op allows it (OpSpec::matrix_type).
  explicit WeightStore(WeightType type = WeightType::f32) : type_(type) {}
  WeightType type() const { return type_; }
  // Raised whenever values or the memory they lie in change. Calls that were decoded earlier are invalid then.
  uint64_t generation() const { return generation_; }

  // Copies `count` values of `data`.
  Status add(const std::string& name, const std::vector<int64_t>& shape, const float* data, int64_t count);
  // Adds a parameter whose values are written afterwards.
  Status add(const std::string& name, const std::vector<int64_t>& shape);
  // Opens `path` and takes in the regions, each checked against the file's size. Values are read when they are first
  // needed, one tensor at a time, and a matrix is packed at once: no second copy of the weights ever exists.
  Status add_from_file(const std::string& path, const std::vector<FileRegion>& regions);
  // The same from a file that is open; `path` names it in messages.
  Status add_from_file(FileDescriptor file, const std::string& path, const std::vector<FileRegion>& regions);
  // Gives every parameter a zero gradient and zero moments. Of weights in bfloat16 products read the packed forms
  // alone: the values that the optimiser changes stay float32.
  Status enable_training();
  bool training() const { return training_; }

  // Index of a parameter, -1 when there is none.
  int find(std::string_view name) const;
  Parameter& at(int index) { return parameters_[index]; }
  const Parameter& at(int index) const { return parameters_[index]; }
  int size() const { return static_cast<int>(parameters_.size()); }

  // Makes one of the packed forms for `target` if it is missing or older than the values. Where the target has no
  // packer, the plain form is rounded to `type` instead.
  Status pack(int index, Form form, Target target, WeightType type, ThreadPool& pool);
  // Brings a parameter to a device: plain, or packed as `type`. Values that came from a file leave this processor's
  // memory again.
  Status send(int index, Form form, WeightType type, const std::shared_ptr<Device>& device, ThreadPool& pool);
  // Brings the row-major values into memory.
  Status load(int index);
  // Releases the plain form of parameters that no program reads plain (inference). `packed_only` has a flag for each
  // parameter.
  void release_plain(const std::vector<bool>& packed_only);
  // Copies the row-major values. Fails for released ones that came from no file.
  // Values [first, first + count) of a parameter. A part of one that lies in a file is read with all of it.
  Status read(int index, int64_t first, int64_t count, float* values);
  Status read(int index, float* values) { return read(index, 0, parameters_[index].count, values); }
  Status write(int index, int64_t first, int64_t count, const float* values);
  // To be called when somebody has changed the values in a parameter's plain form.
  void changed(int index);
  void zero_gradients();
  // Memory that all parameters hold, here and on a device. Any thread may ask.
  size_t bytes() const { return bytes_.load(std::memory_order_relaxed); }

 private:
  Status emplace(const std::string& name, const std::vector<int64_t>& shape, Parameter** parameter);
  // A parameter's memory is reserved and released through these two, which keep count of its bytes.
  [[nodiscard]] bool reserve(AlignedMemory& memory, size_t bytes);
  void release(AlignedMemory& memory);
  Status reserve_data(Parameter& parameter);

  WeightType type_;

  std::vector<Parameter> parameters_;
  std::unordered_map<std::string, int> index_;
  std::atomic<size_t> bytes_{0};
  bool training_ = false;
  uint64_t generation_ = 1;
};

}  // namespace mome
