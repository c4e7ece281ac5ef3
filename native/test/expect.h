// What a test program checks: each expectation that does not hold is printed and counted.
#pragma once

#include <cstdio>
#include <string>

namespace mome::test {

inline int checks = 0, failures = 0;

inline void expect(bool condition, const std::string& what) {
  checks++;
  if (condition) return;
  failures++;
  std::printf("FAILED %s\n", what.c_str());
}

}  // namespace mome::test
