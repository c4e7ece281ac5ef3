#include "core/weights.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "core/quantise.h"

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

size_t type_bytes(FileType type) { return type == FileType::f32 ? 4 : type == FileType::i8 ? 1 : 2; }

// Bytes read at a time.
constexpr size_t kReadBytes = size_t{1} << 20;

void convert(const std::byte* from, FileType type, int64_t count, float* to) {
  if (type == FileType::f32) {
    std::memcpy(to, from, static_cast<size_t>(count) * 4);
    return;
  }
  for (int64_t i = 0; i < count; i++) {
    if (type == FileType::i8) {
      to[i] = static_cast<float>(static_cast<int8_t>(from[i]));
      continue;
    }
    uint16_t half;
    std::memcpy(&half, from + 2 * i, 2);
    to[i] = type == FileType::bf16 ? std::bit_cast<float>(static_cast<uint32_t>(half) << 16) : from_f16(half);
  }
}

}  // namespace

FileDescriptor::~FileDescriptor() {
  if (value_ >= 0) close(value_);
}

// Read, not mapped: a file that shrinks under a mapping ends the process, and one that is read gives an error. A file
// that was written to since it was opened is refused.
class SourceFile {
 public:
  Status open(FileDescriptor file, const std::string& path) {
    path_ = path;
    file_ = std::move(file);
    if (file_.get() < 0 || fstat(file_.get(), &info_) != 0)
      return error(Code::io, "%s: expected a readable file: %s", path.c_str(), std::strerror(errno));
    return {};
  }
  uint64_t bytes() const { return static_cast<uint64_t>(info_.st_size); }

  Status read(uint64_t offset, FileType type, int64_t count, float* values) const {
    struct stat now;
    if (fstat(file_.get(), &now) != 0 || now.st_size != info_.st_size || now.st_mtim.tv_sec != info_.st_mtim.tv_sec ||
        now.st_mtim.tv_nsec != info_.st_mtim.tv_nsec) {
      return error(Code::io, "%s: expected the file that was opened, it was changed since", path_.c_str());
    }
    AlignedMemory buffer;
    if (!buffer.reserve(kReadBytes)) return error(Code::out_of_memory, "%s: no memory to read it", path_.c_str());
    const int64_t step = static_cast<int64_t>(kReadBytes / type_bytes(type));
    for (int64_t first = 0; first < count; first += step) {
      const int64_t part = std::min(step, count - first);
      MOME_RETURN_IF_ERROR(read_bytes(offset + static_cast<uint64_t>(first) * type_bytes(type),
                                      static_cast<size_t>(part) * type_bytes(type), buffer.data()));
      convert(buffer.data(), type, part, values + first);
    }
    return {};
  }

 private:
  Status read_bytes(uint64_t offset, size_t bytes, std::byte* to) const {
    for (size_t done = 0; done < bytes;) {
      const ssize_t got = pread(file_.get(), to + done, bytes - done, static_cast<off_t>(offset + done));
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0)
        return error(Code::io, "%s: could not be read: %s", path_.c_str(),
                     got == 0 ? "it has become shorter" : std::strerror(errno));
      done += static_cast<size_t>(got);
    }
    return {};
  }

  std::string path_;
  FileDescriptor file_;
  struct stat info_ = {};
};

namespace {

bool has_row_scales(const Parameter& parameter) {
  return parameter.file.source != nullptr && parameter.file.region.type == FileType::i8;
}

// The scales of the rows of an 8-bit matrix in a file.
Status read_scales(const Parameter& parameter, std::vector<float>& scales) {
  const auto& [source, region] = parameter.file;
  scales.resize(static_cast<size_t>(parameter.rows()));
  MOME_RETURN_IF_ERROR(source->read(region.scale_offset, FileType::f32, parameter.rows(), scales.data()));
  for (const float scale : scales) {
    if (!(scale >= 0 && std::isfinite(scale * kQuantLimit)))
      return error(Code::invalid_file, "weights: expected scales >= 0 of the rows of %s, 127 times finite, got %g",
                   region.name.c_str(), static_cast<double>(scale));
  }
  return {};
}

Status read_region(const Parameter& parameter, float* values) {
  const auto& [source, region] = parameter.file;
  MOME_RETURN_IF_ERROR(source->read(region.offset, region.type, parameter.count, values));
  if (region.type != FileType::i8) return {};
  std::vector<float> scales;
  MOME_RETURN_IF_ERROR(read_scales(parameter, scales));
  for (int64_t i = 0; i < parameter.count; i++) {
    if (values[i] < -kQuantLimit)
      return error(Code::invalid_file, "weights: expected 8-bit values of %s in [-127, 127], got -128",
                   region.name.c_str());
    values[i] *= scales[static_cast<size_t>(i / parameter.columns())];
  }
  return {};
}

// Replaces a row-major matrix by the values it has as `type`.
void round_to(WeightType type, const Parameter& parameter, float* values) {
  if (type == WeightType::bf16) round_to_bf16(values, parameter.count, values);
  if (type == WeightType::i8 && !has_row_scales(parameter))
    round_weights(parameter.rows(), parameter.columns(), kNoSumLimit, values);
}

}  // namespace

Status WeightStore::emplace(const std::string& name, const std::vector<int64_t>& shape, Parameter** parameter) {
  if (index_.count(name) != 0)
    return error(Code::invalid_argument, "weights: expected each parameter once, got %s twice", name.c_str());
  int64_t count = 1;
  for (const int64_t size : shape) {
    if (size < 0 || (size != 0 && count > kMaxCount / size))
      return error(Code::too_large, "weights: %s is too large", name.c_str());
    count *= size;
  }
  Parameter fresh;
  fresh.name = name;
  fresh.shape = shape;
  fresh.count = count;
  generation_++;
  index_[name] = size();
  parameters_.push_back(std::move(fresh));
  *parameter = &parameters_.back();
  return {};
}

bool WeightStore::reserve(AlignedMemory& memory, size_t bytes) {
  bytes_ -= memory.bytes();
  const bool reserved = memory.reserve(bytes);
  bytes_ += memory.bytes();
  return reserved;
}

void WeightStore::release(AlignedMemory& memory) {
  bytes_ -= memory.bytes();
  memory.release();
}

Status WeightStore::reserve_data(Parameter& parameter) {
  if (reserve(parameter.host[Form::plain], static_cast<size_t>(parameter.count) * sizeof(float))) return {};
  return error(Code::out_of_memory, "weights: no memory for %s, %lld values", parameter.name.c_str(),
               static_cast<long long>(parameter.count));
}

Status WeightStore::add(const std::string& name, const std::vector<int64_t>& shape) {
  Parameter* parameter = nullptr;
  MOME_RETURN_IF_ERROR(emplace(name, shape, &parameter));
  return reserve_data(*parameter);
}

Status WeightStore::add(const std::string& name, const std::vector<int64_t>& shape, const float* data, int64_t count) {
  int64_t expected = 1;
  for (const int64_t size : shape) expected *= size;
  if (expected != count) {
    return error(Code::invalid_shape, "weights: expected %lld values for %s, got %lld",
                 static_cast<long long>(expected), name.c_str(), static_cast<long long>(count));
  }
  MOME_RETURN_IF_ERROR(add(name, shape));
  Parameter* parameter = &parameters_.back();
  if (count > 0) std::memcpy(parameter->host[Form::plain].data(), data, static_cast<size_t>(count) * sizeof(float));
  return {};
}

Status WeightStore::add_from_file(const std::string& path, const std::vector<FileRegion>& regions) {
  return add_from_file(FileDescriptor(open(path.c_str(), O_RDONLY | O_CLOEXEC)), path, regions);
}

Status WeightStore::add_from_file(FileDescriptor descriptor, const std::string& path,
                                  const std::vector<FileRegion>& regions) {
  auto file = std::make_shared<SourceFile>();
  MOME_RETURN_IF_ERROR(file->open(std::move(descriptor), path));
  const auto inside = [&](uint64_t offset, uint64_t bytes) {
    return offset <= file->bytes() && bytes <= file->bytes() - offset;
  };
  for (const FileRegion& region : regions) {
    Parameter* parameter = nullptr;
    MOME_RETURN_IF_ERROR(emplace(region.name, region.shape, &parameter));
    const uint64_t bytes = static_cast<uint64_t>(parameter->count) * type_bytes(region.type);
    const uint64_t scale_bytes =
        region.type == FileType::i8 ? static_cast<uint64_t>(parameter->rows()) * sizeof(float) : 0;
    if (!inside(region.offset, bytes) || !inside(region.scale_offset, scale_bytes)) {
      return error(Code::invalid_file, "%s: expected %llu bytes of %s at %llu, the file has %llu", path.c_str(),
                   static_cast<unsigned long long>(bytes), region.name.c_str(),
                   static_cast<unsigned long long>(region.offset), static_cast<unsigned long long>(file->bytes()));
    }
    parameter->file = {file, region};
  }
  return {};
}

Status WeightStore::load(int index) {
  Parameter& parameter = parameters_[index];
  if (parameter.count == 0 || parameter.host[Form::plain].data() != nullptr) return {};
  if (parameter.file.source == nullptr)
    return error(Code::unsupported, "weights: %s is kept packed only", parameter.name.c_str());
  generation_++;
  MOME_RETURN_IF_ERROR(reserve_data(parameter));
  const Status status = read_region(parameter, parameter.host[Form::plain].floats());
  if (!status.ok()) release(parameter.host[Form::plain]);
  return status;
}

Status WeightStore::enable_training() {
  if (type_ == WeightType::i8)
    return error(Code::unsupported, "weights: expected float32 or bfloat16 weights to train, got int8");
  generation_++;
  for (int i = 0; i < size(); i++) MOME_RETURN_IF_ERROR(load(i));
  for (Parameter& parameter : parameters_) {
    parameter.file.source = nullptr;
    const size_t bytes = static_cast<size_t>(parameter.count) * sizeof(float);
    for (AlignedMemory* memory : {&parameter.training.gradient, &parameter.training.m, &parameter.training.v}) {
      if (!reserve(*memory, bytes))
        return error(Code::out_of_memory, "weights: no memory to train %s", parameter.name.c_str());
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

Status WeightStore::pack(int index, Form form, Target target, WeightType type, ThreadPool& pool) {
  Parameter& parameter = parameters_[index];
  if (parameter.type.has_value() && parameter.type != type) {
    return error(Code::unsupported, "weights: expected %s to be read as %s alone, got %s too", parameter.name.c_str(),
                 weight_type_name(*parameter.type).data(), weight_type_name(type).data());
  }
  AlignedMemory& plain = parameter.host[Form::plain];
  const Packer* packer = kernel_table(target).packer(target);
  if (packer == nullptr) {
    MOME_RETURN_IF_ERROR(load(index));
    if (!parameter.type.has_value()) {
      generation_++;
      round_to(type, parameter, plain.floats());
    }
    parameter.type = type;
    return {};
  }
  if (parameter.versions.host[form] == parameter.versions.values) return {};
  generation_++;
  const bool only_in_file = plain.data() == nullptr;
  MOME_RETURN_IF_ERROR(load(index));
  AlignedMemory& packed = parameter.host[form];
  const size_t bytes = packer->size(parameter.rows(), parameter.columns(), form, type);
  if (packed.bytes() < bytes && !reserve(packed, bytes))
    return error(Code::out_of_memory, "weights: no memory to pack %s", parameter.name.c_str());
  std::vector<float> scales;
  if (type == WeightType::i8 && has_row_scales(parameter)) MOME_RETURN_IF_ERROR(read_scales(parameter, scales));
  packer->pack(plain.floats(), scales.empty() ? nullptr : scales.data(), parameter.rows(), parameter.columns(), form,
               type, packed.data(), pool);
  parameter.versions.host[form] = parameter.versions.values;
  parameter.type = type;
  if (only_in_file) release(plain);
  return {};
}

Status WeightStore::send(int index, Form form, WeightType type, const std::shared_ptr<Device>& device,
                         ThreadPool& pool) {
  Parameter& parameter = parameters_[index];
  if (parameter.count == 0 || parameter.versions.device[form] == parameter.versions.values) return {};
  generation_++;
  AlignedMemory& plain = parameter.host[Form::plain];
  const bool only_in_file = plain.data() == nullptr;
  MOME_RETURN_IF_ERROR(load(index));
  const void* from = plain.data();
  size_t bytes = static_cast<size_t>(parameter.count) * sizeof(float);
  AlignedMemory packed;
  if (form != Form::plain) {
    const Packer* packer = kernel_table(Target::cuda).packer(Target::cuda);
    bytes = packer->size(parameter.rows(), parameter.columns(), form, type);
    if (!packed.reserve(bytes))
      return error(Code::out_of_memory, "weights: no memory to pack %s", parameter.name.c_str());
    packer->pack(plain.floats(), nullptr, parameter.rows(), parameter.columns(), form, type, packed.data(), pool);
    from = packed.data();
  }
  DeviceMemory& memory = parameter.device[form];
  if (memory.bytes() < bytes) {
    bytes_ -= memory.bytes();
    const Status status = memory.reserve(device, bytes);
    bytes_ += memory.bytes();
    MOME_RETURN_IF_ERROR(status);
  }
  MOME_RETURN_IF_ERROR(device->upload(memory.data(), from, bytes));
  MOME_RETURN_IF_ERROR(device->finish());  // `packed` ends here
  parameter.versions.device[form] = parameter.versions.values;
  if (only_in_file) release(plain);
  return {};
}

void WeightStore::release_plain(const std::vector<bool>& packed_only) {
  generation_++;
  for (int i = 0; i < size(); i++) {
    if (packed_only[i]) release(parameters_[i].host[Form::plain]);
  }
}

Status WeightStore::read(int index, int64_t first, int64_t count, float* values) {
  Parameter& parameter = parameters_[index];
  if (count == 0) return {};
  if (parameter.host[Form::plain].data() == nullptr) {
    if (parameter.file.source == nullptr)
      return error(Code::unsupported, "weights: %s is kept packed only", parameter.name.c_str());
    if (count == parameter.count) return read_region(parameter, values);
    MOME_RETURN_IF_ERROR(load(index));
  }
  std::memcpy(values, parameter.host[Form::plain].floats() + first, static_cast<size_t>(count) * sizeof(float));
  return {};
}

Status WeightStore::write(int index, int64_t first, int64_t count, const float* values) {
  Parameter& parameter = parameters_[index];
  if (count == 0) return {};
  if (parameter.host[Form::plain].data() == nullptr) {
    if (parameter.file.source != nullptr && count < parameter.count)
      MOME_RETURN_IF_ERROR(load(index));
    else
      MOME_RETURN_IF_ERROR(reserve_data(parameter));
  }
  std::memcpy(parameter.host[Form::plain].floats() + first, values, static_cast<size_t>(count) * sizeof(float));
  parameter.file.source = nullptr;
  parameter.type.reset();
  changed(index);
  return {};
}

void WeightStore::changed(int index) {
  parameters_[index].versions.values++;
  generation_++;
}

void WeightStore::zero_gradients() {
  for (Parameter& parameter : parameters_) {
    if (parameter.training.gradient.data() != nullptr)
      std::memset(parameter.training.gradient.data(), 0, static_cast<size_t>(parameter.count) * sizeof(float));
  }
}

}  // namespace mome
