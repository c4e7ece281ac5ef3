// Runs one kernel on a device from arguments that point into this processor's memory.
#pragma once

#include <map>
#include <vector>

#include "core/device.h"
#include "test/device_args.h"

namespace mome::test {

// A device for tests, which kernels that this thread launches go to; null when there is none, `why` says why.
std::shared_ptr<Device> test_device(std::string& why);

// Moves what arguments point to. Every piece has a guard behind it, so that a kernel that writes too far is caught; two
// pointers to the same place stay the same place.
class DeviceMover {
 public:
  DeviceMover(const std::shared_ptr<Device>& device, WeightType rows) : device_(device), rows_(rows) {}

  template <typename T>
  void plain(T*& pointer, int64_t count) {
    move(pointer, count, sizeof(T), false, false);
  }
  void plain_out(float*& pointer, int64_t count) { move(pointer, count, sizeof(float), false, true); }
  void rows(const float*& pointer, int64_t count) {
    move(pointer, count, sizeof(float), rows_ == WeightType::bf16, false);
  }
  void rows_out(float*& pointer, int64_t count) {
    move(pointer, count, sizeof(float), rows_ == WeightType::bf16, true);
  }

  // Copies outputs back; fails when a guard was written to.
  Status finish();
  const Status& status() const { return status_; }

 private:
  struct Piece {
    void* host;
    int64_t count;
    size_t bytes;  // on the device
    bool halves, output;
    DeviceMemory memory;
  };
  template <typename T>
  void move(T*& pointer, int64_t count, size_t element, bool halves, bool output) {
    if (pointer == nullptr || count == 0) return;
    pointer =
        static_cast<T*>(place(const_cast<void*>(static_cast<const void*>(pointer)), count, element, halves, output));
  }
  void* place(void* host, int64_t count, size_t element, bool halves, bool output);

  std::shared_ptr<Device> device_;
  WeightType rows_;
  std::vector<Piece> pieces_;
  std::map<void*, size_t> by_host_;
  Status status_;
};

template <typename Args>
Status run_on_device(const std::shared_ptr<Device>& device, const Kernel& kernel, const Args& args, WeightType rows,
                     ThreadPool& pool) {
  if constexpr (requires(Args& a, DeviceMover& v) { visit(a, v); }) {
    Args moved = args;
    DeviceMover mover(device, rows);
    visit(moved, mover);
    MOME_RETURN_IF_ERROR(mover.status());
    const size_t bytes = kernel.workspace == nullptr ? 0 : kernel.workspace(&moved, 1);
    DeviceMemory workspace;
    MOME_RETURN_IF_ERROR(workspace.reserve(device, bytes));
    OpContext context{pool, workspace.data(), bytes, device->queue()};
    context.device.rows = rows;
    MOME_RETURN_IF_ERROR(kernel.run(&moved, context));
    return mover.finish();
  } else {
    return error(Code::unsupported, "%s.%s is not moved to devices", Args::kOp,
                 direction_name(Args::kDirection).data());
  }
}

}  // namespace mome::test
