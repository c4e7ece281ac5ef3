// Where the wrong elements of a kernel's output lie: what tells a wrong index, a wrong lane or a wrong tile from
// another.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "test/harness.h"

namespace mome::test {

struct MappedOutput {
  std::string_view op, type;  // "float32" or "bfloat16"
  std::string name;           // of the case
  std::string output;
  int64_t columns = 0;  // of a row; 0 or no divisor of the size: the whole output is taken as one row
  double bound = 0;     // relative L2 that the case allows
};

// A line of JSON, {"map": {...}}, without its end. An element is wrong where it lies further from the expected one than
// eight times `bound` of the root of the mean square, or is not finite. "byRow64", "byColumn8" and "byTile" (of 64 x 64
// elements) are shares of wrong elements: of the rows that lie so far behind a multiple of 64, of the columns that lie
// so far behind a multiple of 8, and of the tiles that have any, the first 64 of them.
std::string error_map(const MappedOutput& where, const Tensor& actual, const Tensor& expected);

// Products of bfloat16 operands of which one is an identity, so that each result names the row, the column or the place
// along the depth that was read: numbers from 1 on, exact in bfloat16. Fails with a printed map for each that is not
// exactly right. Returns how many ran.
int probe_products(const std::shared_ptr<Device>& device);

}  // namespace mome::test
