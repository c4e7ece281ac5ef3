// The engine's own worker threads: a fork-join pool for loops inside one kernel. Never libuv's threads.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <type_traits>

namespace mome {

// Hardware threads this process may use: physical cores inside the affinity mask, capped by the cgroup CPU quota, at
// least 1.
int available_cores();

class ThreadPool {
 public:
  // `threads` counts the caller of parallel_for, which works too: threads - 1 workers are started, or as
  // many as the system gives. 0 = available_cores().
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  [[gnu::always_inline]] int threads() const { return threads_; }  // in kernels of every instruction set

  // While it lives, loops of the pool hand out no more items once one of the flags is set. Results are then incomplete,
  // and the caller must discard them. A null flag is never set. Made and destroyed by the thread that calls
  // parallel_for.
  class StopScope {
   public:
    StopScope(ThreadPool& pool, const std::atomic<bool>* first, const std::atomic<bool>* second = nullptr);
    ~StopScope();
    StopScope(const StopScope&) = delete;
    StopScope& operator=(const StopScope&) = delete;

   private:
    ThreadPool& pool_;
  };
  // Whether a flag of the StopScope is set. Items that take long ask between their parts and return early.
  bool stopped() const;

  // Calls body(item, worker) once for each item in [0, items), handing items out dynamically; worker < threads() names
  // the thread, for its scratch. Returns when all items are done or, after a stop (StopScope), when the items that had
  // begun are done. `body` must not throw and must not call parallel_for.
  template <typename Body>
  void parallel_for(int64_t items, Body&& body) {
    using Plain = std::remove_reference_t<Body>;
    run(
        items, [](void* context, int64_t item, int worker) { (*static_cast<Plain*>(context))(item, worker); },
        const_cast<void*>(static_cast<const void*>(&body)));
  }

 private:
  using Function = void (*)(void* context, int64_t item, int worker);
  void run(int64_t items, Function function, void* context);

  struct Shared;
  int threads_;
  std::unique_ptr<Shared> shared_;
  const std::atomic<bool>* stop_[2] = {};  // of the StopScope
};

}  // namespace mome
