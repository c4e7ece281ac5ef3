#include "core/cpu_quota.h"

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <functional>
#include <limits>
#include <sstream>

namespace mome {
namespace {

constexpr int64_t kNone = std::numeric_limits<int64_t>::max();

int64_t cores_of(int64_t quota, int64_t period) { return quota > 0 && period > 0 ? (quota - 1) / period + 1 : kNone; }

// Version 2: "quota period", or "max period".
int64_t unified(const std::string& group) {
  std::ifstream file(group + "/cpu.max");
  int64_t quota = 0, period = 0;
  return file >> quota >> period ? cores_of(quota, period) : kNone;
}

// Version 1: two files; the quota is -1 where there is none.
int64_t legacy(const std::string& group) {
  std::ifstream quota_file(group + "/cpu.cfs_quota_us"), period_file(group + "/cpu.cfs_period_us");
  int64_t quota = 0, period = 0;
  return quota_file >> quota && period_file >> period ? cores_of(quota, period) : kNone;
}

// The least of a group and of those above it. A group outside the namespace of the process begins with "/..": then only
// the root of the mount can be read.
int64_t least_upwards(const std::string& mount, std::string group,
                      const std::function<int64_t(const std::string&)>& read) {
  if (group.rfind("/..", 0) == 0) group.clear();
  while (!group.empty() && group.back() == '/') group.pop_back();
  int64_t least = read(mount);
  for (; !group.empty(); group.erase(group.find_last_of('/'))) least = std::min(least, read(mount + group));
  return least;
}

bool names(const std::string& controllers, const std::string& name) {
  std::istringstream list(controllers);
  for (std::string each; std::getline(list, each, ',');) {
    if (each == name) return true;
  }
  return false;
}

}  // namespace

int quota_cores(const std::string& root) {
  const std::string mounts = root + "/sys/fs/cgroup";
  int64_t least = std::min(unified(mounts), legacy(mounts + "/cpu"));
  std::ifstream file(root + "/proc/self/cgroup");
  // A line is "hierarchy:controllers:group"; a group may have colons in its name.
  for (std::string line; std::getline(file, line);) {
    const size_t first = line.find(':'), second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos || second + 1 >= line.size() || line[second + 1] != '/') continue;
    const std::string controllers = line.substr(first + 1, second - first - 1), group = line.substr(second + 1);
    if (controllers.empty()) {
      least = std::min(least, least_upwards(mounts, group, unified));
    } else if (names(controllers, "cpu")) {
      for (const std::string& mount : {mounts + "/cpu", mounts + "/" + controllers}) {
        least = std::min(least, least_upwards(mount, group, legacy));
      }
    }
  }
  return least == kNone ? 0 : static_cast<int>(std::min<int64_t>(least, std::numeric_limits<int>::max()));
}

}  // namespace mome
