#include "core/process_group.h"

#include <dlfcn.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <system_error>
#include <thread>

namespace mome {
namespace {

using Clock = std::chrono::steady_clock;

// Floats of a bucket: 4 MiB, large enough for the bandwidth of a network, small enough to begin early.
constexpr int64_t kBucketFloats = int64_t{1} << 20;
// A gradient of so many values is summed where it lies; smaller ones are copied together.
constexpr int64_t kInPlaceFloats = int64_t{1} << 18;

std::string folder_of_this_code() {
  Dl_info info;
  if (dladdr(reinterpret_cast<const void*>(&communicator_library), &info) == 0 || info.dli_fname == nullptr) return ".";
  const std::string path = info.dli_fname;
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : path.substr(0, slash);
}

void load(CommunicatorLibrary& library, const std::string& path) {
  if (access(path.c_str(), F_OK) != 0) {
    if (library.reason.empty()) library.reason = path + " is not there: this was built without MPI";
    return;
  }
  // Global: Open MPI's own parts look for its symbols.
  void* handle = dlopen(path.c_str(), RTLD_NOW | RTLD_GLOBAL);
  if (handle == nullptr) {
    const char* message = dlerror();
    library.reason = message == nullptr ? path : message;
    return;
  }
  using Entry = const CommunicatorApi* (*)();
  const auto entry = reinterpret_cast<Entry>(dlsym(handle, "mome_communicator_library"));
  const CommunicatorApi* api = entry == nullptr ? nullptr : entry();
  if (api == nullptr || std::strcmp(api->build, kCommunicatorBuild) != 0) {
    library.reason = path + ": expected a library of the same build as the addon";
    return;
  }
  library.api = api;
  library.path = path;
  library.reason.clear();
}

// When a process of this machine started, in ticks since the machine did; 0 for one that has ended.
int64_t start_of(int64_t pid) {
  char path[64], text[1024];
  std::snprintf(path, sizeof path, "/proc/%lld/stat", static_cast<long long>(pid));
  FILE* file = std::fopen(path, "r");
  if (file == nullptr) return 0;
  const size_t length = std::fread(text, 1, sizeof text - 1, file);
  std::fclose(file);
  text[length] = '\0';
  // The name in brackets may hold anything; the state and twenty numbers follow it.
  const char* at = std::strrchr(text, ')');
  if (at == nullptr || at[1] == '\0' || at[2] == 'Z' || at[2] == 'X') return 0;
  at += 2;
  for (int field = 3; field < 22 && at != nullptr; field++) at = std::strchr(at + 1, ' ');
  return at == nullptr ? 1 : std::max(1LL, std::atoll(at + 1));
}

int64_t this_host() {
  char name[256] = "";
  gethostname(name, sizeof name - 1);
  return static_cast<int64_t>(std::hash<std::string>{}(name));
}

}  // namespace

const CommunicatorLibrary& communicator_library() {
  static const CommunicatorLibrary* const library = [] {
    auto* fresh = new CommunicatorLibrary();
    if (const char* path = std::getenv("MOME_MPI_LIBRARY"); path != nullptr && *path != '\0') {
      load(*fresh, path);
      return fresh;
    }
    const std::string folder = folder_of_this_code();
    for (const char* name : {"/mome_mpi.so", "/Release/mome_mpi.so"}) {
      if (fresh->api == nullptr) load(*fresh, folder + name);
    }
    return fresh;
  }();
  return *library;
}

std::shared_ptr<ProcessGroup> ProcessGroup::open(double timeout_seconds,
                                                 std::function<void(const Status&, const Membership&)> opened) {
  std::shared_ptr<ProcessGroup> group(new ProcessGroup(timeout_seconds));
  try {
    // The thread keeps the group: it ends when the group is closed.
    std::thread([group, opened] {
      Membership membership;
      const Status status = group->join(membership);
      opened(status, membership);
      if (status.ok()) group->serve();
    }).detach();
  } catch (const std::system_error&) {
    opened(error(Code::out_of_memory, "process group: no thread could be started"), {});
  }
  return group;
}

Status ProcessGroup::join(Membership& membership) {
  const CommunicatorLibrary& library = communicator_library();
  if (library.api == nullptr)
    return error(Code::device_unavailable, "process group: no MPI: %s", library.reason.c_str());
  MOME_RETURN_IF_ERROR(library.api->open(membership));
  api_ = library.api;
  membership_ = membership;
  // Who the others are, so that the loss of one of this machine is seen at once.
  const Peer own{this_host(), getpid(), start_of(getpid())};
  peers_.resize(static_cast<size_t>(membership.size));
  Collective collective;
  collective.kind = Collective::Kind::all_gather;
  collective.data = const_cast<Peer*>(&own);
  collective.count = sizeof(Peer);
  collective.received = peers_.data();
  void* request = nullptr;
  MOME_RETURN_IF_ERROR(api_->start(collective, request));
  for (bool done = false; !done;) {
    MOME_RETURN_IF_ERROR(api_->test(request, done));
    if (!done) std::this_thread::sleep_for(std::chrono::microseconds(100));
  }
  return {};
}

void ProcessGroup::post(Operation operation) {
  {
    const std::lock_guard lock(mutex_);
    queue_.push_back(std::move(operation));
  }
  wake_.notify_one();
}

void ProcessGroup::fail(const Status& status) {
  {
    const std::lock_guard lock(mutex_);
    if (failure_.ok()) failure_ = status;
  }
  wake_.notify_one();
}

void ProcessGroup::close(std::function<void()> closed) {
  {
    const std::lock_guard lock(mutex_);
    closed_ = std::move(closed);
  }
  wake_.notify_one();
}

void ProcessGroup::serve() {
  auto heard = Clock::now(), watched = heard;
  int idle = 0;
  for (;;) {
    std::deque<Operation> fresh;
    Status failed;
    {
      std::unique_lock lock(mutex_);
      if (started_.empty()) wake_.wait(lock, [&] { return !queue_.empty() || closed_; });
      fresh.swap(queue_);
      failed = failure_;
      if (fresh.empty() && started_.empty() && closed_) break;
    }
    if (!failed.ok()) {
      finish_all(failed);
      for (Operation& operation : fresh) operation.done(failed);
      continue;
    }
    const bool began = !fresh.empty();
    if (began && started_.empty()) heard = Clock::now();
    for (Operation& operation : fresh) begin(std::move(operation));
    if (advance() || began) {
      heard = Clock::now();
      idle = 0;
      continue;
    }
    // Looking again at once gives the least delay, and takes a core; so look rarely when nothing comes.
    if (++idle < 50)
      std::this_thread::yield();
    else
      std::this_thread::sleep_for(std::chrono::microseconds(idle < 500 ? 50 : 200));
    const auto now = Clock::now();
    if (now - watched > std::chrono::milliseconds(100)) {
      watch();
      watched = now;
      if (std::chrono::duration<double>(now - heard).count() > timeout_seconds_)
        fail(error(Code::process_lost,
                   "process group: expected the other processes to come to the same operation within %.0f s, got "
                   "nothing from them; MOME_MPI_TIMEOUT is how many seconds to wait",
                   timeout_seconds_));
    }
  }
  std::function<void()> closed;
  bool whole;
  {
    const std::lock_guard lock(mutex_);
    closed = std::move(closed_);
    whole = failure_.ok();
  }
  if (whole) api_->close();  // it waits for all, some of whom are gone after a failure
  closed();
}

void ProcessGroup::begin(Operation operation) {
  Started started{std::move(operation), nullptr};
  if (started.operation.before) started.operation.before();
  if (!started.operation.marks_only) {
    if (const Status status = api_->start(started.operation.collective, started.request); !status.ok()) {
      fail(status);
      started.operation.done(status);
      return;
    }
  }
  started_.push_back(std::move(started));
}

bool ProcessGroup::advance() {
  bool ended = false;
  for (auto it = started_.begin(); it != started_.end();) {
    bool done = false;
    Status status;
    if (it->operation.marks_only)
      done = it == started_.begin();
    else
      status = api_->test(it->request, done);
    if (!status.ok()) {
      fail(status);
      it->request = nullptr;
      return true;
    }
    if (!done) {
      ++it;
      continue;
    }
    Operation operation = std::move(it->operation);
    it = started_.erase(it);
    if (operation.after) operation.after();
    operation.done({});
    ended = true;
  }
  return ended;
}

// A process of this machine that ended without leaving will not answer any more. (mpirun ends the others too, soon.)
void ProcessGroup::watch() {
  const int64_t here = peers_[static_cast<size_t>(membership_.rank)].host;
  for (size_t rank = 0; rank < peers_.size(); rank++) {
    const Peer& peer = peers_[rank];
    if (peer.host == here && start_of(peer.pid) != peer.started) {
      fail(error(Code::process_lost, "process group: expected process %zu (pid %lld) to go on, it has ended", rank,
                 static_cast<long long>(peer.pid)));
      return;
    }
  }
}

// What MPI has begun cannot be taken back: its memory is left to it.
void ProcessGroup::finish_all(const Status& status) {
  for (Started& started : started_) {
    if (started.operation.memory) new std::shared_ptr<void>(std::move(started.operation.memory));
    started.operation.done(status);
  }
  started_.clear();
}

GradientBuckets GradientBuckets::of(const Program& program, std::span<const int> program_parameters,
                                    WeightStore& weights, std::span<const int> parameters) {
  // The last instruction that adds to each gradient; the first one for those that the program does not touch.
  std::vector<size_t> last(static_cast<size_t>(weights.size()), 0);
  for (size_t i = 0; i < program.instructions.size(); i++) {
    for (const Operand& operand : program.instructions[i].operands) {
      if (operand.kind == Operand::Kind::gradient)
        last[static_cast<size_t>(program_parameters[static_cast<size_t>(operand.index)])] = i;
    }
  }
  std::vector<int> order(parameters.begin(), parameters.end());
  std::stable_sort(order.begin(), order.end(),
                   [&](int a, int b) { return last[static_cast<size_t>(a)] < last[static_cast<size_t>(b)]; });
  GradientBuckets result;
  Bucket small;
  int64_t small_count = 0;
  const auto flush = [&] {
    if (!small.segments.empty()) result.buckets.push_back(std::move(small));
    small = {};
    small_count = 0;
  };
  for (const int index : order) {
    Parameter& parameter = weights.at(index);
    float* values = parameter.training.gradient.floats();
    if (values == nullptr) continue;
    const size_t ready = last[static_cast<size_t>(index)];
    if (parameter.count < kInPlaceFloats) {
      small.segments.push_back({values, parameter.count});
      small.ready_after = std::max(small.ready_after, ready);
      small_count += parameter.count;
      if (small_count >= kBucketFloats) flush();
      continue;
    }
    for (int64_t first = 0; first < parameter.count; first += kBucketFloats)
      result.buckets.push_back({ready, {{values + first, std::min(kBucketFloats, parameter.count - first)}}});
  }
  flush();
  std::stable_sort(result.buckets.begin(), result.buckets.end(),
                   [](const Bucket& a, const Bucket& b) { return a.ready_after < b.ready_after; });
  return result;
}

void GradientBuckets::post(ProcessGroup& group, const Bucket& bucket, const std::shared_ptr<WeightStore>& weights) {
  ProcessGroup::Operation operation;
  operation.done = [](const Status&) {};  // a failure is that of the mark behind
  operation.collective.kind = Collective::Kind::all_reduce;
  if (bucket.segments.size() == 1) {
    operation.collective.data = bucket.segments[0].values;
    operation.collective.count = bucket.segments[0].count;
    operation.memory = weights;
  } else {
    struct Copy {
      std::vector<float> values;
      std::shared_ptr<WeightStore> weights;
    };
    const int64_t count = std::accumulate(bucket.segments.begin(), bucket.segments.end(), int64_t{0},
                                          [](int64_t sum, const Segment& segment) { return sum + segment.count; });
    auto copy = std::make_shared<Copy>(Copy{std::vector<float>(static_cast<size_t>(count)), weights});
    operation.collective.data = copy->values.data();
    operation.collective.count = count;
    operation.before = [copy, segments = bucket.segments] {
      float* at = copy->values.data();
      for (const Segment& segment : segments) at = std::copy_n(segment.values, segment.count, at);
    };
    operation.after = [copy, segments = bucket.segments] {
      const float* at = copy->values.data();
      for (const Segment& segment : segments) {
        std::copy_n(at, segment.count, segment.values);
        at += segment.count;
      }
    };
    operation.memory = copy;
  }
  group.post(std::move(operation));
}

}  // namespace mome
