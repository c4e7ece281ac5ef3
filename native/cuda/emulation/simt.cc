#include "cuda/emulation/simt.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <utility>

#include "cuda/config/trap_report.h"

namespace mome::cuda::emulation {
namespace {

constexpr size_t kStackBytes = size_t{64} << 10;

// Saves the callee's registers on the stack it leaves and takes them from the one it enters (System V x86-64).
extern "C" void mome_emulation_switch(void** from, void* to);
asm(R"(
.text
.type mome_emulation_switch,@function
mome_emulation_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size mome_emulation_switch,.-mome_emulation_switch
)");

struct Scheduler {
  Block block;
  std::vector<Lane> lanes;
  std::vector<Warp> warps;
  std::vector<std::byte> stacks, shared;
  std::vector<int> order;  // warps, shuffled
  void* main_stack = nullptr;
  int current = 0;
  Body body = nullptr;
  void* context = nullptr;
  std::mt19937 random{1};
};

thread_local std::unique_ptr<Scheduler> scheduler;

Plant planted() {
  const char* wanted = std::getenv("MOME_EMULATION_PLANT");
  if (wanted == nullptr) return Plant::none;
  constexpr std::pair<const char*, Plant> kPlants[] = {
      {"hang", Plant::hang}, {"endless", Plant::endless}, {"wrong", Plant::wrong}, {"misaligned", Plant::misaligned}};
  for (const auto& [name, plant] : kPlants) {
    if (std::strcmp(wanted, name) == 0) return plant;
  }
  std::fprintf(stderr, "MOME_EMULATION_PLANT: expected hang, endless, wrong or misaligned, got %s\n", wanted);
  std::abort();
}

void entry() {
  Scheduler& s = *scheduler;
  s.body(s.context);
  Lane& mine = s.lanes[s.current];
  mine.finished = true;
  mine.warp->alive--;
  s.block.alive--;
  // The others of the barrier may have been waiting for this thread alone.
  if (s.block.alive > 0 && s.block.waiting == s.block.alive) {
    s.block.waiting = 0;
    s.block.generation++;
  }
  void* unused = nullptr;
  mome_emulation_switch(&unused, s.main_stack);
  std::abort();  // a finished thread is never resumed
}

void enter(int index) {
  Scheduler& s = *scheduler;
  s.current = index;
  mome_emulation_switch(&s.main_stack, s.lanes[index].stack_pointer);
}

void prepare(Lane& lane, std::byte* stack) {
  // As mome_emulation_switch leaves a stack: six registers, then where to return to. The ABI wants (%rsp + 8) % 16 == 0
  // there.
  auto* top = reinterpret_cast<uintptr_t*>(reinterpret_cast<uintptr_t>(stack + kStackBytes) & ~uintptr_t{15});
  top -= 2;
  *top = reinterpret_cast<uintptr_t>(&entry);
  top -= 6;
  std::memset(top, 0, 6 * sizeof *top);
  lane.stack_pointer = top;
}

void run_block() {
  Scheduler& s = *scheduler;
  const int threads = static_cast<int>(s.lanes.size());
  std::memset(s.shared.data(), 0xff, s.shared.size());
  s.block.waiting = 0;
  s.block.alive = threads;
  for (NamedBarrier& named : s.block.named) named = NamedBarrier();
  s.block.boxes.clear();
  s.block.boxes_begun = 0;
  for (Warp& warp : s.warps) warp = Warp();
  for (int i = 0; i < threads; i++) {
    Lane& lane = s.lanes[i];
    const unsigned t = static_cast<unsigned>(i);
    lane.thread = {t % s.block.dim.x, t / s.block.dim.x % s.block.dim.y, t / (s.block.dim.x * s.block.dim.y)};
    lane.index = i % kWarp;
    lane.warp = &s.warps[i / kWarp];
    lane.warp->alive++;
    lane.finished = false;
    lane.groups.assign(1, {});
    prepare(lane, s.stacks.data() + static_cast<size_t>(i) * kStackBytes);
  }
  // A warp goes on as long as it can before the next has its turn: the greatest lead a missing barrier would allow.
  constexpr int kTurns = 64;
  while (s.block.alive > 0) {
    std::shuffle(s.order.begin(), s.order.end(), s.random);
    for (const int w : s.order) {
      for (int turn = 0; turn < kTurns; turn++) {
        for (int i = w * kWarp; i < std::min(threads, (w + 1) * kWarp); i++) {
          if (!s.lanes[i].finished) enter(i);
          if (s.block.trap != 0) return;
        }
      }
    }
  }
}

}  // namespace

Lane& lane() { return scheduler->lanes[scheduler->current]; }
bool toss() { return (scheduler->random() & 1) != 0; }
Block& block() { return scheduler->block; }

void yield() {
  Scheduler& s = *scheduler;
  mome_emulation_switch(&s.lanes[s.current].stack_pointer, s.main_stack);
}

void barrier() {
  Block& b = block();
  const uint64_t generation = b.generation;
  if (++b.waiting == b.alive) {
    b.waiting = 0;
    b.generation++;
    return;
  }
  while (b.generation == generation) yield();
}

void give_up(uint64_t word) {
  block().trap = word;
  for (;;) yield();
}

void copy_async(void* to, const void* from, uint32_t bytes, uint32_t zeros) {
  lane().groups.back().push_back({to, from, bytes, zeros});
}

void copy_commit() { lane().groups.emplace_back(); }

void copy_wait(size_t groups_left) {
  auto& groups = lane().groups;
  while (groups.size() > groups_left + 1) {
    for (const Copy& copy : groups.front()) {
      if (copy.bytes > 0) std::memcpy(copy.to, copy.from, copy.bytes);
      std::memset(static_cast<std::byte*>(copy.to) + copy.bytes, 0, copy.zeros);
    }
    groups.erase(groups.begin());
  }
}

uint64_t run_grid(Dim3 grid, Dim3 dim, size_t shared_bytes, Body body, void* context) {
  if (!scheduler) scheduler = std::make_unique<Scheduler>();
  Scheduler& s = *scheduler;
  const size_t threads = size_t{dim.x} * dim.y * dim.z;
  s.block.dim = dim;
  s.block.grid = grid;
  s.lanes.resize(threads);
  s.warps.resize((threads + kWarp - 1) / kWarp);
  s.stacks.resize(threads * kStackBytes);
  s.block.plant = planted();
  s.block.trap = 0;
  constexpr size_t kLate = 16;
  s.shared.resize(shared_bytes + kSharedAlignment + kLate);
  s.block.shared = reinterpret_cast<std::byte*>((reinterpret_cast<uintptr_t>(s.shared.data()) + kSharedAlignment - 1) &
                                                ~uintptr_t{kSharedAlignment - 1});
  if (s.block.plant == Plant::misaligned) s.block.shared += kLate;
  s.order.resize(s.warps.size());
  for (size_t i = 0; i < s.order.size(); i++) s.order[i] = static_cast<int>(i);
  s.body = body;
  s.context = context;
  for (unsigned z = 0; z < grid.z; z++) {
    for (unsigned y = 0; y < grid.y; y++) {
      for (unsigned x = 0; x < grid.x; x++) {
        s.block.index = {x, y, z};
        run_block();
        if (s.block.trap != 0) return s.block.trap;
      }
    }
  }
  return 0;
}

}  // namespace mome::cuda::emulation
