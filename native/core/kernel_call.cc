#include "core/kernel_call.h"

namespace mome {

Status KernelCall::prepare(Target target, ThreadPool& pool, std::string_view op, Direction direction,
                           std::shared_ptr<const void> args, size_t guard_bytes) {
  kernel_ = kernel_table(target).find(op, direction, target);
  if (kernel_ == nullptr) {
    return error(Code::unsupported, "no kernel %s.%s for target %s", op.data(), direction_name(direction).data(),
                 target_name(target).data());
  }
  pool_ = &pool;
  args_ = std::move(args);
  workspace_bytes_ = kernel_->workspace == nullptr ? 0 : kernel_->workspace(args_.get(), pool.threads());
  if (!workspace_.reserve(workspace_bytes_ + guard_bytes)) {
    return error(Code::out_of_memory, "%s: no memory for a workspace of %zu bytes", op.data(), workspace_bytes_);
  }
  return {};
}

Status KernelCall::run() {
  OpContext context{*pool_, workspace_.data(), workspace_bytes_};
  return kernel_->run(args_.get(), context);
}

}  // namespace mome
