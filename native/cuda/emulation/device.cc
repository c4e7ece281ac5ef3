// The device library of the emulation: memory of this processor, kernels run by simt.h at once. A recording keeps
// nothing but the order of the launches: it can be made and replayed, so that the executor's ways are the same as on a
// GPU.
//
// Environment variables, read whenever devices are asked for or opened:
//   MOME_EMULATION_DEVICES=n      n devices; default 1
//   MOME_EMULATION_CAPABILITY=80  runs the kernels of devices before Hopper; default 90. A list such as 75,90 names one
//                                 for each device; its last counts for all further devices.
//   MOME_EMULATION_FAIL_AFTER=n   launches fail after n launches, on devices that are opened while this is set. The first
//                                 failure loses the device for this process, as a sticky error of CUDA does.
//   MOME_EMULATION_PLANT=P        kernels fail by hang, endless, wrong or misaligned (Plant in simt.h)
#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <vector>

#include "core/device.h"
#include "core/memory.h"
#include "cuda/config/attention_kernel.h"
#include "cuda/config/gemm_tile.h"
#include "cuda/emulation/recorder.h"
#include "cuda/kernels/register.h"

namespace mome::cuda::emulation {
namespace {

constexpr size_t kMemory = size_t{4} << 30;

constexpr int kMaxDevices = 16;

int device_count() {
  const char* wanted = std::getenv("MOME_EMULATION_DEVICES");
  return wanted == nullptr ? 1 : std::clamp(std::atoi(wanted), 0, kMaxDevices);
}

int capability_of(int index) {
  const char* list = std::getenv("MOME_EMULATION_CAPABILITY");
  if (list == nullptr) return 90;
  for (const char* next; index > 0 && (next = std::strchr(list, ',')) != nullptr; index--) list = next + 1;
  return std::atoi(list);
}

Loss& loss_of(int index) {
  static auto& all = *new std::array<Loss, kMaxDevices>();  // never destroyed: engines may outlive main
  return all[static_cast<size_t>(index)];
}

using Work = std::function<Status()>;

struct Recording {
  std::vector<Work> work;
};

class EmulatedDevice final : public Device {
 public:
  explicit EmulatedDevice(const DeviceOptions& options)
      : limit_(options.memory_limit == 0 ? kMemory : options.memory_limit), capability_(capability_of(options.index)) {
    recorder_.device = options.index;
    recorder_.loss = &loss_of(options.index);
    const char* fail = std::getenv("MOME_EMULATION_FAIL_AFTER");
    recorder_.most_shared = most_shared_bytes(capability_);
    if (fail != nullptr) recorder_.launches_left = std::atoll(fail);
  }
  Status use() override {
    device_of_thread = recorder_.device;
    return recorder_.lost();
  }
  DeviceQueue queue() const override {
    return {const_cast<Recorder*>(&recorder_), usable_multiprocessors(4), capability_, WeightType::f32};
  }

  Status allocate(size_t bytes, void*& memory) override {
    MOME_RETURN_IF_ERROR(recorder_.lost());
    if (bytes > limit_ - used_)
      return error(Code::out_of_memory, "device: no memory for %zu bytes, %zu of %zu are taken", bytes, used_, limit_);
    AlignedMemory fresh;
    if (!fresh.reserve(bytes)) return error(Code::out_of_memory, "device: no memory for %zu bytes", bytes);
    std::memset(fresh.data(), 0xff, bytes);  // NaNs
    memory = fresh.data();
    used_ += bytes;
    held_.push_back(std::move(fresh));
    return {};
  }
  void release(void* memory, size_t bytes) override {
    used_ -= bytes;
    drop(memory);
  }
  Status allocate_host(size_t bytes, void*& memory) override {
    MOME_RETURN_IF_ERROR(recorder_.lost());
    AlignedMemory fresh;
    if (!fresh.reserve(bytes)) return error(Code::out_of_memory, "device: no memory for %zu bytes", bytes);
    memory = fresh.data();
    held_.push_back(std::move(fresh));
    return {};
  }
  void release_host(void* memory) override { drop(memory); }
  Status upload(void* to, const void* from, size_t bytes) override { return copy(to, from, bytes); }
  Status download(void* to, const void* from, size_t bytes) override { return copy(to, from, bytes); }
  Status upload_ahead(void* to, const void* from, size_t bytes) override { return copy(to, from, bytes); }
  Status finish() override { return recorder_.lost(); }

  Status make_mark(void*& mark) override {
    mark = this;
    return recorder_.lost();
  }
  Status set_mark(void* mark) override {
    if (mark != this) *static_cast<Time*>(mark) = std::chrono::steady_clock::now();
    return recorder_.lost();
  }
  Status wait_mark(void*) override { return recorder_.lost(); }
  void release_mark(void* mark) override {
    if (mark != this) delete static_cast<Time*>(mark);
  }
  Status make_timed_mark(void*& mark) override {
    mark = new Time();
    return recorder_.lost();
  }
  Status seconds_between(void* begin, void* end, double& seconds) override {
    seconds = std::chrono::duration<double>(*static_cast<Time*>(end) - *static_cast<Time*>(begin)).count();
    return recorder_.lost();
  }

  Status begin_recording() override {
    MOME_RETURN_IF_ERROR(recorder_.lost());
    recorder_.recording = true;
    recorder_.work.clear();
    return {};
  }
  Status end_recording(void*& recording) override {
    recorder_.recording = false;
    recording = new Recording{std::move(recorder_.work)};
    recorder_.work.clear();
    return {};
  }
  Status replay(void* recording) override {
    for (const Work& work : static_cast<Recording*>(recording)->work) MOME_RETURN_IF_ERROR(recorder_.launch(work));
    return {};
  }
  void release_recording(void* recording) override { delete static_cast<Recording*>(recording); }

 private:
  using Time = std::chrono::steady_clock::time_point;
  Status copy(void* to, const void* from, size_t bytes) {
    MOME_RETURN_IF_ERROR(recorder_.lost());
    std::memcpy(to, from, bytes);
    return {};
  }
  void drop(void* memory) {
    std::erase_if(held_, [&](const AlignedMemory& held) { return held.data() == memory; });
  }

  size_t limit_, used_ = 0;
  int capability_;
  std::vector<AlignedMemory> held_;
  Recorder recorder_;
};

int count(std::string& why) {
  if (device_count() == 0) why = "the emulation has no device";
  return device_count();
}

Status describe(int index, DeviceDescription& description) {
  if (index < 0 || index >= device_count())
    return error(Code::device_unavailable, "device: expected a CUDA device below %d, got %d", device_count(), index);
  description = {"emulation on this processor", "no driver", capability_of(index), 4, kMemory};
  return {};
}

Status open(const DeviceOptions& options, std::shared_ptr<Device>& device) {
  DeviceDescription description;
  MOME_RETURN_IF_ERROR(describe(options.index, description));
  if (const std::string why = unfit(description); !why.empty())
    return error(Code::device_unavailable, "device: models do not run on cuda:%d: %s", options.index, why.c_str());
  MOME_RETURN_IF_ERROR(loss_of(options.index).status());
  device = std::make_shared<EmulatedDevice>(options);
  return {};
}

constexpr DeviceApi kApi = {kDeviceBuild, register_kernels, count, describe, open};

}  // namespace

extern "C" __attribute__((visibility("default"))) const DeviceApi* mome_device_library() { return &kApi; }

}  // namespace mome::cuda::emulation
