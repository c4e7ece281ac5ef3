#include "core/blocking.h"

#include <algorithm>
#include <atomic>
#include <charconv>
#include <cstdlib>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace mome {
namespace {

constexpr BlockingField kFields[] = {
    {"depth_steps", &Blocking::depth_steps, 16, 1 << 16},  {"block_tiles", &Blocking::block_tiles, 1, 1024},
    {"item_panels", &Blocking::item_panels, 1, 1024},      {"items_per_thread", &Blocking::items_per_thread, 1, 64},
    {"row_block", &Blocking::row_block, 64, 1 << 14},      {"group_bytes", &Blocking::group_bytes, 1 << 10, 64 << 20},
    {"run_bytes", &Blocking::run_bytes, 1 << 10, 1 << 30},
};

// `mome bench --tune` measures such a row and prints it.
constexpr BlockingRow kTable[] = {
    {"AuthenticAMD", 26, 0x00, 0xff, "AMD EPYC (Zen 5), 2 cores, avx512_bf16", {}},
};

struct Choice {
  Blocking blocking;
  std::string source = "defaults, this kind of processor was not measured";
  Status status;
};

Choice choose() {
  Choice choice;
  if (const BlockingRow* row = blocking_row(this_processor())) {
    choice.blocking = row->blocking;
    choice.source = std::string("measured on ") + row->measured;
  }
  const char* text = std::getenv("MOME_BLOCKING");
  if (text == nullptr || *text == '\0') return choice;
  choice.status = parse_blocking(text, choice.blocking);
  if (choice.status.ok()) choice.source = "MOME_BLOCKING";
  return choice;
}

// None is ever destroyed: a run may still go on when the process ends.
std::atomic<const Choice*>& current() {
  static std::atomic<const Choice*> chosen{new Choice(choose())};
  return chosen;
}
const Choice& choice() { return *current().load(std::memory_order_acquire); }

}  // namespace

std::span<const BlockingField> blocking_fields() { return kFields; }
std::span<const BlockingRow> blocking_table() { return kTable; }
const Blocking& blocking() { return choice().blocking; }
const std::string& blocking_source() { return choice().source; }
const Status& blocking_status() { return choice().status; }

void set_blocking(const Blocking& fresh) {
  if (std::ranges::all_of(kFields,
                          [&](const BlockingField& each) { return fresh.*each.field == blocking().*each.field; }))
    return;
  current().store(new Choice{fresh, "set for this process", {}}, std::memory_order_release);
}

ProcessorKind this_processor() {
  ProcessorKind kind;
#if defined(__x86_64__)
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (!__get_cpuid(0, &a, &b, &c, &d)) return {};
  for (const unsigned part : {b, d, c}) kind.vendor.append(reinterpret_cast<const char*>(&part), sizeof part);
  if (!__get_cpuid(1, &a, &b, &c, &d)) return {};
  kind.family = static_cast<int>((a >> 8) & 15);
  kind.model = static_cast<int>((a >> 4) & 15);
  if (kind.family == 6 || kind.family == 15) kind.model += static_cast<int>((a >> 16) & 15) << 4;
  if (kind.family == 15) kind.family += static_cast<int>((a >> 20) & 255);
#endif
  return kind;
}

const BlockingRow* blocking_row(const ProcessorKind& kind) {
  for (const BlockingRow& row : kTable) {
    if (kind.vendor == row.vendor && kind.family == row.family && kind.model >= row.first_model &&
        kind.model <= row.last_model)
      return &row;
  }
  return nullptr;
}

Status parse_blocking(std::string_view text, Blocking& blocking) {
  Blocking read = blocking;
  while (!text.empty()) {
    const std::string_view part = text.substr(0, text.find(','));
    text.remove_prefix(std::min(text.size(), part.size() + 1));
    const size_t equals = std::min(part.find('='), part.size());
    const std::string_view name = part.substr(0, equals), digits = part.substr(std::min(equals + 1, part.size()));
    const auto field = std::ranges::find_if(kFields, [&](const BlockingField& each) { return name == each.name; });
    if (field == std::end(kFields))
      return error(Code::invalid_argument, "MOME_BLOCKING: expected fields such as depth_steps=768, got \"%.*s\"",
                   static_cast<int>(std::min<size_t>(part.size(), 40)), part.data());
    int64_t value = 0;
    const auto [end, problem] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (problem != std::errc() || end != digits.data() + digits.size() || value < field->least || value > field->most)
      return error(Code::invalid_argument, "MOME_BLOCKING: expected %s from %lld to %lld, got \"%.*s\"", field->name,
                   static_cast<long long>(field->least), static_cast<long long>(field->most),
                   static_cast<int>(std::min<size_t>(digits.size(), 40)), digits.data());
    read.*(field->field) = value;
  }
  blocking = read;
  return {};
}

}  // namespace mome
