// How the work of products and runs is cut, by kind of processor: a table of numbers that were measured. None of them
// changes a bit of any result: every element is one chain of sums, whichever way the work around it is cut.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "core/status.h"

namespace mome {

struct Blocking {
  int64_t depth_steps = 768;        // steps of the depth at a time: 96 KiB of a panel of AVX-512
  int64_t block_tiles = 16;         // tiles of rows in an item: with depth_steps 672 KiB of AVX-512
  int64_t item_panels = 8;          // panels of an item: its rows are read again for each
  int64_t items_per_thread = 4;     // enough to even out threads that run at different speeds
  int64_t row_block = 512;          // rows packed at a time, which bounds the workspace too
  int64_t group_bytes = 400 << 10;  // 8-bit weights of an item, which stay in the second-level cache
  int64_t run_bytes = 8 << 20;  // q, k and v of a run, which stay in the last-level cache until attention reads them
};

// A field by name, and the numbers it may have.
struct BlockingField {
  const char* name;
  int64_t Blocking::* field;
  int64_t least, most;
};
std::span<const BlockingField> blocking_fields();

// A row of the table: the processors it is for, and the machine it was measured on.
struct BlockingRow {
  const char* vendor;  // as cpuid spells it
  int family, first_model, last_model;
  const char* measured;
  Blocking blocking;
};
std::span<const BlockingRow> blocking_table();

// A kind of processor as cpuid names it.
struct ProcessorKind {
  std::string vendor;
  int family = 0, model = 0;
};
ProcessorKind this_processor();
// Null for a processor that no row is for.
const BlockingRow* blocking_row(const ProcessorKind& kind);

// What this process uses: what set_blocking gave it, `MOME_BLOCKING` where that is set, the row of this processor, or
// the defaults. The object lives as long as the process.
const Blocking& blocking();
// Where it is from.
const std::string& blocking_source();
// Why `MOME_BLOCKING` cannot be used.
const Status& blocking_status();
// For measuring: from now on this is used. No run may go on meanwhile, since runs take memory by it.
void set_blocking(const Blocking& fresh);

// Reads `depth_steps=768,item_panels=8`; fields that are not named keep their values.
Status parse_blocking(std::string_view text, Blocking& blocking);

}  // namespace mome
