// The class NativeProcessGroup of the binding.
#pragma once

#include <memory>
#include <vector>

#include "core/process_group.h"
#include "napi/bridge.h"

namespace mome {

class NativeProcessGroup : public Napi::ObjectWrap<NativeProcessGroup> {
 public:
  static Napi::Function Define(Napi::Env env);
  explicit NativeProcessGroup(const Napi::CallbackInfo& info);
  // Null once it was closed.
  const std::shared_ptr<ProcessGroup>& group() const { return group_; }

 private:
  Napi::Value Opened(const Napi::CallbackInfo& info);
  Napi::Value AllReduce(const Napi::CallbackInfo& info);
  Napi::Value AllGather(const Napi::CallbackInfo& info);
  Napi::Value Broadcast(const Napi::CallbackInfo& info);
  Napi::Value Exchange(const Napi::CallbackInfo& info);
  Napi::Value Settled(const Napi::CallbackInfo& info);
  Napi::Value Close(const Napi::CallbackInfo& info);

  std::shared_ptr<ProcessGroup> group_;
  Napi::ObjectReference opened_;
};

}  // namespace mome
