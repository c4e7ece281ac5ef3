#include "cuda/emulation/hopper.h"

#include <bit>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "cuda/emulation/simt.h"
#include "cuda/primitives/hopper.h"

namespace mome::cuda {

Status make_tensor_map(const bf16* matrix, int64_t rows, int64_t columns, int64_t pitch, int box_rows, TensorMap& map) {
  if (reinterpret_cast<uintptr_t>(matrix) % 16 != 0 || pitch % 8 != 0 || box_rows > 256)
    return error(Code::internal, "tensor map: expected 16-byte rows");
  map = {reinterpret_cast<const uint16_t*>(matrix), rows, columns, pitch, box_rows};
  return {};
}

uint64_t* trap_report() { return nullptr; }  // run_grid returns the word

namespace emulation {
namespace {

// The state of a barrier, stored as the bits of a 64-bit word in shared memory.
struct Phase {
  uint32_t bytes;    // still to come
  uint16_t pending;  // arrivals
  uint16_t arrivals : 15;
  uint16_t parity : 1;  // of the phase under way
};
static_assert(sizeof(Phase) == sizeof(uint64_t));

Phase load(const uint64_t* barrier) { return std::bit_cast<Phase>(*barrier); }

void store(uint64_t* barrier, Phase phase) {
  if (phase.pending == 0 && phase.bytes == 0) {
    phase.parity ^= 1;
    phase.pending = phase.arrivals;
  }
  *barrier = std::bit_cast<uint64_t>(phase);
}

float element(uint16_t bits) { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }

// Element (row, column) of an operand of 16 columns, found as the hardware does: address bits 4 to 6, which name a
// chunk of 16 bytes, are xor-ed with the row modulo 8.
float operand(uint64_t descriptor, int row, int column) {
  const uint64_t start = (descriptor & 0x3fff) << 4, stride = (descriptor >> 32 & 0x3fff) << 4;
  const uint64_t linear = start + static_cast<uint64_t>(row / 8) * stride + static_cast<uint64_t>(row % 8) * 128 +
                          static_cast<uint64_t>(column) * 2;
  const uint64_t address = linear ^ ((linear >> 7 & 7) << 4);
  uint16_t bits;
  std::memcpy(&bits, block().shared + address, sizeof bits);
  return element(bits);
}

struct Slot {
  float* d;
};

void multiply(const Product& product) {
  for (int lane = 0; lane < kWarp; lane++) {
    for (int half = 0; half < 2; half++) {
      const int row = product.warp * 16 + lane / 4 + 8 * half;
      for (int column = 0; column < product.columns; column++) {
        if (column % 8 / 2 != lane % 4) continue;
        float sum = 0;
        for (int k = 0; k < 16; k++) sum += operand(product.a, row, k) * operand(product.b, column, k);
        if (block().plant == Plant::wrong && row == 17 && column % 8 == 3) sum = -sum;
        float& to = product.d[lane][column / 8 * 4 + 2 * half + column % 2];
        to = product.add ? to + sum : sum;
      }
    }
  }
}

void land(const Box& box) {
  auto* out = static_cast<uint16_t*>(box.to);
  for (int r = 0; r < box.map.box_rows; r++) {
    for (int c = 0; c < kBoxColumns; c++) {
      const bool inside = box.row + r < box.map.rows && box.column + c < box.map.columns;
      out[r * kBoxColumns + ((c / 8 ^ (r & 7)) * 8) + c % 8] =
          inside ? box.map.matrix[int64_t{box.row + r} * box.map.pitch + box.column + c] : uint16_t{0};
    }
  }
  Phase phase = load(box.barrier);
  const auto bytes = static_cast<uint32_t>(box.map.box_rows * kBoxColumns * 2);
  if (phase.bytes < bytes) std::abort();  // more than was announced
  phase.bytes -= bytes;
  store(box.barrier, phase);
}

// Copies the boxes that this barrier's phase waits for.
void land_boxes(const uint64_t* barrier) {
  const auto waited_for = [&](const Box& box) { return box.barrier == barrier; };
  for (const Box& box : block().boxes) {
    if (waited_for(box)) land(box);
  }
  std::erase_if(block().boxes, waited_for);
}

}  // namespace

void phase_init(uint64_t* barrier, int arrivals) {
  Phase phase{};
  phase.arrivals = static_cast<uint16_t>(arrivals);
  phase.pending = phase.arrivals;
  *barrier = std::bit_cast<uint64_t>(phase);
}

void phase_arrive(uint64_t* barrier, int expected_bytes) {
  Phase phase = load(barrier);
  if (phase.pending == 0) std::abort();
  phase.bytes += static_cast<uint32_t>(expected_bytes);
  phase.pending--;
  store(barrier, phase);
}

bool phase_passed(uint64_t* barrier, int parity) {
  if (load(barrier).parity == parity) land_boxes(barrier);
  return load(barrier).parity != parity;
}

void copy_box(void* to, const TensorMap& map, int row, int column, uint64_t* barrier) {
  if (reinterpret_cast<uintptr_t>(to) % 1024 != 0) std::abort();
  const Box box{to, map, row, column, barrier};
  const int begun = ++block().boxes_begun;
  while (block().plant == Plant::endless) std::this_thread::sleep_for(std::chrono::hours(1));
  if (block().plant == Plant::hang && begun == 2) return;
  if (toss())
    land(box);
  else
    block().boxes.push_back(box);
}

void named_barrier(int number, int threads, bool wait) {
  NamedBarrier& barrier = block().named[number];
  const uint64_t generation = barrier.generation;
  if (++barrier.arrived == threads) {
    barrier.arrived = 0;
    barrier.generation++;
    return;
  }
  while (wait && barrier.generation == generation) yield();
}

uint64_t shared_offset(const void* pointer) {
  return static_cast<uint64_t>(static_cast<const std::byte*>(pointer) - block().shared);
}

void wgmma(int columns, float* d, uint64_t a, uint64_t b, bool add) {
  Slot slot{d};
  const int warp = static_cast<int>(lane().thread.x) / kWarp % 4;
  Warp& of = *lane().warp;
  collective(slot, [&](Slot* const* slots) {
    Product product{columns, warp, a, b, add, {}};
    for (int i = 0; i < kWarp; i++) product.d[i] = slots[i]->d;
    if (of.products.empty()) of.products.emplace_back();
    of.products.back().push_back(product);
  });
}

void wgmma_commit() {
  int nothing = 0;
  Warp& of = *lane().warp;
  collective(nothing, [&](int* const*) { of.products.emplace_back(); });
}

void wgmma_wait(int groups_left) {
  int nothing = 0;
  Warp& of = *lane().warp;
  collective(nothing, [&](int* const*) {
    while (static_cast<int>(of.products.size()) > groups_left + 1) {
      for (const Product& product : of.products.front()) multiply(product);
      of.products.erase(of.products.begin());
    }
  });
}

}  // namespace emulation
}  // namespace mome::cuda
