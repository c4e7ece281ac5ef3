// The queue of an emulated device: runs launches at once, or keeps them while a recording is made.
#pragma once

#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <vector>

#include "core/status.h"
#include "cuda/config/trap_report.h"

namespace mome::cuda::emulation {

// The device that kernels launched by this thread go to.
inline thread_local int device_of_thread = 0;

// Whether a device is lost, for all queues of it: once a launch has failed, everything does.
class Loss {
 public:
  Status status() {
    const std::lock_guard lock(mutex_);
    return status_;
  }
  Status lose(const std::string& why) {
    const std::lock_guard lock(mutex_);
    return status_ = error(Code::device_unavailable, "device: lost: %s", why.c_str());
  }

 private:
  std::mutex mutex_;
  Status status_;
};

struct Recorder {
  int device = 0;
  Loss* loss = nullptr;  // null: cannot be lost
  bool recording = false;
  std::vector<std::function<Status()>> work;
  int64_t launches_left = INT64_MAX;
  size_t most_shared = SIZE_MAX;  // bytes of a block

  Status lost() const { return loss == nullptr ? Status() : loss->status(); }
  // `run` returns 0, or the word of the thread that gave up (trap_word).
  Status launch(size_t shared, const std::function<uint64_t()>& run) {
    if (shared > most_shared)
      return error(Code::internal, "device: a launch asks for %zu bytes of shared memory, %zu are there", shared,
                   most_shared);
    return launch([this, run]() -> Status {
      const uint64_t trap = run();
      if (trap == 0) return {};
      const std::string why = describe_trap(trap);
      return loss != nullptr ? loss->lose(why) : error(Code::device_unavailable, "device: %s", why.c_str());
    });
  }
  Status launch(const std::function<Status()>& run) {
    MOME_RETURN_IF_ERROR(lost());
    if (device_of_thread != device)
      return error(Code::internal, "device: a launch for device %d by a thread of device %d", device, device_of_thread);
    if (recording) {
      work.push_back(run);
      return {};
    }
    if (loss != nullptr && launches_left-- <= 0) return loss->lose("a kernel failed");
    return run();
  }
};

}  // namespace mome::cuda::emulation
