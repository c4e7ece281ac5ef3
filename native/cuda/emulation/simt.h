// Runs CUDA kernels on the host: the same source, compiled by the host's compiler, one fiber per thread of a block. It
// is there to find wrong indices, layouts and missing barriers on machines without a GPU; it says nothing about speed,
// and little about races: the order of warps is shuffled, so that a missing barrier has many chances to show, but no
// more than that.
//
// Blocks run one after the other. Threads of a warp meet in `collective`, threads of a block in `barrier`. Shared
// memory starts as NaNs. Copies begun by cp_async land as late as the program allows: when their thread waits for them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

namespace mome::cuda::emulation {

struct Dim3 {
  unsigned x = 1, y = 1, z = 1;
};

inline constexpr int kWarp = 32;

struct Copy {
  void* to;
  const void* from;
  uint32_t bytes, zeros;  // zeros follow the bytes
};

// A warp's part of a product of its warpgroup (hopper.h), begun and not yet waited for.
struct Product {
  int columns, warp;  // warp: which quarter of the 64 rows
  uint64_t a, b;
  bool add;
  float* d[kWarp];
};

struct TensorMap {
  const uint16_t* matrix = nullptr;
  int64_t rows = 0, columns = 0, pitch = 0;
  int box_rows = 0;
};

// A bulk copy (hopper.h) under way: the box at (row, column), for the barrier's phase.
struct Box {
  void* to;
  TensorMap map;
  int row, column;
  uint64_t* barrier;
};

struct NamedBarrier {
  int arrived = 0;
  uint64_t generation = 0;
};

struct Warp {
  void* slots[kWarp] = {};
  int arrived = 0;
  int alive = 0;
  uint64_t generation = 0;
  std::vector<std::vector<Product>> products;  // by group, oldest first; the last one is still open
};

struct Lane {
  void* stack_pointer = nullptr;
  Dim3 thread;
  int index = 0;  // in its warp
  Warp* warp = nullptr;
  bool finished = false;
  std::vector<std::vector<Copy>> groups;  // copies under way, oldest group first; the last one is still open
};

// A fault that MOME_EMULATION_PLANT asks for, to see what a failing kernel leaves behind. All but `misaligned` are in
// the bulk copies and warpgroup products of hopper.h, so that they meet bfloat16 products as devices of capability 9.0
// take them, and nothing else.
enum class Plant {
  none,
  hang,        // the second copy that each block begins never comes
  endless,     // the first such copy does not return, and nothing notices
  wrong,       // products of row 17 of 64 and column 3 of 8 have the wrong sign
  misaligned,  // shared memory begins 16 bytes late
};

struct Block {
  Dim3 index, dim, grid;
  std::byte* shared = nullptr;
  int waiting = 0, alive = 0;
  uint64_t generation = 0;
  NamedBarrier named[16];
  std::vector<Box> boxes;
  int boxes_begun = 0;
  Plant plant = Plant::none;
  uint64_t trap = 0;  // trap_word of the thread that gave up
};

// The running thread and its block.
Lane& lane();
Block& block();

// Heads or tails, the same in every run.
bool toss();
// Lets other threads of the block go on.
void yield();
void barrier();
// Ends the launch: run_grid returns `word`, and no thread of the block goes on.
void give_up(uint64_t word);

// Every lane of the warp brings its `mine`; the last to come runs `operation(slots)` for all.
template <typename Slot, typename Operation>
void collective(Slot& mine, Operation operation) {
  Warp& warp = *lane().warp;
  warp.slots[lane().index] = &mine;
  const uint64_t generation = warp.generation;
  if (++warp.arrived == warp.alive) {
    operation(reinterpret_cast<Slot* const*>(warp.slots));
    warp.arrived = 0;
    warp.generation++;
  } else {
    while (warp.generation == generation) yield();
  }
}

// What lane `from` of the warp brings.
template <typename T>
T exchange(T value, int from) {
  struct Slot {
    T value, result;
    int from;
  } slot{value, value, from};
  collective(slot, [](Slot* const* slots) {
    for (int i = 0; i < kWarp; i++) slots[i]->result = slots[slots[i]->from]->value;
  });
  return slot.result;
}

// One lane's cp.async, commit_group, wait_group.
void copy_async(void* to, const void* from, uint32_t bytes, uint32_t zeros);
void copy_commit();
void copy_wait(size_t groups_left);

using Body = void (*)(void* context);
// Runs `body(context)` for every thread of every block. Returns 0, or the word of the thread that gave up.
uint64_t run_grid(Dim3 grid, Dim3 dim, size_t shared_bytes, Body body, void* context);

}  // namespace mome::cuda::emulation
