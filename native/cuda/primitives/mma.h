// Tensor core products of sm_80 and later: fragments from shared memory, multiply-add, and asynchronous copies into
// shared memory.
#pragma once

#include "cuda/primitives/types.h"

namespace mome::cuda {

#if !defined(MOME_EMULATION)
MOME_DEVICE uint32_t shared_address(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}
#endif

// Copies `bytes` (0 .. 16) from device memory to 16 bytes of shared memory, zeros behind them, without waiting.
MOME_DEVICE void copy_async16(void* to, const void* from, int bytes) {
#if defined(MOME_EMULATION)
  if (reinterpret_cast<uintptr_t>(to) % 16 != 0 || reinterpret_cast<uintptr_t>(from) % 16 != 0) std::abort();
  emulation::copy_async(to, from, static_cast<uint32_t>(bytes), static_cast<uint32_t>(16 - bytes));
#else
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(shared_address(to)), "l"(from), "r"(bytes)
               : "memory");
#endif
}

MOME_DEVICE void copy_async4(void* to, const void* from, int bytes) {
#if defined(MOME_EMULATION)
  if (reinterpret_cast<uintptr_t>(to) % 4 != 0 || reinterpret_cast<uintptr_t>(from) % 4 != 0) std::abort();
  emulation::copy_async(to, from, static_cast<uint32_t>(bytes), static_cast<uint32_t>(4 - bytes));
#else
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;\n" ::"r"(shared_address(to)), "l"(from), "r"(bytes)
               : "memory");
#endif
}

// Closes the group of copies begun since the last call.
MOME_DEVICE void copy_commit() {
#if defined(MOME_EMULATION)
  emulation::copy_commit();
#else
  asm volatile("cp.async.commit_group;\n" ::: "memory");
#endif
}

// Waits until at most `kGroups` of this thread's groups are under way.
template <int kGroups>
MOME_DEVICE void copy_wait() {
#if defined(MOME_EMULATION)
  emulation::copy_wait(kGroups);
#else
  asm volatile("cp.async.wait_group %0;\n" ::"n"(kGroups) : "memory");
#endif
}

// Four 8x8 matrices of 16-bit elements. Lane 8 i + r gives the address of row r of matrix i; register i of lane l holds
// elements (l / 4, 2 (l % 4)) and the next of matrix i; transposed: of its transpose.
template <bool kTransposed>
MOME_DEVICE void load_matrices(const void* row, uint32_t (&out)[4]) {
#if defined(MOME_EMULATION)
  struct Slot {
    const uint16_t* row;
    uint32_t* out;
  } slot{static_cast<const uint16_t*>(row), out};
  if (reinterpret_cast<uintptr_t>(row) % 16 != 0) std::abort();
  emulation::collective(slot, [](Slot* const* slots) {
    for (int lane = 0; lane < kWarp; lane++) {
      for (int i = 0; i < 4; i++) {
        uint32_t pair[2];
        for (int half = 0; half < 2; half++) {
          const int r = kTransposed ? 2 * (lane % 4) + half : lane / 4,
                    c = kTransposed ? lane / 4 : 2 * (lane % 4) + half;
          pair[half] = slots[8 * i + r]->row[c];
        }
        slots[lane]->out[i] = pair[0] | pair[1] << 16;
      }
    }
  });
#else
  if constexpr (kTransposed) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];\n"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                 : "r"(shared_address(row))
                 : "memory");
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];\n"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                 : "r"(shared_address(row))
                 : "memory");
  }
#endif
}

// c [16, 8] += a [16, 16] b [16, 8]. With g = lane / 4 and t = lane % 4:
//   a: (g, 2t) (g + 8, 2t) (g, 2t + 8) (g + 8, 2t + 8), each and the next column
//   b: (2t, g) (2t + 8, g), each and the next row
//   c: (g, 2t) (g, 2t + 1) (g + 8, 2t) (g + 8, 2t + 1)
MOME_DEVICE void mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
#if defined(MOME_EMULATION)
  struct Slot {
    float* c;
    const uint32_t* a;
    uint32_t b[2];
  } slot{c, a, {b0, b1}};
  emulation::collective(slot, [](Slot* const* slots) {
    float left[16][16], right[16][8];
    const auto half = [](uint32_t word, int which) {
      return float_of_bits(which == 0 ? word << 16 : word & 0xffff0000u);
    };
    for (int lane = 0; lane < kWarp; lane++) {
      const int g = lane / 4, t = lane % 4;
      for (int i = 0; i < 4; i++) {
        for (int h = 0; h < 2; h++) left[g + 8 * (i % 2)][2 * t + 8 * (i / 2) + h] = half(slots[lane]->a[i], h);
      }
      for (int i = 0; i < 2; i++) {
        for (int h = 0; h < 2; h++) right[2 * t + 8 * i + h][g] = half(slots[lane]->b[i], h);
      }
    }
    for (int lane = 0; lane < kWarp; lane++) {
      for (int i = 0; i < 4; i++) {
        const int row = lane / 4 + 8 * (i / 2), column = 2 * (lane % 4) + i % 2;
        float sum = 0;
        for (int k = 0; k < 16; k++) sum += left[row][k] * right[k][column];
        slots[lane]->c[i] += sum;
      }
    }
  });
#else
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};\n"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#endif
}

}  // namespace mome::cuda
