#include "napi/process_group.h"

#include <cstring>
#include <utility>

#include "napi/engine.h"

namespace mome {
namespace {

using Bytes = std::vector<std::byte>;

// What an operation reads and writes, until it is done.
struct Memory {
  Bytes sent, received;
  std::vector<int32_t> send_counts, receive_counts;
};

bool bytes_at(const Napi::CallbackInfo& info, size_t index, napi_typedarray_type wanted, Bytes& bytes) {
  napi_typedarray_type type = napi_int8_array;
  size_t count = 0;
  void* data = nullptr;
  if (!info[index].IsTypedArray() ||
      napi_get_typedarray_info(info.Env(), info[index], &type, &count, &data, nullptr, nullptr) != napi_ok ||
      type != wanted)
    return false;
  bytes.resize(count * (wanted == napi_uint8_array ? 1 : 4));
  if (!bytes.empty()) std::memcpy(bytes.data(), data, bytes.size());
  return true;
}

// Posts `operation` and returns the promise of what `make` gives of its memory.
Napi::Value run(Napi::Env env, ProcessGroup& group, ProcessGroup::Operation operation,
                const std::shared_ptr<Memory>& memory, PendingPromise::Make make) {
  auto pending = PendingPromise::create(env);
  const Napi::Value promise = pending->promise();
  operation.memory = memory;
  operation.done = [pending, make = std::move(make)](const Status& status) { pending->settle(status, make); };
  group.post(std::move(operation));
  return promise;
}

}  // namespace

Napi::Function NativeProcessGroup::Define(Napi::Env env) {
  return DefineClass(
      env, "NativeProcessGroup",
      {InstanceMethod("opened", &NativeProcessGroup::Opened),
       InstanceMethod("allReduce", &NativeProcessGroup::AllReduce),
       InstanceMethod("allGather", &NativeProcessGroup::AllGather),
       InstanceMethod("broadcast", &NativeProcessGroup::Broadcast),
       InstanceMethod("exchange", &NativeProcessGroup::Exchange),
       InstanceMethod("settled", &NativeProcessGroup::Settled), InstanceMethod("close", &NativeProcessGroup::Close)});
}

// new NativeProcessGroup(timeoutSeconds): joins the processes that were launched together.
NativeProcessGroup::NativeProcessGroup(const Napi::CallbackInfo& info) : Napi::ObjectWrap<NativeProcessGroup>(info) {
  const double timeout = info[0].IsNumber() ? info[0].As<Napi::Number>().DoubleValue() : 0;
  if (!(timeout > 0)) {
    raise(info.Env(), Code::invalid_argument, "NativeProcessGroup: expected a number of seconds above 0");
    return;
  }
  auto pending = PendingPromise::create(info.Env());
  if (pending->promise().IsObject()) opened_ = Napi::Persistent(pending->promise().As<Napi::Object>());
  group_ = ProcessGroup::open(timeout, [pending](const Status& status, const Membership& membership) {
    pending->settle(status, [membership](Napi::Env env) -> Napi::Value {
      Napi::Object result = Napi::Object::New(env);
      result.Set("rank", membership.rank);
      result.Set("size", membership.size);
      result.Set("library", membership.library);
      return result;
    });
  });
}

#define MOME_REQUIRE_OPEN() \
  if (!group_) return raise(info.Env(), Code::disposed, "process group: expected one that was not left")

// opened(): Promise<{ rank, size, library }>
Napi::Value NativeProcessGroup::Opened(const Napi::CallbackInfo&) { return opened_.Value(); }

// allReduce(values: Float32Array): Promise<Float32Array>: the sums.
Napi::Value NativeProcessGroup::AllReduce(const Napi::CallbackInfo& info) {
  MOME_REQUIRE_OPEN();
  auto memory = std::make_shared<Memory>();
  if (!bytes_at(info, 0, napi_float32_array, memory->sent))
    return raise(info.Env(), Code::invalid_argument, "process group: expected a Float32Array");
  ProcessGroup::Operation operation;
  operation.collective.kind = Collective::Kind::all_reduce;
  operation.collective.data = memory->sent.data();
  operation.collective.count = static_cast<int64_t>(memory->sent.size() / sizeof(float));
  return run(info.Env(), *group_, std::move(operation), memory, [memory](Napi::Env env) {
    return to_array<Napi::Float32Array>(env, reinterpret_cast<const float*>(memory->sent.data()),
                                        memory->sent.size() / sizeof(float));
  });
}

// allGather(bytes: Uint8Array, size): Promise<Uint8Array>: those of all `size` processes, which give as many each.
Napi::Value NativeProcessGroup::AllGather(const Napi::CallbackInfo& info) {
  MOME_REQUIRE_OPEN();
  auto memory = std::make_shared<Memory>();
  int64_t size = 0;
  if (!bytes_at(info, 0, napi_uint8_array, memory->sent) || !number_at(info, 1, size) || size < 1)
    return raise(info.Env(), Code::invalid_argument, "process group: expected (Uint8Array, size)");
  memory->received.resize(memory->sent.size() * static_cast<size_t>(size));
  ProcessGroup::Operation operation;
  operation.collective.kind = Collective::Kind::all_gather;
  operation.collective.data = memory->sent.data();
  operation.collective.count = static_cast<int64_t>(memory->sent.size());
  operation.collective.received = memory->received.data();
  return run(info.Env(), *group_, std::move(operation), memory, [memory](Napi::Env env) {
    return to_array<Napi::Uint8Array>(env, reinterpret_cast<const uint8_t*>(memory->received.data()),
                                      memory->received.size());
  });
}

// broadcast(bytes: Uint8Array, root): Promise<Uint8Array>: those of process `root`; all give as many.
Napi::Value NativeProcessGroup::Broadcast(const Napi::CallbackInfo& info) {
  MOME_REQUIRE_OPEN();
  auto memory = std::make_shared<Memory>();
  int64_t root = 0;
  if (!bytes_at(info, 0, napi_uint8_array, memory->sent) || !number_at(info, 1, root) || root > 1 << 24)
    return raise(info.Env(), Code::invalid_argument, "process group: expected (Uint8Array, root)");
  ProcessGroup::Operation operation;
  operation.collective.kind = Collective::Kind::broadcast;
  operation.collective.data = memory->sent.data();
  operation.collective.count = static_cast<int64_t>(memory->sent.size());
  operation.collective.root = static_cast<int>(root);
  return run(info.Env(), *group_, std::move(operation), memory, [memory](Napi::Env env) {
    return to_array<Napi::Uint8Array>(env, reinterpret_cast<const uint8_t*>(memory->sent.data()), memory->sent.size());
  });
}

// exchange(bytes: Uint8Array, sendCounts: Int32Array, receiveCounts: Int32Array): Promise<Uint8Array>: what the others
// sent. Counts are bytes for each process, in the order of their ranks, of which there is one for each.
Napi::Value NativeProcessGroup::Exchange(const Napi::CallbackInfo& info) {
  MOME_REQUIRE_OPEN();
  auto memory = std::make_shared<Memory>();
  Bytes counts[2];
  if (!bytes_at(info, 0, napi_uint8_array, memory->sent) || !bytes_at(info, 1, napi_int32_array, counts[0]) ||
      !bytes_at(info, 2, napi_int32_array, counts[1]) || counts[0].size() != counts[1].size())
    return raise(info.Env(), Code::invalid_argument, "process group: expected (Uint8Array, Int32Array, Int32Array)");
  std::vector<int32_t>* taken[] = {&memory->send_counts, &memory->receive_counts};
  int64_t totals[2] = {0, 0};
  for (int side = 0; side < 2; side++) {
    taken[side]->resize(counts[side].size() / 4);
    if (!counts[side].empty()) std::memcpy(taken[side]->data(), counts[side].data(), counts[side].size());
    for (const int32_t count : *taken[side]) {
      if (count < 0) return raise(info.Env(), Code::invalid_argument, "process group: expected counts of at least 0");
      totals[side] += count;
    }
  }
  if (totals[0] != static_cast<int64_t>(memory->sent.size()))
    return raise(info.Env(), Code::invalid_shape, "process group: expected counts of all bytes that are sent");
  memory->received.resize(static_cast<size_t>(totals[1]));
  ProcessGroup::Operation operation;
  operation.collective.kind = Collective::Kind::exchange;
  operation.collective.data = memory->sent.data();
  operation.collective.count = 0;
  operation.collective.received = memory->received.data();
  operation.collective.send_counts = memory->send_counts.data();
  operation.collective.receive_counts = memory->receive_counts.data();
  return run(info.Env(), *group_, std::move(operation), memory, [memory](Napi::Env env) {
    return to_array<Napi::Uint8Array>(env, reinterpret_cast<const uint8_t*>(memory->received.data()),
                                      memory->received.size());
  });
}

// settled(): Promise<void>: once all that was posted so far is done, sums of gradients included.
Napi::Value NativeProcessGroup::Settled(const Napi::CallbackInfo& info) {
  MOME_REQUIRE_OPEN();
  ProcessGroup::Operation operation;
  operation.marks_only = true;
  return run(info.Env(), *group_, std::move(operation), nullptr, nullptr);
}

// close(): Promise<void>: leaves the group.
Napi::Value NativeProcessGroup::Close(const Napi::CallbackInfo& info) {
  MOME_REQUIRE_OPEN();
  auto pending = PendingPromise::create(info.Env());
  const Napi::Value promise = pending->promise();
  std::exchange(group_, nullptr)->close([pending] { pending->settle({}, nullptr); });
  return promise;
}

// communicatorInfo(): { library: path | null, reason }
static Napi::Value CommunicatorInfo(const Napi::CallbackInfo& info) {
  const CommunicatorLibrary& library = communicator_library();
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("library",
             library.api == nullptr ? info.Env().Null() : Napi::Value(Napi::String::New(info.Env(), library.path)));
  result.Set("reason", library.reason);
  return result;
}

void register_process_group(Napi::Env env, Napi::Object exports, AddonState& state) {
  state.process_group = Napi::Persistent(NativeProcessGroup::Define(env));
  exports.Set("NativeProcessGroup", state.process_group.Value());
  exports.Set("communicatorInfo", Napi::Function::New(env, CommunicatorInfo, "communicatorInfo"));
}

}  // namespace mome
