// The device library of the emulation: memory of this processor, kernels run by simt.h at once. A recording keeps nothing but the order
// of the launches: it can be made and replayed, so that the executor's ways are the same as on a GPU.
//
// MOME_EMULATION_FAIL_AFTER=n lets the n-th launch and all later ones fail, as a lost device does. MOME_EMULATION_CAPABILITY=80 runs the
// kernels that devices before Hopper take; 90 is the default.
#include <cstdlib>
#include <functional>
#include <cstring>
#include <vector>

#include "core/device.h"
#include "core/memory.h"
#include "cuda/config/gemm_tile.h"
#include "cuda/emulation/recorder.h"
#include "cuda/kernels/register.h"

namespace mome::cuda::emulation {
namespace {

constexpr size_t kMemory = size_t{4} << 30;

using Work = std::function<Status()>;

struct Recording {
  std::vector<Work> work;
};

class EmulatedDevice final : public Device {
 public:
  explicit EmulatedDevice(const DeviceOptions& options) : limit_(options.memory_limit == 0 ? kMemory : options.memory_limit) {
    const char* fail = std::getenv("MOME_EMULATION_FAIL_AFTER");
    if (fail != nullptr) recorder_.launches_left = std::atoll(fail);
    const char* capability = std::getenv("MOME_EMULATION_CAPABILITY");
    if (capability != nullptr) capability_ = std::atoi(capability);
  }
  Status use() override { return {}; }
  DeviceQueue queue() const override { return {const_cast<Recorder*>(&recorder_), usable_multiprocessors(4), capability_, WeightType::f32}; }

  Status allocate(size_t bytes, void*& memory) override {
    if (bytes > limit_ - used_) return error(Code::out_of_memory, "device: no memory for %zu bytes, %zu of %zu are taken", bytes, used_, limit_);
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
  Status finish() override { return recorder_.lost; }

  Status make_mark(void*& mark) override {
    mark = this;
    return {};
  }
  Status set_mark(void*) override { return recorder_.lost; }
  Status wait_mark(void*) override { return {}; }
  void release_mark(void*) override {}

  Status begin_recording() override {
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
  Status copy(void* to, const void* from, size_t bytes) {
    MOME_RETURN_IF_ERROR(recorder_.lost);
    std::memcpy(to, from, bytes);
    return {};
  }
  void drop(void* memory) {
    std::erase_if(held_, [&](const AlignedMemory& held) { return held.data() == memory; });
  }

  size_t limit_, used_ = 0;
  int capability_ = 90;
  std::vector<AlignedMemory> held_;
  Recorder recorder_;
};

int count(std::string&) { return 1; }

Status describe(int index, DeviceDescription& description) {
  if (index != 0) return error(Code::device_unavailable, "device: expected a CUDA device below 1, got %d", index);
  description = {"emulation on this processor", "no driver", 90, 4, kMemory, kMemory};
  return {};
}

Status open(const DeviceOptions& options, std::shared_ptr<Device>& device) {
  if (options.index != 0) return error(Code::device_unavailable, "device: expected a CUDA device below 1, got %d", options.index);
  device = std::make_shared<EmulatedDevice>(options);
  return {};
}

constexpr DeviceApi kApi = {kDeviceBuild, register_kernels, count, describe, open};

}  // namespace

extern "C" __attribute__((visibility("default"))) const DeviceApi* mome_device_library() { return &kApi; }

}  // namespace mome::cuda::emulation
