// Emulation of what prim/hopper.h offers. Copies land at once; products run when they are waited for, so that sums read too early, and
// operands that are overwritten too early, show.
#pragma once

#include <cstdint>

namespace mome::cuda::emulation {

struct TensorMap {
  const uint16_t* matrix = nullptr;
  int64_t rows = 0, columns = 0, pitch = 0;
  int box_rows = 0;
};

void phase_init(uint64_t* barrier, int arrivals);
void phase_arrive(uint64_t* barrier, int expected_bytes);
bool phase_passed(const uint64_t* barrier, int parity);
void copy_box(void* to, const TensorMap& map, int row, int column, uint64_t* barrier);
void named_barrier(int number, int threads, bool wait);
uint64_t shared_offset(const void* pointer);
void wgmma(int columns, float* d, uint64_t a, uint64_t b, bool add);
void wgmma_commit();
void wgmma_wait(int groups_left);

}  // namespace mome::cuda::emulation
