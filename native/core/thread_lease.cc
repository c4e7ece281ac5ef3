#include "core/thread_lease.h"

#include <condition_variable>
#include <mutex>

#include "core/thread_pool.h"

namespace mome {
namespace {

struct Turns {
  std::mutex mutex;
  std::condition_variable moved;
  const int cores = available_cores();
  int running = 0;     // threads of the turns that have begun
  uint64_t asked = 0;  // turns asked for so far: the next ticket
  uint64_t begun = 0;  // turns that have begun: the ticket of the next one
};

Turns& turns() {
  static Turns& shared = *new Turns();  // never destroyed: engines may outlive main
  return shared;
}

}  // namespace

ThreadLease::ThreadLease(int threads) : threads_(threads) {
  if (threads_ == 0) return;
  const std::lock_guard lock(turns().mutex);
  ticket_ = turns().asked++;
}

void ThreadLease::begin() {
  if (threads_ == 0 || begun_) return;
  Turns& shared = turns();
  {
    std::unique_lock lock(shared.mutex);
    shared.moved.wait(lock, [&] {
      return shared.begun == ticket_ && (shared.running == 0 || shared.running + threads_ <= shared.cores);
    });
    shared.begun++;
    shared.running += threads_;
  }
  begun_ = true;
  shared.moved.notify_all();  // the next may fit beside this one
}

ThreadLease::~ThreadLease() {
  if (threads_ == 0) return;
  begin();
  Turns& shared = turns();
  {
    const std::lock_guard lock(shared.mutex);
    shared.running -= threads_;
  }
  shared.moved.notify_all();
}

}  // namespace mome
