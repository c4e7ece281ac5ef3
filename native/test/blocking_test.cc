// How work is cut: reading of `MOME_BLOCKING`, and which row of the table is for a processor.
#include "core/blocking.h"

#include <cstdio>
#include <set>
#include <string>

#include "test/expect.h"

namespace {

using namespace mome;
using test::expect;

void reads_named_fields_and_keeps_others() {
  Blocking blocking;
  const Status status = parse_blocking("depth_steps=384,item_panels=4", blocking);
  expect(status.ok(), "two fields are read");
  expect(blocking.depth_steps == 384 && blocking.item_panels == 4, "they have their numbers");
  expect(blocking.block_tiles == Blocking().block_tiles && blocking.run_bytes == Blocking().run_bytes,
         "the others keep theirs");
}

void refuses_what_is_no_number_in_range() {
  for (const char* text : {"depth_steps", "depth_steps=", "depth_steps=8", "depth_steps=-768", "depth_steps=768x",
                           "depth_steps=99999999999999999999", "depth=768", "=768", "item_panels=4,depth_steps=1",
                           "item_panels=4,,row_block=512", "row_block=0x100"}) {
    Blocking blocking;
    const Status status = parse_blocking(text, blocking);
    expect(!status.ok() && status.code() == Code::invalid_argument, text);
    expect(status.message().find("MOME_BLOCKING") == 0, status.message().c_str());
    expect(blocking.item_panels == Blocking().item_panels, "nothing is changed by a text that is refused");
  }
}

void every_field_can_be_named() {
  std::set<std::string> names;
  for (const BlockingField& field : blocking_fields()) {
    names.insert(field.name);
    Blocking blocking;
    expect(parse_blocking(std::string(field.name) + "=" + std::to_string(field.least), blocking).ok(), field.name);
    expect(blocking.*field.field == field.least, field.name);
    const int64_t usual = Blocking().*field.field;
    expect(usual > field.least && usual < field.most, "the default is inside the range");
  }
  expect(names.size() * sizeof(int64_t) == sizeof(Blocking), "every number of Blocking has a name");
}

void rows_are_for_their_processors() {
  for (const BlockingRow& row : blocking_table()) {
    expect(blocking_row({row.vendor, row.family, row.first_model}) == &row, "the first model");
    expect(blocking_row({row.vendor, row.family, row.last_model}) == &row, "the last model");
    expect(blocking_row({"GenuineFake", row.family, row.first_model}) == nullptr, "another vendor");
    expect(blocking_row({row.vendor, row.family + 100, row.first_model}) == nullptr, "another family");
    expect(std::string(row.measured) != "", "where it was measured");
  }
  expect(blocking_row({}) == nullptr, "an unknown processor");
  expect(blocking_status().ok(), "this process uses the table or the defaults");
}

}  // namespace

int main() {
  reads_named_fields_and_keeps_others();
  refuses_what_is_no_number_in_range();
  every_field_can_be_named();
  rows_are_for_their_processors();
  if (test::failures == 0) std::printf("blocking: ok\n");
  return test::failures == 0 ? 0 : 1;
}
