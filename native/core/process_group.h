// A group of processes that train together: one thread of its own starts the collective operations in the order in
// which they were posted, drives them, and watches whether the other processes are alive.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "core/communicator.h"
#include "core/program.h"
#include "core/weights.h"

namespace mome {

// The library of native/mpi: null with a reason where it is not there or cannot be loaded. Loaded when first asked for.
struct CommunicatorLibrary {
  const CommunicatorApi* api = nullptr;
  std::string path, reason;
};
const CommunicatorLibrary& communicator_library();

class ProcessGroup : public std::enable_shared_from_this<ProcessGroup> {
 public:
  struct Operation {
    Collective collective;
    bool marks_only = false;                  // starts nothing: done when all before it are
    std::function<void()> before, after;      // on the group's thread, around the operation
    std::function<void(const Status&)> done;  // on the group's thread, once
    std::shared_ptr<void> memory;             // what the collective names
  };

  // Joins the group on its own thread; `opened` is called there.
  static std::shared_ptr<ProcessGroup> open(double timeout_seconds,
                                            std::function<void(const Status&, const Membership&)> opened);

  // Queues an operation; any thread. After a failure all operations fail with it.
  void post(Operation operation);
  // Makes all operations fail, those under way included; any thread.
  void fail(const Status& status);
  // Leaves the group once all operations are done; `closed` is called on its thread.
  void close(std::function<void()> closed);

 private:
  struct Started {
    Operation operation;
    void* request = nullptr;
  };
  struct Peer {
    int64_t host, pid, started;
  };

  explicit ProcessGroup(double timeout_seconds) : timeout_seconds_(timeout_seconds) {}
  Status join(Membership& membership);
  void serve();
  void begin(Operation operation);
  bool advance();  // whether any operation ended
  void watch();
  void finish_all(const Status& status);

  const double timeout_seconds_;
  const CommunicatorApi* api_ = nullptr;
  Membership membership_;
  std::vector<Peer> peers_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Operation> queue_;
  std::function<void()> closed_;
  Status failure_;  // under mutex_
  std::list<Started> started_;
};

// The gradients of some parameters in pieces, in the order in which the last instruction of a program that adds to
// them runs. All processes make the same pieces.
struct GradientBuckets {
  struct Segment {
    float* values;
    int64_t count;
  };
  struct Bucket {
    size_t ready_after = 0;  // an instruction
    std::vector<Segment> segments;
  };
  std::vector<Bucket> buckets;

  // `parameters` are indices in the store, `program_parameters` those of the program's own (CompiledProgram).
  static GradientBuckets of(const Program& program, std::span<const int> program_parameters, WeightStore& weights,
                            std::span<const int> parameters);
  // Posts the sum of a bucket. `weights` stay until it is done.
  static void post(ProcessGroup& group, const Bucket& bucket, const std::shared_ptr<WeightStore>& weights);
};

}  // namespace mome
