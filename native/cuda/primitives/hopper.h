// Hopper's asynchronous parts: barriers in shared memory, bulk tensor copies (TMA), products of a warpgroup on shared
// memory (wgmma).
//
// Nothing here waits by itself: a copy is there once its barrier's phase has passed, a product once its group was
// waited for.
#pragma once

#include "cuda/config/trap_report.h"
#include "cuda/primitives/types.h"

#if defined(MOME_EMULATION)
#include "cuda/emulation/hopper.h"
#else
#include <cuda.h>  // CUtensorMap; nothing of the driver is linked
#endif

namespace mome::cuda {

inline constexpr int kWarpgroup = 128;

// A [rows, columns] matrix of bfloat16 in device memory, to be copied in boxes of `box_rows` rows and 64 columns,
// chunks of 16 bytes xor-ed with the row's number modulo 8 (the 128-byte swizzle). What lies outside the matrix arrives
// as zeros.
#if defined(MOME_EMULATION)
using TensorMap = emulation::TensorMap;
#else
using TensorMap = CUtensorMap;
#endif
inline constexpr int kBoxColumns = 64;
Status make_tensor_map(const bf16* matrix, int64_t rows, int64_t columns, int64_t pitch, int box_rows, TensorMap& map);

#if !defined(MOME_EMULATION)
MOME_DEVICE uint32_t barrier_address(uint64_t* barrier) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(barrier));
}
#endif

// A phase passes when `arrivals` threads have arrived and all announced bytes have come.
MOME_DEVICE void phase_init(uint64_t* barrier, int arrivals) {
#if defined(MOME_EMULATION)
  emulation::phase_init(barrier, arrivals);
#else
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;\n" ::"r"(barrier_address(barrier)), "r"(arrivals) : "memory");
#endif
}
// Makes initialised barriers known to the copy engine.
MOME_DEVICE void phase_init_done() {
#if !defined(MOME_EMULATION)
  asm volatile("fence.mbarrier_init.release.cluster;\nfence.proxy.async;\n" ::: "memory");
#endif
}
MOME_DEVICE void phase_arrive(uint64_t* barrier) {
#if defined(MOME_EMULATION)
  emulation::phase_arrive(barrier, 0);
#else
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];\n" ::"r"(barrier_address(barrier)) : "memory");
#endif
}
// Arrives and announces bytes that are still to come.
MOME_DEVICE void phase_arrive_expecting(uint64_t* barrier, int bytes) {
#if defined(MOME_EMULATION)
  emulation::phase_arrive(barrier, bytes);
#else
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;\n" ::"r"(barrier_address(barrier)), "r"(bytes)
               : "memory");
#endif
}
// Where kernels that are launched next say why they gave up: pinned memory of this processor, which a lost device
// leaves readable. May be null.
uint64_t* trap_report();

// Leaves `word` (trap_word) behind and ends the launch with an error that the device does not recover from.
MOME_DEVICE void give_up([[maybe_unused]] uint64_t* report, uint64_t word) {
#if defined(MOME_EMULATION)
  emulation::give_up(word);
#else
  if (report != nullptr) *reinterpret_cast<volatile uint64_t*>(report) = word;
  __threadfence_system();
  __trap();
#endif
}

// The 128-byte swizzle takes addresses modulo kSharedAlignment: elsewhere copies and products would disagree without a
// word.
MOME_DEVICE void expect_aligned(const void* shared, uint64_t* report) {
#if defined(MOME_EMULATION)
  const uint64_t address = reinterpret_cast<uintptr_t>(shared);
#else
  const uint64_t address = __cvta_generic_to_shared(shared);
#endif
  if (address % kSharedAlignment != 0) give_up(report, trap_word(Trap::misaligned, blockIdx.x, 0, 0));
}

// Whether the phase of this parity has passed; on a device the answer may take a while, in which the thread sleeps.
MOME_DEVICE bool phase_passed(uint64_t* barrier, int parity) {
#if defined(MOME_EMULATION)
  return emulation::phase_passed(barrier, parity);
#else
  int passed;
  asm volatile("{\n.reg .pred p;\nmbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\nselp.b32 %0, 1, 0, p;\n}\n"
               : "=r"(passed)
               : "r"(barrier_address(barrier)), "r"(parity)
               : "memory");
  return passed != 0;
#endif
}

// Waits until the phase of this parity has passed. A new barrier behaves as if the phase of parity 1 had. Without a
// limit, since that takes registers: another thread of the block watches over it with phase_wait_limited.
MOME_DEVICE void phase_wait(uint64_t* barrier, int parity) {
#if defined(MOME_EMULATION)
  while (!phase_passed(barrier, parity)) emulation::yield();
#else
  asm volatile(
      "{\n.reg .pred p;\nwait:\nmbarrier.try_wait.parity.shared::cta.b64 p, [%0], %1;\n"
      "@p bra done;\nbra wait;\ndone:\n}\n" ::"r"(barrier_address(barrier)),
      "r"(parity)
      : "memory");
#endif
}

// About 4 s on a device: no phase takes a thousandth of it, and other processes that share the device get their turns
// meanwhile. The emulation counts turns of a thread instead; a phase takes it some hundreds.
inline constexpr long long kMostWaitCycles = 1LL << 33;
inline constexpr int kMostWaitTurns = 1 << 16;

// As phase_wait; false when the phase did not pass in that time.
MOME_DEVICE bool phase_wait_limited(uint64_t* barrier, int parity) {
#if defined(MOME_EMULATION)
  for (int turn = 0; turn < kMostWaitTurns; turn++) {
    if (phase_passed(barrier, parity)) return true;
    emulation::yield();
  }
  return false;
#else
  if (phase_passed(barrier, parity)) return true;
  const long long began = clock64();
#pragma unroll 1
  while (!phase_passed(barrier, parity)) {
    if (clock64() - began > kMostWaitCycles) return false;
  }
  return true;
#endif
}

// Begins the copy of the box at (row, column) to shared memory (aligned to 1,024 bytes) for the barrier's current
// phase. One thread calls.
MOME_DEVICE void copy_box(void* to, const TensorMap* map, int row, int column, uint64_t* barrier) {
#if defined(MOME_EMULATION)
  emulation::copy_box(to, *map, row, column, barrier);
#elif defined(__CUDA_ARCH_FEAT_SM90_ALL)
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
      "[%0], [%1, {%3, %4}], [%2];\n" ::"r"(static_cast<uint32_t>(__cvta_generic_to_shared(to))),
      "l"(reinterpret_cast<uint64_t>(map)), "r"(barrier_address(barrier)), "r"(column), "r"(row)
      : "memory");
#endif
}

// A barrier of `threads` threads by number (1 .. 15; 0 is block_barrier's). Those that arrive do not wait.
MOME_DEVICE void named_barrier_wait(int number, int threads) {
#if defined(MOME_EMULATION)
  emulation::named_barrier(number, threads, true);
#else
  asm volatile("bar.sync %0, %1;\n" ::"r"(number), "r"(threads) : "memory");
#endif
}
MOME_DEVICE void named_barrier_arrive(int number, int threads) {
#if defined(MOME_EMULATION)
  emulation::named_barrier(number, threads, false);
#else
  asm volatile("bar.arrive %0, %1;\n" ::"r"(number), "r"(threads) : "memory");
#endif
}

// Gives registers of this warpgroup back, or takes some that others gave.
template <int kRegisters>
MOME_DEVICE void release_registers() {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;\n" ::"n"(kRegisters));
#endif
}
template <int kRegisters>
MOME_DEVICE void take_registers() {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;\n" ::"n"(kRegisters));
#endif
}

// Describes an operand in shared memory: rows of 128 bytes as copy_box leaves them, eight of them 1,024 bytes on.
// Further along the depth: add kDescriptorStep per 16 columns.
MOME_DEVICE uint64_t operand_descriptor(const void* rows) {
#if defined(MOME_EMULATION)
  const uint64_t address = emulation::shared_offset(rows);
#else
  const uint64_t address = __cvta_generic_to_shared(rows);
#endif
  return ((address & 0x3ffff) >> 4) | uint64_t{1} << 16 | uint64_t{1024 >> 4} << 32 | uint64_t{1} << 62;
}
inline constexpr uint64_t kDescriptorStep = 32 >> 4;

// Before the first product, and after other code has touched the sums.
MOME_DEVICE void wgmma_fence() {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  asm volatile("wgmma.fence.sync.aligned;\n" ::: "memory");
#endif
}
MOME_DEVICE void wgmma_commit() {
#if defined(MOME_EMULATION)
  emulation::wgmma_commit();
#elif defined(__CUDA_ARCH_FEAT_SM90_ALL)
  asm volatile("wgmma.commit_group.sync.aligned;\n" ::: "memory");
#endif
}
// Waits until at most kGroups groups of products are under way.
template <int kGroups>
MOME_DEVICE void wgmma_wait() {
#if defined(MOME_EMULATION)
  emulation::wgmma_wait(kGroups);
#elif defined(__CUDA_ARCH_FEAT_SM90_ALL)
  asm volatile("wgmma.wait_group.sync.aligned %0;\n" ::"n"(kGroups) : "memory");
#endif
}

// d [64, 2 * length] = a [64, 16] b^T [2 * length, 16] (+ d), by the four warps of a warpgroup. Warp w holds rows 16 w
// on; with g = lane / 4 and t = lane % 4, d[4 j ...] are (g, 8 j + 2 t), the next column, and both of row g + 8.
// (Register lists in parts of 32, as assembler text and as operands.)
// clang-format off
#define MOME_NAMES_0                                                         \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "   \
  "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define MOME_NAMES_32                                                                \
  "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
  "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define MOME_NAMES_64                                                                \
  "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, " \
  "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95"
#define MOME_SUMS_8(i)                                          \
  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]),   \
  "+f"(d[i + 4]), "+f"(d[i + 5]), "+f"(d[i + 6]), "+f"(d[i + 7])
#define MOME_SUMS_32(i) MOME_SUMS_8(i), MOME_SUMS_8(i + 8), MOME_SUMS_8(i + 16), MOME_SUMS_8(i + 24)
// The three operands behind the sums are the descriptors and whether to add.
#define MOME_WGMMA(columns, names, a_name, b_name, add_name, ...)             \
  asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, " add_name ", 0;\n"          \
               "wgmma.mma_async.sync.aligned.m64n" columns "k16.f32.bf16.bf16 " \
               "{" names "}, " a_name ", " b_name ", p, 1, 1, 0, 0;\n}\n"     \
               : __VA_ARGS__                                                  \
               : "l"(a), "l"(b), "r"(static_cast<int>(add)))
// clang-format on

MOME_DEVICE void wgmma_bf16(float (&d)[32], uint64_t a, uint64_t b, bool add) {
#if defined(MOME_EMULATION)
  emulation::wgmma(64, d, a, b, add);
#elif defined(__CUDA_ARCH_FEAT_SM90_ALL)
  MOME_WGMMA("64", MOME_NAMES_0, "%32", "%33", "%34", MOME_SUMS_32(0));
#endif
}

MOME_DEVICE void wgmma_bf16(float (&d)[64], uint64_t a, uint64_t b, bool add) {
#if defined(MOME_EMULATION)
  emulation::wgmma(128, d, a, b, add);
#elif defined(__CUDA_ARCH_FEAT_SM90_ALL)
  MOME_WGMMA("128", MOME_NAMES_0 ", " MOME_NAMES_32, "%64", "%65", "%66", MOME_SUMS_32(0), MOME_SUMS_32(32));
#endif
}

MOME_DEVICE void wgmma_bf16(float (&d)[96], uint64_t a, uint64_t b, bool add) {
#if defined(MOME_EMULATION)
  emulation::wgmma(192, d, a, b, add);
#elif defined(__CUDA_ARCH_FEAT_SM90_ALL)
  MOME_WGMMA("192", MOME_NAMES_0 ", " MOME_NAMES_32 ", " MOME_NAMES_64, "%96", "%97", "%98", MOME_SUMS_32(0),
             MOME_SUMS_32(32), MOME_SUMS_32(64));
#endif
}

#undef MOME_WGMMA
#undef MOME_SUMS_32
#undef MOME_SUMS_8
#undef MOME_NAMES_64
#undef MOME_NAMES_32
#undef MOME_NAMES_0

}  // namespace mome::cuda
