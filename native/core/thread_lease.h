// The turns of engines at the processor's cores. All engines of a process share the cores, first come, first served: an
// engine asks for its turn when its next task is ready, and no later turn begins before an earlier one. A call of one
// engine therefore waits for at most one task of each other engine, whatever the numbers of their threads.
#pragma once

#include <cstdint>

namespace mome {

// A turn: asked for by the constructor, begun by `begin`, over with the destructor. Each turn that was asked for must
// begin; otherwise all later turns wait for ever.
class ThreadLease {
 public:
  // Asks for so many threads. All engines together run no more threads than there are cores, except that a single
  // engine may have more by itself. A lease of 0 threads waits for nobody.
  explicit ThreadLease(int threads);
  ~ThreadLease();
  ThreadLease(const ThreadLease&) = delete;
  ThreadLease& operator=(const ThreadLease&) = delete;

  // Waits until all earlier turns have begun and there are cores for this one.
  void begin();

 private:
  int threads_;
  bool begun_ = false;
  uint64_t ticket_ = 0;
};

}  // namespace mome
