// Collective operations by MPI: mome_mpi.so. Operations are the non-blocking ones, begun and tested on one thread, so
// that MPI_THREAD_FUNNELED is enough; a process that waits for others can look around meanwhile. Errors are returned,
// not fatal: the caller says what happened and ends.
#include <mpi.h>

#include <climits>
#include <cstring>
#include <new>
#include <string>
#include <vector>

#include "core/communicator.h"

namespace mome {
namespace {

MPI_Comm communicator = MPI_COMM_NULL;
int size = 0;

Status failure(const char* what, int code) {
  char text[MPI_MAX_ERROR_STRING] = "";
  int length = 0;
  MPI_Error_string(code, text, &length);
  return error(Code::process_lost, "process group: %s failed: %s", what, text);
}

struct Request {
  MPI_Request handle = MPI_REQUEST_NULL;
  std::vector<int> send_counts, send_begins, receive_counts, receive_begins;
};

Status open(Membership& membership) {
  int initialized = 0, provided = 0;
  MPI_Initialized(&initialized);
  if (initialized)
    return error(Code::invalid_argument, "process group: expected one for each process, got another one");
  if (const int code = MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided); code != MPI_SUCCESS)
    return error(Code::device_unavailable, "process group: MPI_Init_thread failed with %d", code);
  MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
  if (const int code = MPI_Comm_dup(MPI_COMM_WORLD, &communicator); code != MPI_SUCCESS)
    return failure("MPI_Comm_dup", code);
  MPI_Comm_set_errhandler(communicator, MPI_ERRORS_RETURN);
  MPI_Comm_rank(communicator, &membership.rank);
  MPI_Comm_size(communicator, &size);
  membership.size = size;
  char version[MPI_MAX_LIBRARY_VERSION_STRING] = "";
  int length = 0;
  MPI_Get_library_version(version, &length);
  membership.library = std::string(version).substr(0, std::string(version).find(','));
  return {};
}

Status place(const int32_t* counts, std::vector<int>& sizes, std::vector<int>& begins) {
  int64_t begin = 0;
  for (int rank = 0; rank < size; rank++) {
    sizes.push_back(counts[rank]);
    begins.push_back(static_cast<int>(begin));
    begin += counts[rank];
    if (begin > INT_MAX)
      return error(Code::too_large, "process group: expected less than 2 GiB to be exchanged at once");
  }
  return {};
}

Status start(const Collective& collective, void*& handle) {
  if (collective.count > INT_MAX)
    return error(Code::too_large, "process group: expected at most 2^31 - 1 elements, got %lld",
                 static_cast<long long>(collective.count));
  const int count = static_cast<int>(collective.count);
  auto* request = new (std::nothrow) Request();
  if (request == nullptr) return error(Code::out_of_memory, "process group: no memory");
  int code = MPI_SUCCESS;
  Status status;
  switch (collective.kind) {
    case Collective::Kind::all_reduce:
      code = MPI_Iallreduce(MPI_IN_PLACE, collective.data, count, MPI_FLOAT, MPI_SUM, communicator, &request->handle);
      break;
    case Collective::Kind::all_gather:
      code = MPI_Iallgather(collective.data, count, MPI_BYTE, collective.received, count, MPI_BYTE, communicator,
                            &request->handle);
      break;
    case Collective::Kind::broadcast:
      code = MPI_Ibcast(collective.data, count, MPI_BYTE, collective.root, communicator, &request->handle);
      break;
    case Collective::Kind::exchange:
      status = place(collective.send_counts, request->send_counts, request->send_begins);
      if (status.ok()) status = place(collective.receive_counts, request->receive_counts, request->receive_begins);
      if (!status.ok()) break;
      code = MPI_Ialltoallv(collective.data, request->send_counts.data(), request->send_begins.data(), MPI_BYTE,
                            collective.received, request->receive_counts.data(), request->receive_begins.data(),
                            MPI_BYTE, communicator, &request->handle);
      break;
  }
  if (code != MPI_SUCCESS) status = failure("an operation", code);
  if (!status.ok()) {
    delete request;
    return status;
  }
  handle = request;
  return {};
}

Status test(void* handle, bool& done) {
  auto* request = static_cast<Request*>(handle);
  int flag = 0;
  const int code = MPI_Test(&request->handle, &flag, MPI_STATUS_IGNORE);
  done = flag != 0;
  if (done || code != MPI_SUCCESS) delete request;
  return code == MPI_SUCCESS ? Status() : failure("an operation", code);
}

void close() {
  MPI_Comm_free(&communicator);
  MPI_Finalize();
}

const CommunicatorApi api{kCommunicatorBuild, open, start, test, close};

}  // namespace
}  // namespace mome

extern "C" __attribute__((visibility("default"))) const mome::CommunicatorApi* mome_communicator_library() {
  return &mome::api;
}
