// What a kernel's source needs from the compiler: nvcc for a GPU, or the host's compiler for emulation/.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/status.h"
#include "cuda/config/trap_report.h"

#if defined(MOME_EMULATION)

#include <cmath>

#include "cuda/emulation/recorder.h"
#include "cuda/emulation/simt.h"

#define MOME_DEVICE inline
#define MOME_KERNEL(threads) inline void
#define MOME_SHARED_KERNEL(threads, blocks) inline void
#define MOME_PARAMETER const
#define threadIdx (::mome::cuda::emulation::lane().thread)
#define blockIdx (::mome::cuda::emulation::block().index)
#define blockDim (::mome::cuda::emulation::block().dim)
#define gridDim (::mome::cuda::emulation::block().grid)

#else

#include <cuda_runtime.h>

#define MOME_DEVICE __device__ __forceinline__
#define MOME_KERNEL(threads) __global__ void __launch_bounds__(threads)
// `blocks` blocks share a multiprocessor.
#define MOME_SHARED_KERNEL(threads, blocks) __global__ void __launch_bounds__(threads, blocks)
// Read where it was passed, never copied to local memory.
#define MOME_PARAMETER const __grid_constant__

#endif

namespace mome::cuda {

inline constexpr int kWarp = 32;
inline constexpr unsigned kMaxGrid = 65535;  // blocks in the second and third direction

#if defined(MOME_EMULATION)

using Dim3 = emulation::Dim3;

template <typename T>
T* shared_memory() {
  return reinterpret_cast<T*>(emulation::block().shared);
}
inline void block_barrier() { emulation::barrier(); }
inline void warp_barrier() {
  int nothing = 0;
  emulation::collective(nothing, [](int* const*) {});
}

inline void keep_order() {}
inline void keep_here(int&) {}
inline void keep_here(float&) {}

// Starts `kernel` with `grid` blocks of `threads` threads and `shared` bytes of shared memory each.
template <typename... Parameters, typename... Arguments>
Status launch(void (*kernel)(Parameters...), Dim3 grid, int threads, size_t shared, void* queue,
              Arguments&&... arguments) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return {};
  return static_cast<emulation::Recorder*>(queue)->launch(shared, [=]() -> uint64_t {
    auto call = [&] { kernel(static_cast<Parameters>(arguments)...); };
    return emulation::run_grid(
        grid, {static_cast<unsigned>(threads), 1, 1}, shared,
        [](void* context) { (*static_cast<decltype(call)*>(context))(); }, &call);
  });
}

#else

using Dim3 = dim3;

template <typename T>
MOME_DEVICE T* shared_memory() {
  extern __shared__ __align__(kSharedAlignment) unsigned char memory[];
  return reinterpret_cast<T*>(memory);
}
MOME_DEVICE void block_barrier() { __syncthreads(); }
MOME_DEVICE void warp_barrier() { __syncwarp(); }

// Keeps the compiler from moving memory accesses across this point. Otherwise it loads for many steps of an unrolled
// loop at once and runs out of registers.
MOME_DEVICE void keep_order() { asm volatile("" ::: "memory"); }
// Keeps the compiler from computing values that depend on `value` before this point, and from delaying `value` beyond
// it.
MOME_DEVICE void keep_here(int& value) { asm volatile("" : "+r"(value)); }
MOME_DEVICE void keep_here(float& value) { asm volatile("" : "+f"(value)::"memory"); }

// The status of a runtime call; `what` names the call in the message.
Status cuda_status(cudaError_t code, const char* what);
// Lets `kernel` be launched on the current device with all the shared memory a block can have.
Status allow_shared_memory(const void* kernel);

template <typename... Parameters>
Status launch_exactly(void (*kernel)(Parameters...), Dim3 grid, int threads, size_t shared, void* stream,
                      Parameters... parameters) {
  constexpr size_t kPlainShared = size_t{48} << 10;  // more has to be asked for, per kernel and device
  const void* function = reinterpret_cast<const void*>(kernel);
  if (shared > kPlainShared) MOME_RETURN_IF_ERROR(allow_shared_memory(function));
  void* pointers[] = {&parameters...};
  return cuda_status(cudaLaunchKernel(function, grid, dim3(static_cast<unsigned>(threads)), pointers, shared,
                                      static_cast<cudaStream_t>(stream)),
                     "launch of a kernel");
}

template <typename... Parameters, typename... Arguments>
Status launch(void (*kernel)(Parameters...), Dim3 grid, int threads, size_t shared, void* stream,
              Arguments&&... arguments) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return {};
  if (grid.y > kMaxGrid || grid.z > kMaxGrid)
    return error(Code::too_large, "device: expected at most %u heads and sequences in a run", kMaxGrid);
  return launch_exactly<Parameters...>(kernel, grid, threads, shared, stream, static_cast<Parameters>(arguments)...);
}

#endif

}  // namespace mome::cuda
