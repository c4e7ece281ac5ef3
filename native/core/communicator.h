// What a library of collective operations gives: MPI is one (native/mpi), NCCL would be another. It is a library of its
// own that is loaded when a process group is asked for, so that the addon needs none.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "core/status.h"

namespace mome {

// Raised when the structs below change: addon and library must be of the same build.
inline constexpr const char* kCommunicatorBuild = "mome-communicator 1";

// One operation of all processes, each of which starts the same ones in the same order. Sizes are in elements: floats
// of all_reduce, bytes of the others.
struct Collective {
  enum class Kind { all_reduce, all_gather, broadcast, exchange };
  Kind kind = Kind::all_reduce;
  // all_reduce, broadcast: the buffer, in place. all_gather, exchange: what this process sends.
  void* data = nullptr;
  int64_t count = 0;
  int root = 0;              // broadcast
  void* received = nullptr;  // all_gather: `count` bytes of each process, exchange: by receive_counts
  // exchange: bytes to and from each process, one after the other in `data` and `received`.
  const int32_t* send_counts = nullptr;
  const int32_t* receive_counts = nullptr;
};

struct Membership {
  int rank = 0, size = 1;
  std::string library;  // name and version
};

// All functions are called on one thread, which need not be the main one.
struct CommunicatorApi {
  const char* build;
  // Joins the processes that were launched together; waits for all.
  Status (*open)(Membership& membership);
  // Begins an operation and returns at once. The memory it names must stay until it is done.
  Status (*start)(const Collective& collective, void*& request);
  // Whether it is done; frees the request then, or when it failed.
  Status (*test)(void* request, bool& done);
  // Leaves; waits for all. Nothing may be under way.
  void (*close)();
};

}  // namespace mome
