// A CUDA device: one stream for kernels and one for copies that go ahead, memory with a limit, recordings as CUDA graphs. The runtime is linked statically and finds the driver by
// itself; where there is none, `count` says so.
#include <cuda_runtime.h>

#include <atomic>
#include <mutex>
#include <set>
#include <string>
#include <utility>

#include "core/device.h"
#include "cuda/config/gemm_tile.h"
#include "cuda/kernels/register.h"
#include "cuda/prim/platform.h"
#include "cuda/runtime/driver.h"

namespace mome::cuda {

namespace {

// Mistakes of a call leave the device as it was; what is not known to be one is taken for a lost device.
constexpr Code code_of(cudaError_t code) {
  if (code >= cudaErrorStreamCaptureUnsupported && code <= cudaErrorStreamCaptureWrongThread) return Code::internal;
  switch (code) {
    case cudaErrorMemoryAllocation:
      return Code::out_of_memory;
    case cudaErrorInvalidValue:
    case cudaErrorInvalidConfiguration:
    case cudaErrorInvalidDevice:
    case cudaErrorInvalidResourceHandle:
    case cudaErrorLaunchOutOfResources:
      return Code::internal;
    default:
      return Code::device_unavailable;
  }
}
static_assert(code_of(cudaErrorStreamCaptureInvalidated) == Code::internal && code_of(cudaErrorLaunchOutOfResources) == Code::internal);
static_assert(code_of(cudaErrorIllegalAddress) == Code::device_unavailable && code_of(cudaErrorLaunchTimeout) == Code::device_unavailable);

}  // namespace

Status cuda_status(cudaError_t code, const char* what) {
  if (code == cudaSuccess) return {};
  (void)cudaGetLastError();  // said here: the next call must not find it again
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
  MOME_RETURN_IF_ERROR(cuda_status(cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device), "reading the device"));
  MOME_RETURN_IF_ERROR(cuda_status(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, most), "shared memory of a kernel"));
  allowed.insert({kernel, device});
  return {};
}

namespace {

// Whether a device is in use by this process already; choosing one that is not would begin to use it.
bool is_active(int index) {
  using GetState = CUresult (*)(CUdevice, unsigned*, int*);
  static const auto get_state = reinterpret_cast<GetState>(driver_function("cuDevicePrimaryCtxGetState"));
  unsigned flags = 0;
  int active = 0;
  return get_state != nullptr && get_state(index, &flags, &active) == CUDA_SUCCESS && active != 0;
}

// Calls of this thread go to `index` while it lives; other libraries of the process may have chosen another device.
class DeviceScope {
 public:
  explicit DeviceScope(int index) {
    if (cudaGetDevice(&before_) != cudaSuccess) before_ = -1;
    changed_ = before_ != index;
    if (changed_) code_ = cudaSetDevice(index);
  }
  ~DeviceScope() {
    if (changed_ && before_ >= 0 && is_active(before_)) (void)cudaSetDevice(before_);
    (void)cudaGetLastError();
  }
  DeviceScope(const DeviceScope&) = delete;
  DeviceScope& operator=(const DeviceScope&) = delete;
  Status status() const { return cuda_status(code_, "choosing the device"); }

 private:
  int before_ = -1;
  bool changed_ = false;
  cudaError_t code_ = cudaSuccess;
};

class CudaDevice final : public Device {
 public:
  static Status create(const DeviceOptions& options, std::shared_ptr<Device>& device) {
    auto fresh = std::shared_ptr<CudaDevice>(new CudaDevice(options));
    const DeviceScope scope(options.index);
    MOME_RETURN_IF_ERROR(scope.status());
    MOME_RETURN_IF_ERROR(cuda_status(cudaDeviceGetAttribute(&fresh->multiprocessors_, cudaDevAttrMultiProcessorCount, options.index), "reading the device"));
    int major = 0, minor = 0;
    MOME_RETURN_IF_ERROR(cuda_status(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, options.index), "reading the device"));
    MOME_RETURN_IF_ERROR(cuda_status(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, options.index), "reading the device"));
    fresh->capability_ = 10 * major + minor;
    MOME_RETURN_IF_ERROR(cuda_status(cudaStreamCreateWithFlags(&fresh->stream_, cudaStreamNonBlocking), "making a stream"));
    MOME_RETURN_IF_ERROR(cuda_status(cudaStreamCreateWithFlags(&fresh->copies_, cudaStreamNonBlocking), "making a stream"));
    MOME_RETURN_IF_ERROR(cuda_status(cudaEventCreateWithFlags(&fresh->copied_, cudaEventDisableTiming), "making an event"));
    device = std::move(fresh);
    return {};
  }
  ~CudaDevice() override {
    const DeviceScope scope(options_.index);
    if (copied_ != nullptr) cudaEventDestroy(copied_);
    if (copies_ != nullptr) cudaStreamDestroy(copies_);
    if (stream_ != nullptr) cudaStreamDestroy(stream_);
  }

  Status use() override { return cuda_status(cudaSetDevice(options_.index), "choosing the device"); }
  DeviceQueue queue() const override { return {stream_, usable_multiprocessors(multiprocessors_), capability_, WeightType::f32}; }

  Status allocate(size_t bytes, void*& memory) override {
    const size_t used = used_;
    if (options_.memory_limit != 0 && (used > options_.memory_limit || bytes > options_.memory_limit - used)) {
      return error(Code::out_of_memory, "device: no memory for %zu bytes: %zu of the limit of %zu are taken", bytes, used, options_.memory_limit);
    }
    const DeviceScope scope(options_.index);
    MOME_RETURN_IF_ERROR(scope.status());
    memory = nullptr;
    MOME_RETURN_IF_ERROR(cuda_status(cudaMalloc(&memory, bytes), "memory"));
    // Rows beside the ones that are read may be loaded too; numbers that are not finite would spread from there. Waited for: copies on the
    // other stream must not come first.
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
    const DeviceScope scope(options_.index);
    used_ -= bytes;
    cudaFree(memory);
  }
  Status allocate_host(size_t bytes, void*& memory) override {
    const DeviceScope scope(options_.index);
    MOME_RETURN_IF_ERROR(scope.status());
    memory = nullptr;
    return cuda_status(cudaHostAlloc(&memory, bytes, cudaHostAllocDefault), "pinned memory");
  }
  void release_host(void* memory) override {
    const DeviceScope scope(options_.index);
    cudaFreeHost(memory);
  }
  Status upload(void* to, const void* from, size_t bytes) override { return copy(to, from, bytes, cudaMemcpyHostToDevice); }
  Status download(void* to, const void* from, size_t bytes) override { return copy(to, from, bytes, cudaMemcpyDeviceToHost); }
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
    const DeviceScope scope(options_.index);
    MOME_RETURN_IF_ERROR(scope.status());
    cudaEvent_t event = nullptr;
    // A thread that waits for it sleeps: services have few cores.
    const Status status = cuda_status(cudaEventCreateWithFlags(&event, cudaEventDisableTiming | cudaEventBlockingSync), "making an event");
    mark = event;
    return status;
  }
  Status set_mark(void* mark) override { return cuda_status(cudaEventRecord(static_cast<cudaEvent_t>(mark), stream_), "marking"); }
  Status wait_mark(void* mark) override { return cuda_status(cudaEventSynchronize(static_cast<cudaEvent_t>(mark)), "waiting for kernels"); }
  void release_mark(void* mark) override { cudaEventDestroy(static_cast<cudaEvent_t>(mark)); }

  Status begin_recording() override {
    return cuda_status(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), "recording");
  }
  Status end_recording(void*& recording) override {
    cudaGraph_t graph = nullptr;
    MOME_RETURN_IF_ERROR(cuda_status(cudaStreamEndCapture(stream_, &graph), "recording"));
    cudaGraphExec_t executable = nullptr;
    const cudaError_t code = cudaGraphInstantiate(&executable, graph, 0);
    cudaGraphDestroy(graph);
    recording = executable;
    return cuda_status(code, "recording");
  }
  Status replay(void* recording) override { return cuda_status(cudaGraphLaunch(static_cast<cudaGraphExec_t>(recording), stream_), "replaying"); }
  void release_recording(void* recording) override { cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(recording)); }

 private:
  explicit CudaDevice(const DeviceOptions& options) : options_(options) {}
  Status copy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
    const DeviceScope scope(options_.index);
    MOME_RETURN_IF_ERROR(scope.status());
    return cuda_status(cudaMemcpyAsync(to, from, bytes, kind, stream_), "copying");
  }

  DeviceOptions options_;
  cudaStream_t stream_ = nullptr, copies_ = nullptr;
  cudaEvent_t copied_ = nullptr;
  int multiprocessors_ = 0, capability_ = 0;
  std::atomic<size_t> used_ = 0;  // memory is given back by any thread
};

std::string version(int number) { return std::to_string(number / 1000) + "." + std::to_string(number % 1000 / 10); }

int count(std::string& why) {
  int devices = 0;
  const cudaError_t code = cudaGetDeviceCount(&devices);
  if (code == cudaSuccess && devices > 0) return devices;
  int driver = 0;
  if (cudaDriverGetVersion(&driver) == cudaSuccess && driver == 0) why = "this machine has no NVIDIA driver";
  else why = code == cudaSuccess ? "the driver knows no GPU" : cudaGetErrorString(code);
  (void)cudaGetLastError();
  return 0;
}

Status describe(int index, DeviceDescription& description) {
  cudaDeviceProp properties;
  MOME_RETURN_IF_ERROR(cuda_status(cudaGetDeviceProperties(&properties, index), "reading the device"));
  int runtime = 0, driver = 0;
  cudaRuntimeGetVersion(&runtime);
  cudaDriverGetVersion(&driver);
  description.name = properties.name;
  description.runtime = "CUDA " + version(runtime) + ", driver for " + version(driver);
  description.capability = 10 * properties.major + properties.minor;
  description.multiprocessors = properties.multiProcessorCount;
  description.memory_bytes = properties.totalGlobalMem;
  const DeviceScope scope(index);
  size_t total = 0;
  return cuda_status(cudaMemGetInfo(&description.free_bytes, &total), "reading the device's memory");
}

constexpr int kLeastCapability = 80;

Status open(const DeviceOptions& options, std::shared_ptr<Device>& device) {
  std::string why;
  const int devices = count(why);
  if (options.index < 0 || options.index >= devices) {
    if (devices == 0) return error(Code::device_unavailable, "device: there is no CUDA device: %s", why.c_str());
    return error(Code::device_unavailable, "device: expected a CUDA device below %d, got %d", devices, options.index);
  }
  DeviceDescription description;
  MOME_RETURN_IF_ERROR(describe(options.index, description));
  if (description.capability < kLeastCapability) {
    return error(Code::device_unavailable, "device: expected compute capability 8.0 or later, %s has %d.%d", description.name.c_str(), description.capability / 10,
                 description.capability % 10);
  }
  return CudaDevice::create(options, device);
}

constexpr DeviceApi kApi = {kDeviceBuild, register_kernels, count, describe, open};

}  // namespace

extern "C" __attribute__((visibility("default"))) const DeviceApi* mome_device_library() { return &kApi; }

}  // namespace mome::cuda
