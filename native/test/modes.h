// The modes of mome_kernels; kernels_main.cc says what each checks. They report by `fail`.
#pragma once

#include <string>

namespace mome::test {

void support();
void check();
void stop();
void rows();
void grad();

enum class Choice { all, subset, products, smoke };

// Cases that are left out of a run on a device: those of other ops or types. Empty: none.
struct Only {
  std::string op, type;
};

void cuda(Choice choice, const Only& only);
void cuda_probe();
void list_device_ops();

}  // namespace mome::test
