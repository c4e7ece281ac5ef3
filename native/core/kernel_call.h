// One kernel outside a program, with workspace of its own: how tests, benches and the addon run kernels.
#pragma once

#include <cstddef>
#include <memory>

#include "core/kernel.h"
#include "core/memory.h"

namespace mome {

class KernelCall {
 public:
  // Finds the kernel of `target` for these arguments and reserves its workspace. The arguments are copied. The memory
  // they point to, and the pool, must live as long as the call is used. `guard_bytes` of memory follow the workspace.
  // Fails with unsupported where there is no such kernel, and with out_of_memory.
  template <typename Args>
  Status prepare(Target target, ThreadPool& pool, const Args& args, size_t guard_bytes = 0) {
    return prepare(target, pool, Args::kOp, Args::kDirection, std::make_shared<const Args>(args), guard_bytes);
  }

  // Runs the kernel; as often as wanted.
  Status run();

  const Kernel& kernel() const { return *kernel_; }
  const void* args() const { return args_.get(); }
  std::byte* workspace() const { return workspace_.data(); }
  size_t workspace_bytes() const { return workspace_bytes_; }

 private:
  Status prepare(Target target, ThreadPool& pool, std::string_view op, Direction direction,
                 std::shared_ptr<const void> args, size_t guard_bytes);

  const Kernel* kernel_ = nullptr;
  ThreadPool* pool_ = nullptr;
  std::shared_ptr<const void> args_;
  AlignedMemory workspace_;
  size_t workspace_bytes_ = 0;
};

// Prepares a kernel and runs it once.
template <typename Args>
Status run_kernel(Target target, ThreadPool& pool, const Args& args) {
  KernelCall call;
  MOME_RETURN_IF_ERROR(call.prepare(target, pool, args));
  return call.run();
}

}  // namespace mome
