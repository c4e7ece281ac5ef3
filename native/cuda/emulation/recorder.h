// The queue of an emulated device: runs launches at once, or keeps them while a recording is made.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "core/status.h"

namespace mome::cuda::emulation {

struct Recorder {
  bool recording = false;
  std::vector<std::function<Status()>> work;
  int64_t launches_left = INT64_MAX;
  Status lost;  // once a launch has failed, everything does

  Status launch(const std::function<Status()>& run) {
    if (!lost.ok()) return lost;
    if (recording) {
      work.push_back(run);
      return {};
    }
    if (launches_left-- <= 0) return lost = error(Code::device_unavailable, "device: lost: a kernel failed");
    return run();
  }
};

}  // namespace mome::cuda::emulation
