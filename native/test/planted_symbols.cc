// Every kind of symbol that a file compiled for one instruction set must not have; isa_symbols.cmake must report each
// of them.
#include <cstdlib>

namespace mome {

[[gnu::noinline]] inline int planted_inline(int value) { return value * 3; }
[[gnu::noinline]] int planted_global(int value) { return value * 5; }

namespace MOME_ISA {

template <typename T>
[[gnu::noinline]] T planted_template(T value) {
  return value * 7;
}
int planted_at_start = std::atoi("1");
int planted_own(int value) {
  return planted_inline(value) + planted_global(value) + planted_template(value);
}  // allowed

}  // namespace MOME_ISA
}  // namespace mome
