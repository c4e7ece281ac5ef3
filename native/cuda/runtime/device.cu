// A CUDA device: one stream for kernels and one for copies that go ahead, memory with a limit, recordings as CUDA
// graphs. The runtime is linked statically and finds the driver by itself; where there is none, `count` says so.
//
// A runtime call on a thread that has chosen no device begins to use device 0, and one may report that the thread's
// device is lost. So every call that is about a device is made in a DeviceScope of it.
#include <cuda_runtime.h>

#include <array>
#include <atomic>
#include <mutex>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "core/device.h"
#include "cuda/config/gemm_tile.h"
#include "cuda/config/trap_report.h"
#include "cuda/kernels/register.h"
#include "cuda/primitives/hopper.h"
#include "cuda/runtime/driver.h"

namespace mome::cuda {

namespace {

// An error that is known to be a mistake in the call leaves the device usable. Any other error is taken to mean that
// the device is lost.
constexpr Code code_of(cudaError_t code) {
  if (code >= cudaErrorStreamCaptureUnsupported && code <= cudaErrorStreamCaptureWrongThread) return Code::internal;
  switch (code) {
    case cudaErrorMemoryAllocation: return Code::out_of_memory;
    case cudaErrorInvalidValue:
    case cudaErrorInvalidConfiguration:
    case cudaErrorInvalidDevice:
    case cudaErrorInvalidResourceHandle:
    case cudaErrorLaunchOutOfResources: return Code::internal;
    default: return Code::device_unavailable;
  }
}
static_assert(code_of(cudaErrorStreamCaptureInvalidated) == Code::internal &&
              code_of(cudaErrorLaunchOutOfResources) == Code::internal);
static_assert(code_of(cudaErrorIllegalAddress) == Code::device_unavailable &&
              code_of(cudaErrorLaunchTimeout) == Code::device_unavailable);

// One word for each device, never freed: it is read after its device is lost.
constexpr int kMostReports = 64;
std::array<std::atomic<volatile uint64_t*>, kMostReports> reports;

// Of the thread's device, before its first kernel. Without memory for it kernels give up all the same and do not say
// why.
void make_trap_report(int index) {
  if (index >= kMostReports || reports[static_cast<size_t>(index)] != nullptr) return;
  void* memory = nullptr;
  if (cudaHostAlloc(&memory, sizeof(uint64_t), cudaHostAllocPortable | cudaHostAllocMapped) != cudaSuccess) {
    (void)cudaGetLastError();
    return;
  }
  auto* word = static_cast<volatile uint64_t*>(memory);
  *word = 0;
  reports[static_cast<size_t>(index)] = word;
}

}  // namespace

uint64_t* trap_report() {
  int device = 0;
  if (cudaGetDevice(&device) != cudaSuccess) {
    (void)cudaGetLastError();
    return nullptr;
  }
  return device >= 0 && device < kMostReports ? const_cast<uint64_t*>(reports[static_cast<size_t>(device)].load())
                                              : nullptr;
}

Status cuda_status(cudaError_t code, const char* what) {
  if (code == cudaSuccess) return {};
  (void)cudaGetLastError();  // said here: the next call must not find it again
  const uint64_t* report = code_of(code) == Code::device_unavailable ? trap_report() : nullptr;
  if (report != nullptr && *report != 0) {
    return error(Code::device_unavailable, "device: %s: %s: %s (%s)", what, describe_trap(*report).c_str(),
                 cudaGetErrorString(code), cudaGetErrorName(code));
  }
  return error(code_of(code), "device: %s: %s (%s)", what, cudaGetErrorString(code), cudaGetErrorName(code));
}

// Once per kernel and device, and never to less: engines of one device share its kernels' attributes.
Status allow_shared_memory(const void* kernel) {
  static std::mutex mutex;
  static std::set<std::pair<const void*, int>> allowed;
  int device = 0, most = 0;
  MOME_RETURN_IF_ERROR(cuda_status(cudaGetDevice(&device), "reading the device"));
  const std::lock_guard lock(mutex);
  if (allowed.contains({kernel, device})) return {};
  MOME_RETURN_IF_ERROR(cuda_status(cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device),
                                   "reading the device"));
  MOME_RETURN_IF_ERROR(cuda_status(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, most),
                                   "shared memory of a kernel"));
  allowed.insert({kernel, device});
  return {};
}

namespace {

// Calls of this thread go to `index` while it lives. Then the thread has the context it had, maybe none: other
// libraries of the process may have chosen another device, and choosing by number would begin to use one that is not in
// use.
class DeviceScope {
 public:
  explicit DeviceScope(int index) {
    if (get_current() == nullptr || set_current() == nullptr) {
      status_ = error(Code::device_unavailable, "device: expected a driver for CUDA 12 or later");
      return;
    }
    (void)get_current()(&before_);  // none where it fails: the driver is not in use
    entered_ = true;
    status_ = cuda_status(cudaSetDevice(index), "choosing the device");
  }
  ~DeviceScope() {
    if (entered_) (void)set_current()(before_);
    (void)cudaGetLastError();
  }
  DeviceScope(const DeviceScope&) = delete;
  DeviceScope& operator=(const DeviceScope&) = delete;
  // When it failed, the thread may have any device or none: no call is to be made.
  const Status& status() const { return status_; }

 private:
  static auto get_current() -> CUresult (*)(CUcontext*) {
    static const auto function = reinterpret_cast<CUresult (*)(CUcontext*)>(driver_function("cuCtxGetCurrent"));
    return function;
  }
  static auto set_current() -> CUresult (*)(CUcontext) {
    static const auto function = reinterpret_cast<CUresult (*)(CUcontext)>(driver_function("cuCtxSetCurrent"));
    return function;
  }
  CUcontext before_ = nullptr;
  bool entered_ = false;
  Status status_;
};

class CudaDevice final : public Device {
 public:
  static Status create(const DeviceOptions& options, const DeviceDescription& description,
                       std::shared_ptr<Device>& device) {
    auto fresh = std::shared_ptr<CudaDevice>(new CudaDevice(options, description));
    const DeviceScope scope(options.index);
    MOME_RETURN_IF_ERROR(scope.status());
    make_trap_report(options.index);
    MOME_RETURN_IF_ERROR(
        cuda_status(cudaStreamCreateWithFlags(&fresh->stream_, cudaStreamNonBlocking), "making a stream"));
    MOME_RETURN_IF_ERROR(
        cuda_status(cudaStreamCreateWithFlags(&fresh->copies_, cudaStreamNonBlocking), "making a stream"));
    MOME_RETURN_IF_ERROR(
        cuda_status(cudaEventCreateWithFlags(&fresh->copied_, cudaEventDisableTiming), "making an event"));
    device = std::move(fresh);
    return {};
  }
  // Here and below: the resources of a lost device are freed by the end of the process.
  ~CudaDevice() override {
    const DeviceScope scope(options_.index);
    if (!scope.status().ok()) return;
    if (copied_ != nullptr) cudaEventDestroy(copied_);
    if (copies_ != nullptr) cudaStreamDestroy(copies_);
    if (stream_ != nullptr) cudaStreamDestroy(stream_);
  }

  Status use() override { return cuda_status(cudaSetDevice(options_.index), "choosing the device"); }
  DeviceQueue queue() const override {
    return {stream_, usable_multiprocessors(multiprocessors_), capability_, WeightType::f32};
  }

  Status allocate(size_t bytes, void*& memory) override {
    const size_t used = used_;
    if (options_.memory_limit != 0 && (used > options_.memory_limit || bytes > options_.memory_limit - used)) {
      return error(Code::out_of_memory, "device: no memory for %zu bytes: %zu of the limit of %zu are taken", bytes,
                   used, options_.memory_limit);
    }
    const DeviceScope scope(options_.index);
    MOME_RETURN_IF_ERROR(scope.status());
    memory = nullptr;
    MOME_RETURN_IF_ERROR(cuda_status(cudaMalloc(&memory, bytes), "memory"));
    // Rows beside the ones that are read may be loaded too; numbers that are not finite would spread from there. Waited
    // for: copies on the other stream must not come first.
    const cudaError_t begun = cudaMemsetAsync(memory, 0, bytes, stream_), ended = cudaStreamSynchronize(stream_);
    if (begun == cudaSuccess && ended == cudaSuccess) {
      used_ += bytes;
      return {};
    }
    (void)cudaFree(memory);
    memory = nullptr;
    return cuda_status(begun == cudaSuccess ? ended : begun, "clearing memory");
  }
  void release(void* memory, size_t bytes) override {
    used_ -= bytes;
    (void)on_device("giving back", [&] { return cudaFree(memory); });
  }
  Status allocate_host(size_t bytes, void*& memory) override {
    memory = nullptr;
    return on_device("pinned memory", [&] { return cudaHostAlloc(&memory, bytes, cudaHostAllocDefault); });
  }
  void release_host(void* memory) override {
    (void)on_device("giving back", [&] { return cudaFreeHost(memory); });
  }
  Status upload(void* to, const void* from, size_t bytes) override {
    return copy(to, from, bytes, cudaMemcpyHostToDevice);
  }
  Status download(void* to, const void* from, size_t bytes) override {
    return copy(to, from, bytes, cudaMemcpyDeviceToHost);
  }
  Status upload_ahead(void* to, const void* from, size_t bytes) override {
    const DeviceScope scope(options_.index);
    MOME_RETURN_IF_ERROR(scope.status());
    MOME_RETURN_IF_ERROR(cuda_status(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, copies_), "copying"));
    MOME_RETURN_IF_ERROR(cuda_status(cudaEventRecord(copied_, copies_), "copying"));
    return cuda_status(cudaStreamWaitEvent(stream_, copied_, 0), "copying");
  }
  Status finish() override {
    const DeviceScope scope(options_.index);
    MOME_RETURN_IF_ERROR(scope.status());
    MOME_RETURN_IF_ERROR(cuda_status(cudaStreamSynchronize(copies_), "waiting for copies"));
    return cuda_status(cudaStreamSynchronize(stream_), "waiting for kernels");
  }

  Status make_mark(void*& mark) override {
    cudaEvent_t event = nullptr;
    // A thread that waits for it sleeps: services have few cores.
    const Status status = on_device("making an event", [&] {
      return cudaEventCreateWithFlags(&event, cudaEventDisableTiming | cudaEventBlockingSync);
    });
    mark = event;
    return status;
  }
  Status set_mark(void* mark) override {
    return on_device("marking", [&] { return cudaEventRecord(static_cast<cudaEvent_t>(mark), stream_); });
  }
  Status wait_mark(void* mark) override {
    return on_device("waiting for kernels", [&] { return cudaEventSynchronize(static_cast<cudaEvent_t>(mark)); });
  }
  Status make_timed_mark(void*& mark) override {
    cudaEvent_t event = nullptr;
    const Status status =
        on_device("making an event", [&] { return cudaEventCreateWithFlags(&event, cudaEventBlockingSync); });
    mark = event;
    return status;
  }
  Status seconds_between(void* begin, void* end, double& seconds) override {
    float milliseconds = 0;
    const Status status = on_device("reading events", [&] {
      return cudaEventElapsedTime(&milliseconds, static_cast<cudaEvent_t>(begin), static_cast<cudaEvent_t>(end));
    });
    seconds = 1e-3 * milliseconds;
    return status;
  }
  void release_mark(void* mark) override {
    (void)on_device("giving back", [&] { return cudaEventDestroy(static_cast<cudaEvent_t>(mark)); });
  }

  Status begin_recording() override {
    return on_device("recording", [&] { return cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal); });
  }
  Status end_recording(void*& recording) override {
    const DeviceScope scope(options_.index);
    MOME_RETURN_IF_ERROR(scope.status());
    cudaGraph_t graph = nullptr;
    MOME_RETURN_IF_ERROR(cuda_status(cudaStreamEndCapture(stream_, &graph), "recording"));
    cudaGraphExec_t executable = nullptr;
    const cudaError_t code = cudaGraphInstantiate(&executable, graph, 0);
    cudaGraphDestroy(graph);
    recording = executable;
    return cuda_status(code, "recording");
  }
  Status replay(void* recording) override {
    return on_device("replaying", [&] { return cudaGraphLaunch(static_cast<cudaGraphExec_t>(recording), stream_); });
  }
  void release_recording(void* recording) override {
    (void)on_device("giving back", [&] { return cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(recording)); });
  }

 private:
  CudaDevice(const DeviceOptions& options, const DeviceDescription& description)
      : options_(options), multiprocessors_(description.multiprocessors), capability_(description.capability) {}
  // One call of the runtime in a scope of this device; none is made where the device could not be chosen.
  template <typename Call>
  Status on_device(const char* what, Call&& call) const {
    const DeviceScope scope(options_.index);
    MOME_RETURN_IF_ERROR(scope.status());
    return cuda_status(call(), what);
  }
  Status copy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
    return on_device("copying", [&] { return cudaMemcpyAsync(to, from, bytes, kind, stream_); });
  }

  const DeviceOptions options_;
  const int multiprocessors_, capability_;
  cudaStream_t stream_ = nullptr, copies_ = nullptr;
  cudaEvent_t copied_ = nullptr;
  std::atomic<size_t> used_ = 0;  // memory is given back by any thread
};

std::string version(int number) { return std::to_string(number / 1000) + "." + std::to_string(number % 1000 / 10); }

struct Found {
  DeviceDescription description;
  Status status;  // of reading it
};

Found read_device(int index) {
  Found found;
  cudaDeviceProp properties;
  found.status = cuda_status(cudaGetDeviceProperties(&properties, index), "reading the device");
  if (!found.status.ok()) return found;
  int runtime = 0, driver = 0;
  cudaRuntimeGetVersion(&runtime);
  cudaDriverGetVersion(&driver);
  found.description = {properties.name, "CUDA " + version(runtime) + ", driver for " + version(driver),
                       10 * properties.major + properties.minor, properties.multiProcessorCount,
                       properties.totalGlobalMem};
  return found;
}

struct Devices {
  std::vector<Found> found;
  std::string why;  // there are none
};

Devices read_devices() {
  Devices devices;
  int count = 0, driver = 0;
  const cudaError_t code = cudaGetDeviceCount(&count);
  if (code == cudaSuccess && count > 0) {
    for (int index = 0; index < count; index++) devices.found.push_back(read_device(index));
    return devices;
  }
  if (cudaDriverGetVersion(&driver) == cudaSuccess && driver == 0)
    devices.why = "this machine has no NVIDIA driver";
  else
    devices.why = code == cudaSuccess ? "the driver knows no GPU" : cudaGetErrorString(code);
  (void)cudaGetLastError();
  return devices;
}

// Read once: once a device is lost, the runtime may answer any question of a thread that has chosen it with its error.
const Devices& devices() {
  static const auto& all = *new Devices(read_devices());  // never destroyed: engines may outlive main
  return all;
}

int count(std::string& why) {
  const std::vector<Found>& found = devices().found;
  if (found.empty()) why = devices().why;
  return static_cast<int>(found.size());
}

Status describe(int index, DeviceDescription& description) {
  const std::vector<Found>& found = devices().found;
  if (found.empty())
    return error(Code::device_unavailable, "device: there is no CUDA device: %s", devices().why.c_str());
  if (index < 0 || index >= static_cast<int>(found.size())) {
    return error(Code::device_unavailable, "device: expected a CUDA device below %zu, got %d", found.size(), index);
  }
  const Found& device = found[static_cast<size_t>(index)];
  if (device.status.ok()) description = device.description;
  return device.status;
}

Status open(const DeviceOptions& options, std::shared_ptr<Device>& device) {
  DeviceDescription description;
  MOME_RETURN_IF_ERROR(describe(options.index, description));
  if (const std::string why = unfit(description); !why.empty()) {
    return error(Code::device_unavailable, "device: models do not run on cuda:%d, %s: %s", options.index,
                 description.name.c_str(), why.c_str());
  }
  return CudaDevice::create(options, description, device);
}

constexpr DeviceApi kApi = {kDeviceBuild, register_kernels, count, describe, open};

}  // namespace

extern "C" __attribute__((visibility("default"))) const DeviceApi* mome_device_library() { return &kApi; }

}  // namespace mome::cuda
