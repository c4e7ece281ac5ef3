// Quotas of control groups, from planted folders. Exit status 0 only if every check held.
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <string>
#include <utility>

#include "core/cpu_quota.h"
#include "test/expect.h"

namespace {

using namespace mome;
using test::expect;
namespace fs = std::filesystem;

using Files = std::initializer_list<std::pair<const char*, const char*>>;

// The quota that a root with these files gives.
int quota_of(Files files) {
  std::string root = (fs::temp_directory_path() / "mome-quota-XXXXXX").string();
  if (mkdtemp(root.data()) == nullptr) return -1;
  for (const auto& [path, text] : files) {
    const fs::path file = fs::path(root) / path;
    fs::create_directories(file.parent_path());
    std::ofstream(file) << text;
  }
  const int cores = quota_cores(root);
  fs::remove_all(root);
  return cores;
}

void unified_groups() {
  const char* self = "proc/self/cgroup";
  const char* top = "sys/fs/cgroup/cpu.max";
  expect(quota_of({}) == 0, "no groups: no quota");
  expect(quota_of({{top, "max 100000\n"}}) == 0, "max is no quota");
  expect(quota_of({{top, "150000 100000\n"}}) == 2, "one and a half cores are rounded up");
  expect(quota_of({{top, "100000 100000\n"}}) == 1 && quota_of({{top, "1000 100000\n"}}) == 1, "one core, and less");
  expect(quota_of({{top, "rubbish\n"}}) == 0 && quota_of({{top, "5 0\n"}}) == 0, "what is no quota counts for nothing");
  expect(quota_of({{self, "0::/\n"}, {top, "300000 100000"}}) == 3, "the group of a container is its root");
  const char* unit = "sys/fs/cgroup/system.slice/mome.service/cpu.max";
  const char* slice = "sys/fs/cgroup/system.slice/cpu.max";
  expect(quota_of({{self, "0::/system.slice/mome.service\n"}, {unit, "200000 100000\n"}}) == 2, "a nested group");
  expect(quota_of({{self, "0::/system.slice/mome.service\n"}, {unit, "max 100000\n"}, {slice, "400000 100000\n"}}) == 4,
         "a group between");
  expect(
      quota_of({{self, "0::/system.slice/mome.service\n"}, {unit, "800000 100000\n"}, {slice, "400000 100000\n"}}) == 4,
      "the least of several");
  expect(quota_of({{self, "0::/system.slice/other.service\n"}, {unit, "200000 100000\n"}}) == 0, "of another group");
  expect(quota_of({{self, "0::/../other\n"}, {top, "200000 100000\n"}}) == 2, "a group outside the namespace");
  expect(quota_of({{self, "0::/a:b\n"}, {"sys/fs/cgroup/a:b/cpu.max", "200000 100000\n"}}) == 2, "a colon in a name");
  expect(quota_of({{self, "0:\n0::\n::\nx\n\n"}, {top, "200000 100000\n"}}) == 2, "lines that are cut off");
}

void legacy_groups() {
  const char* self = "3:cpu,cpuacct:/docker/abc\n2:memory:/docker/abc\n";
  for (const std::string mount : {"sys/fs/cgroup/cpu", "sys/fs/cgroup/cpu,cpuacct"}) {
    const std::string quota = mount + "/docker/abc/cpu.cfs_quota_us", period = mount + "/docker/abc/cpu.cfs_period_us";
    expect(quota_of({{"proc/self/cgroup", self}, {quota.c_str(), "250000\n"}, {period.c_str(), "100000\n"}}) == 3,
           mount);
    expect(quota_of({{"proc/self/cgroup", self}, {quota.c_str(), "-1\n"}, {period.c_str(), "100000\n"}}) == 0,
           mount + " without a quota");
    expect(quota_of(
               {{"proc/self/cgroup", "3:cpuset:/docker/abc\n"}, {quota.c_str(), "1\n"}, {period.c_str(), "1\n"}}) == 0,
           mount + " of another controller");
  }
}

}  // namespace

int main() {
  unified_groups();
  legacy_groups();
  if (test::failures == 0) std::printf("cpu_quota: ok\n");
  return test::failures == 0 ? 0 : 1;
}
