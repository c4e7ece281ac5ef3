// What launchers take from the context of a kernel call.
#pragma once

#include <initializer_list>

#include "core/kernel.h"
#include "cuda/primitives/types.h"

namespace mome::cuda {

using Queue = DeviceQueue;

// Calls body(T()) with the type the rows of this call are kept in.
template <typename Body>
Status with_element(const Queue& queue, Body&& body) {
  return queue.rows == WeightType::bf16 ? body(bf16()) : body(float());
}

// A pointer of an argument struct with the type of the elements there.
template <typename T>
const T* as(const void* pointer) {
  return static_cast<const T*>(pointer);
}
template <typename T>
T* as(void* pointer) {
  return static_cast<T*>(pointer);
}

inline bool is_aligned(std::initializer_list<const void*> pointers) {
  for (const void* pointer : pointers) {
    if (reinterpret_cast<uintptr_t>(pointer) % 16 != 0) return false;
  }
  return true;
}

}  // namespace mome::cuda
