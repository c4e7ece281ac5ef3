#include "core/weights.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <bit>
#include <cstring>

namespace mome {
namespace {

// Largest parameter taken in: 2^33 values.
constexpr int64_t kMaxCount = int64_t{1} << 33;

float from_f16(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000) << 16;
  const uint32_t exponent = (half >> 10) & 31;
  const uint32_t fraction = half & 1023;
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7f800000 | (fraction << 13));
  if (exponent != 0) return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (fraction << 13));
  const float value = static_cast<float>(fraction) * 0x1p-24f;
  return sign ? -value : value;
}

size_t type_bytes(FileType type) { return type == FileType::f32 ? 4 : 2; }

void convert(const std::byte* from, FileType type, int64_t count, float* to) {
  if (type == FileType::f32) {
    std::memcpy(to, from, static_cast<size_t>(count) * 4);
    return;
  }
  for (int64_t i = 0; i < count; i++) {
    uint16_t half;
    std::memcpy(&half, from + 2 * i, 2);
    to[i] = type == FileType::bf16 ? std::bit_cast<float>(static_cast<uint32_t>(half) << 16) : from_f16(half);
  }
}

// A file mapped read-only for as long as this lives.
class MappedFile {
 public:
  ~MappedFile() {
    if (data_ != MAP_FAILED) munmap(data_, bytes_);
    if (file_ >= 0) close(file_);
  }
  Status open(const std::string& path) {
    file_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    struct stat info;
    if (file_ < 0 || fstat(file_, &info) != 0) return error(Code::io, "%s: expected a readable file: %s", path.c_str(), std::strerror(errno));
    bytes_ = static_cast<size_t>(info.st_size);
    if (bytes_ == 0) return {};
    data_ = mmap(nullptr, bytes_, PROT_READ, MAP_PRIVATE, file_, 0);
    if (data_ == MAP_FAILED) return error(Code::io, "%s: could not be mapped: %s", path.c_str(), std::strerror(errno));
    return {};
  }
  const std::byte* data() const { return static_cast<const std::byte*>(data_); }
  size_t bytes() const { return bytes_; }

 private:
  int file_ = -1;
  void* data_ = MAP_FAILED;
  size_t bytes_ = 0;
};

}  // namespace

Status WeightStore::emplace(const std::string& name, const std::vector<int64_t>& shape, Parameter** parameter) {
  if (index_.count(name) != 0) return error(Code::invalid_argument, "weights: expected each parameter once, got %s twice", name.c_str());
  int64_t count = 1;
  for (const int64_t size : shape) {
    if (size < 0 || (size != 0 && count > kMaxCount / size)) return error(Code::too_large, "weights: %s is too large", name.c_str());
    count *= size;
  }
  Parameter fresh;
  fresh.name = name;
  fresh.shape = shape;
  fresh.count = count;
  if (!fresh.data.reserve(static_cast<size_t>(count) * sizeof(float))) {
    return error(Code::out_of_memory, "weights: no memory for %s, %lld values", name.c_str(), static_cast<long long>(count));
  }
  index_[name] = size();
  parameters_.push_back(std::move(fresh));
  *parameter = &parameters_.back();
  return {};
}

Status WeightStore::add(const std::string& name, const std::vector<int64_t>& shape, const float* data, int64_t count) {
  int64_t expected = 1;
  for (const int64_t size : shape) expected *= size;
  if (expected != count) {
    return error(Code::invalid_shape, "weights: expected %lld values for %s, got %lld", static_cast<long long>(expected), name.c_str(),
                 static_cast<long long>(count));
  }
  Parameter* parameter = nullptr;
  MOME_RETURN_IF_ERROR(emplace(name, shape, &parameter));
  if (count > 0) std::memcpy(parameter->data.data(), data, static_cast<size_t>(count) * sizeof(float));
  return {};
}

Status WeightStore::add_from_file(const std::string& path, const std::vector<FileRegion>& regions) {
  MappedFile file;
  MOME_RETURN_IF_ERROR(file.open(path));
  for (const FileRegion& region : regions) {
    int64_t count = 1;
    for (const int64_t size : region.shape) {
      if (size < 0 || (size != 0 && count > kMaxCount / size)) return error(Code::too_large, "%s: %s is too large", path.c_str(), region.name.c_str());
      count *= size;
    }
    const uint64_t bytes = static_cast<uint64_t>(count) * type_bytes(region.type);
    if (region.offset > file.bytes() || bytes > file.bytes() - region.offset) {
      return error(Code::invalid_file, "%s: expected %llu bytes of %s at %llu, the file has %zu", path.c_str(),
                   static_cast<unsigned long long>(bytes), region.name.c_str(), static_cast<unsigned long long>(region.offset), file.bytes());
    }
    Parameter* parameter = nullptr;
    MOME_RETURN_IF_ERROR(emplace(region.name, region.shape, &parameter));
    if (count > 0) convert(file.data() + region.offset, region.type, count, parameter->data.floats());
  }
  return {};
}

Status WeightStore::enable_training() {
  for (Parameter& parameter : parameters_) {
    const size_t bytes = static_cast<size_t>(parameter.count) * sizeof(float);
    for (AlignedMemory* memory : {&parameter.gradient, &parameter.m, &parameter.v}) {
      if (!memory->reserve(bytes)) return error(Code::out_of_memory, "weights: no memory to train %s", parameter.name.c_str());
      std::memset(memory->data(), 0, bytes);
    }
  }
  training_ = true;
  return {};
}

int WeightStore::find(std::string_view name) const {
  const auto found = index_.find(std::string(name));
  return found == index_.end() ? -1 : found->second;
}

Status WeightStore::pack(int index, Packing packing, Target target, ThreadPool& pool) {
  const Packer* packer = kernel_table().packer(target);
  if (packer == nullptr) return {};
  Parameter& parameter = parameters_[index];
  const int form = static_cast<int>(packing);
  if (parameter.packed_version[form] == parameter.version) return {};
  if (parameter.data.data() == nullptr && parameter.count > 0) {
    return error(Code::internal, "weights: %s was released before it was packed", parameter.name.c_str());
  }
  const size_t bytes = static_cast<size_t>(packer->size(parameter.rows(), parameter.columns(), packing)) * sizeof(float);
  if (parameter.packed[form].bytes() < bytes && !parameter.packed[form].reserve(bytes)) {
    return error(Code::out_of_memory, "weights: no memory to pack %s", parameter.name.c_str());
  }
  packer->pack(parameter.data.floats(), parameter.rows(), parameter.columns(), packing, parameter.packed[form].floats(), pool);
  parameter.packed_version[form] = parameter.version;
  return {};
}

void WeightStore::release_plain(const std::vector<bool>& packed_only) {
  for (int i = 0; i < size(); i++) {
    if (packed_only[i]) parameters_[i].data.release();
  }
}

Status WeightStore::read(int index, float* values) const {
  const Parameter& parameter = parameters_[index];
  if (parameter.count == 0) return {};
  if (parameter.data.data() == nullptr) return error(Code::unsupported, "weights: %s is kept packed only", parameter.name.c_str());
  std::memcpy(values, parameter.data.data(), static_cast<size_t>(parameter.count) * sizeof(float));
  return {};
}

Status WeightStore::write(int index, const float* values) {
  Parameter& parameter = parameters_[index];
  if (parameter.count == 0) return {};
  if (parameter.data.data() == nullptr) return error(Code::unsupported, "weights: %s is kept packed only", parameter.name.c_str());
  std::memcpy(parameter.data.data(), values, static_cast<size_t>(parameter.count) * sizeof(float));
  parameter.version++;
  return {};
}

void WeightStore::zero_gradients() {
  for (Parameter& parameter : parameters_) {
    if (parameter.gradient.data() != nullptr) std::memset(parameter.gradient.data(), 0, static_cast<size_t>(parameter.count) * sizeof(float));
  }
}

size_t WeightStore::bytes() const {
  size_t total = 0;
  for (const Parameter& p : parameters_) {
    total += p.data.bytes() + p.gradient.bytes() + p.m.bytes() + p.v.bytes() + p.packed[0].bytes() + p.packed[1].bytes();
  }
  return total;
}

}  // namespace mome
