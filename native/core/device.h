// Accelerators: the interface that the engine uses, and the library that implements it. The library is loaded when a
// device is first asked for, so that the same program also runs where there is no driver, and can say why there is no
// device.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "core/kernel.h"
#include "core/status.h"

namespace mome {

struct DeviceDescription {
  std::string name;     // "NVIDIA H100 80GB HBM3"
  std::string runtime;  // "CUDA 13.0, driver 13.0"
  int capability = 0;   // 10 * major + minor: 90
  int multiprocessors = 0;
  size_t memory_bytes = 0;
};

// The least compute capability that models run on, as in DeviceDescription.
inline constexpr int kLeastCapability = 80;
// Why models do not run on a device that is there: "compute capability 7.5, 8.0 is needed". Empty where they do.
inline std::string unfit(const DeviceDescription& description) {
  if (description.capability >= kLeastCapability) return "";
  const auto number = [](int capability) {
    return std::to_string(capability / 10) + "." + std::to_string(capability % 10);
  };
  return "compute capability " + number(description.capability) + ", " + number(kLeastCapability) + " is needed";
}

struct DeviceOptions {
  int index = 0;
  size_t memory_limit = 0;  // bytes this device may hold for its engine, weights and arena together; 0 = what there is
};

// One device with one queue of work. Copies and kernels run in the order they were given; only `finish` and `wait_mark`
// wait. Calls but `wait_mark` come from one thread at a time. A failure that belongs to earlier work may be reported by
// a later call; once one was, the device is lost to this process, for all that were or will be opened, while other
// devices go on. But for `use`, calls leave the device that the thread has chosen as it was.
class Device {
 public:
  virtual ~Device() = default;

  // Kernels that this thread launches from now on go to this device.
  virtual Status use() = 0;
  virtual DeviceQueue queue() const = 0;
  virtual Status allocate(size_t bytes, void*& memory) = 0;
  virtual void release(void* memory, size_t bytes) = 0;
  // Memory of this processor that copies reach without a detour.
  virtual Status allocate_host(size_t bytes, void*& memory) = 0;
  virtual void release_host(void* memory) = 0;
  virtual Status upload(void* to, const void* from, size_t bytes) = 0;
  virtual Status download(void* to, const void* from, size_t bytes) = 0;
  // Like upload, but does not wait for earlier work. Later work waits for the copy.
  virtual Status upload_ahead(void* to, const void* from, size_t bytes) = 0;
  virtual Status finish() = 0;

  // Marks the end of the work given so far. Any thread may wait for a mark while others give more work. The caller
  // makes and releases marks.
  virtual Status make_mark(void*& mark) = 0;
  virtual Status set_mark(void* mark) = 0;
  virtual Status wait_mark(void* mark) = 0;
  virtual void release_mark(void* mark) = 0;
  // A mark that also records when it was reached. `seconds_between` gives the seconds, by the device's clock, between
  // two marks that were waited for.
  virtual Status make_timed_mark(void*& mark) = 0;
  virtual Status seconds_between(void* begin, void* end, double& seconds) = 0;

  // Work given between begin_recording and end_recording is recorded, not run. `replay` runs a recording as one piece,
  // as often as wanted.
  virtual Status begin_recording() = 0;
  virtual Status end_recording(void*& recording) = 0;
  virtual Status replay(void* recording) = 0;
  virtual void release_recording(void* recording) = 0;
};

// Memory on a device; keeps the device alive.
class DeviceMemory {
 public:
  DeviceMemory() = default;
  DeviceMemory(DeviceMemory&& other) noexcept { swap(other); }
  DeviceMemory& operator=(DeviceMemory&& other) noexcept {
    swap(other);
    return *this;
  }
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;
  ~DeviceMemory() { release(); }

  // Contents are undefined after it. `host`: memory of this processor for copies.
  Status reserve(const std::shared_ptr<Device>& device, size_t bytes, bool host = false) {
    release();
    if (bytes == 0) return {};
    void* fresh = nullptr;
    MOME_RETURN_IF_ERROR(host ? device->allocate_host(bytes, fresh) : device->allocate(bytes, fresh));
    data_ = fresh;
    device_ = device;
    bytes_ = bytes;
    host_ = host;
    return {};
  }
  void release() {
    if (data_ != nullptr) host_ ? device_->release_host(data_) : device_->release(data_, bytes_);
    data_ = nullptr;
    bytes_ = 0;
    device_.reset();
  }
  std::byte* data() const { return static_cast<std::byte*>(data_); }
  size_t bytes() const { return bytes_; }

 private:
  void swap(DeviceMemory& other) {
    std::swap(device_, other.device_);
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    std::swap(host_, other.host_);
  }
  std::shared_ptr<Device> device_;
  void* data_ = nullptr;
  size_t bytes_ = 0;
  bool host_ = false;
};

// What the loaded library offers. Its one exported function is `mome_device_library`; both sides must be of one build.
struct DeviceApi {
  const char* build;  // kDeviceBuild of the library
  void (*register_kernels)(KernelTable& table);
  // Devices there are, fit or not; when there are none, `why` says so. Neither this nor `describe` begins to use a
  // device.
  int (*count)(std::string& why);
  Status (*describe)(int index, DeviceDescription& description);
  // Fails with Code::device_unavailable for a device that is not there, unfit or lost.
  Status (*open)(const DeviceOptions& options, std::shared_ptr<Device>& device);
};
inline constexpr const char* kDeviceBuild = "mome device interface 5";

struct DeviceLibrary {
  const DeviceApi* api = nullptr;  // null: `reason` says why
  std::string path, reason;
  KernelTable table;
};
// Loads the library on the first call: MOME_CUDA_LIBRARY, or mome_cuda.so beside this code. Safe from any thread.
const DeviceLibrary& device_library();

}  // namespace mome
