#include "core/thread_pool.h"

#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <set>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "core/cpu_quota.h"

namespace mome {
namespace {

// Spins before a waiting thread sleeps: about 50 microseconds, longer than the gap between two kernels of one run.
constexpr int kSpins = 4000;
constexpr int kSpinsPerYield = 64;
// A worker that missed this many loops in a row, or has not come to a loop for this long, is moved off this thread's
// processor.
constexpr int kMissedLoops = 8;
constexpr auto kLate = std::chrono::microseconds(100);

// One step of waiting. Now and then the processor is offered to others: the thread that is waited for may have been put
// on the same one.
void relax(int spin) {
  if (spin % kSpinsPerYield == kSpinsPerYield - 1) {
    std::this_thread::yield();
    return;
  }
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

bool read_line(const std::string& path, char* line, int size) {
  FILE* file = std::fopen(path.c_str(), "r");
  if (file == nullptr) return false;
  const bool read = std::fgets(line, size, file) != nullptr;
  std::fclose(file);
  return read;
}

// (package, core) of a CPU, so that hyperthreads of one core count once.
std::pair<int, int> physical_core(int cpu) {
  char line[64];
  const std::string base = "/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/";
  std::pair<int, int> result{0, -1 - cpu};
  if (read_line(base + "physical_package_id", line, sizeof line)) result.first = std::atoi(line);
  if (read_line(base + "core_id", line, sizeof line)) result.second = std::atoi(line);
  return result;
}

}  // namespace

int available_cores() {
  cpu_set_t mask;
  CPU_ZERO(&mask);
  int cores = 1;
  if (sched_getaffinity(0, sizeof mask, &mask) == 0) {
    std::set<std::pair<int, int>> physical;
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
      if (CPU_ISSET(cpu, &mask)) physical.insert(physical_core(cpu));
    }
    cores = std::max<int>(1, static_cast<int>(physical.size()));
  }
  const int quota = quota_cores();
  return quota > 0 ? std::max(1, std::min(cores, quota)) : cores;
}

// A loop is open while there are items to take. The loop waits only for workers that entered it: a worker that the
// system has not run yet holds nobody up.
struct ThreadPool::Shared {
  static constexpr uint32_t kOpen = 1u << 31;

  const ThreadPool* pool = nullptr;
  std::atomic<uint32_t> epoch{0};  // raised once per loop; workers wait for it
  std::atomic<uint32_t> gate{0};   // kOpen, and the workers inside
  std::atomic<int64_t> next{0};    // next item to hand out
  std::atomic<int> entered{0};     // workers that entered the loop
  std::atomic<bool> stop{false};
  int missed = 0;  // loops in a row that not all workers entered
  int64_t items = 0;
  Function function = nullptr;
  void* context = nullptr;
  std::vector<std::thread> workers;

  // False where there is no item left to take.
  bool take(int64_t& item) {
    if (pool->stopped()) return false;
    item = next.fetch_add(1, std::memory_order_relaxed);
    return item < items;
  }

  void drain(int worker) {
    for (int64_t item; take(item);) function(context, item, worker);
  }

  bool enter() {
    uint32_t now = gate.load(std::memory_order_relaxed);
    while ((now & kOpen) != 0) {
      if (!gate.compare_exchange_weak(now, now + 1, std::memory_order_acquire, std::memory_order_relaxed)) continue;
      entered.fetch_add(1, std::memory_order_relaxed);
      return true;
    }
    return false;
  }

  // A sleeping worker may be woken on the very processor that calls it, and wait there for its turn while another
  // stands idle, until the system balances its queues some milliseconds later. Taking this processor away from it for a
  // moment moves it at once.
  void rouse() {
#if defined(__linux__)
    cpu_set_t allowed;
    CPU_ZERO(&allowed);
    const int here = sched_getcpu();
    if (here < 0 || sched_getaffinity(0, sizeof allowed, &allowed) != 0 || CPU_COUNT(&allowed) < 2 ||
        !CPU_ISSET(here, &allowed))
      return;
    cpu_set_t others = allowed;
    CPU_CLR(here, &others);
    for (std::thread& worker : workers) {
      if (pthread_setaffinity_np(worker.native_handle(), sizeof others, &others) == 0)
        pthread_setaffinity_np(worker.native_handle(), sizeof allowed, &allowed);
    }
#endif
  }

  void leave() {
    if (gate.fetch_sub(1, std::memory_order_acq_rel) == 1) gate.notify_one();
  }

  void work(int worker) {
    uint32_t seen = 0;
    for (;;) {
      for (int spin = 0; spin < kSpins && epoch.load(std::memory_order_acquire) == seen; spin++) relax(spin);
      epoch.wait(seen, std::memory_order_acquire);
      seen = epoch.load(std::memory_order_acquire);
      if (stop.load(std::memory_order_acquire)) return;
      if (!enter()) continue;
      drain(worker);
      leave();
    }
  }
};

ThreadPool::ThreadPool(int threads)
    : threads_(threads > 0 ? threads : available_cores()), shared_(std::make_unique<Shared>()) {
  shared_->pool = this;
  shared_->workers.reserve(static_cast<size_t>(threads_));
  try {
    for (int worker = 1; worker < threads_; worker++) {
      shared_->workers.emplace_back([shared = shared_.get(), worker] { shared->work(worker); });
    }
  } catch (const std::system_error&) {  // the system gives no more threads: the pool works with those it has
    threads_ = 1 + static_cast<int>(shared_->workers.size());
  }
}

ThreadPool::~ThreadPool() {
  shared_->stop.store(true, std::memory_order_release);
  shared_->epoch.fetch_add(1, std::memory_order_release);
  shared_->epoch.notify_all();
  for (std::thread& worker : shared_->workers) worker.join();
}

bool ThreadPool::stopped() const {
  for (const std::atomic<bool>* flag : stop_) {
    if (flag != nullptr && flag->load(std::memory_order_relaxed)) return true;
  }
  return false;
}

ThreadPool::StopScope::StopScope(ThreadPool& pool, const std::atomic<bool>* first, const std::atomic<bool>* second)
    : pool_(pool) {
  pool_.stop_[0] = first;
  pool_.stop_[1] = second;
}

ThreadPool::StopScope::~StopScope() { pool_.stop_[0] = pool_.stop_[1] = nullptr; }

void ThreadPool::run(int64_t items, Function function, void* context) {
  if (items <= 0) return;
  if (threads_ == 1 || items == 1) {
    for (int64_t item = 0; item < items && !stopped(); item++) function(context, item, 0);
    return;
  }
  if (stopped()) return;
  Shared& shared = *shared_;
  shared.items = items;
  shared.function = function;
  shared.context = context;
  shared.next.store(0, std::memory_order_relaxed);
  shared.entered.store(0, std::memory_order_relaxed);
  shared.gate.store(Shared::kOpen, std::memory_order_release);
  shared.epoch.fetch_add(1, std::memory_order_release);
  shared.epoch.notify_all();
  const auto started = std::chrono::steady_clock::now();
  bool roused = false;
  for (int64_t item; shared.take(item);) {
    function(context, item, 0);
    if (roused || shared.entered.load(std::memory_order_relaxed) == threads_ - 1 ||
        std::chrono::steady_clock::now() - started < kLate)
      continue;
    shared.rouse();
    roused = true;
  }
  shared.gate.fetch_and(~Shared::kOpen, std::memory_order_acq_rel);
  shared.missed = shared.entered.load(std::memory_order_relaxed) == threads_ - 1 ? 0 : shared.missed + 1;
  if (shared.missed == kMissedLoops && !roused) shared.rouse();
  for (int spin = 0; spin < kSpins; spin++) {
    if (shared.gate.load(std::memory_order_acquire) == 0) return;
    relax(spin);
  }
  for (uint32_t left = shared.gate.load(std::memory_order_acquire); left != 0;
       left = shared.gate.load(std::memory_order_acquire)) {
    shared.gate.wait(left, std::memory_order_acquire);
  }
}

}  // namespace mome
