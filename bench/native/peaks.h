// Loops of one kind of instruction, which measure its peak rate on this processor.
#pragma once

#include <cstdint>

#include "cpu/instruction_sets.h"

namespace mome {
namespace bench {

// A loop runs `steps` steps and returns something that depends on all of them, so that nothing is left out.
// `operations` of a step: a multiply-add counts as two.
struct PeakLoop {
  double (*run)(int64_t steps);
  double operations;
};

// What one instruction set can do. Where it lacks an instruction, `run` is null.
struct PeakLoops {
  PeakLoop fma;         // float32
  PeakLoop vnni;        // vpdpbusd: unsigned times signed bytes
  PeakLoop maddubs;     // the same without it: two vpmaddubsw, whose sums of 16 bits share one vpmaddwd
  PeakLoop bf16;        // vdpbf16ps
  PeakLoop tile_bytes;  // tdpbusd
  PeakLoop tile_bf16;   // tdpbf16ps
  double (*read)(const float* data, int64_t count);  // sums `count` floats, a multiple of 64, with wide loads
};

}  // namespace bench

// Of every instruction set that this build has, by peak_loops.cc.
#define MOME_DECLARE_PEAKS(name)            \
  namespace name {                          \
  extern const bench::PeakLoops peak_loops; \
  }
MOME_INSTRUCTION_SETS(MOME_DECLARE_PEAKS)
#undef MOME_DECLARE_PEAKS

}  // namespace mome
