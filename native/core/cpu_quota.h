#pragma once

#include <string>

namespace mome {

// Whole cores, rounded up, that control groups leave this process; 0 where none has a quota. The least quota on the way
// from the group of the process to the root counts: systemd and Kubernetes set it in nested groups. `root` is the
// folder that holds `proc/self/cgroup` and `sys/fs/cgroup`.
int quota_cores(const std::string& root = "");

}  // namespace mome
