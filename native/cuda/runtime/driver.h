// Functions of the driver, asked for at run time: nothing links against it.
#pragma once

#include <cuda.h>
#include <cuda_runtime.h>

namespace mome::cuda {

// Null where the driver lacks it.
inline void* driver_function(const char* name) {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
#if CUDART_VERSION >= 12050
  constexpr unsigned kSince = 12000;
  const cudaError_t code = cudaGetDriverEntryPointByVersion(name, &function, kSince, cudaEnableDefault, &found);
#else
  const cudaError_t code = cudaGetDriverEntryPoint(name, &function, cudaEnableDefault, &found);
#endif
  if (code != cudaSuccess) (void)cudaGetLastError();
  return code == cudaSuccess && found == cudaDriverEntryPointSuccess ? function : nullptr;
}

}  // namespace mome::cuda
