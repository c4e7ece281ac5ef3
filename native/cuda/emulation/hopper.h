// Emulation of what primitives/hopper.h offers. A random choice lets each copy land at once or when its barrier is
// waited for: the first shows memory that is overwritten too early, the second shows memory that is read too early.
// Products run when they are waited for, so sums that are read too early show.
#pragma once

#include <cstdint>

#include "cuda/emulation/simt.h"

namespace mome::cuda::emulation {

void phase_init(uint64_t* barrier, int arrivals);
void phase_arrive(uint64_t* barrier, int expected_bytes);
bool phase_passed(uint64_t* barrier, int parity);
void copy_box(void* to, const TensorMap& map, int row, int column, uint64_t* barrier);
void named_barrier(int number, int threads, bool wait);
uint64_t shared_offset(const void* pointer);
void wgmma(int columns, float* d, uint64_t a, uint64_t b, bool add);
void wgmma_commit();
void wgmma_wait(int groups_left);

}  // namespace mome::cuda::emulation
