// What every binding file shares: the one include of napi.h, errors as JS values, promises settled from native threads.
#pragma once

#include <napi.h>

#include <cstdio>
#include <functional>
#include <memory>
#include <string>

#include "core/status.h"

namespace mome {

// Per-environment state.
struct AddonState {
  Napi::FunctionReference engine, weights, program, cancel_token;
};

// An Error with `code`.
inline Napi::Error to_error(Napi::Env env, const Status& status) {
  Napi::Error failure = Napi::Error::New(env, status.message());
  failure.Set("code", Napi::String::New(env, std::string(code_name(status.code()))));
  return failure;
}

// Throws `status` as a JS exception; the caller returns at once.
inline Napi::Value raise(Napi::Env env, const Status& status) {
  to_error(env, status).ThrowAsJavaScriptException();
  return env.Undefined();
}

inline Napi::Value raise(Napi::Env env, Code code, const std::string& message) { return raise(env, Status(code, message)); }

// A promise that a native thread settles. `settle` may be called on any thread, once; `make` then runs on the JS thread and gives
// the value. When the environment is gone nothing happens. Values the native side needs alive are kept in `held`.
class PendingPromise : public std::enable_shared_from_this<PendingPromise> {
 public:
  using Make = std::function<Napi::Value(Napi::Env)>;

  static std::shared_ptr<PendingPromise> create(Napi::Env env) {
    auto pending = std::make_shared<PendingPromise>(env);
    pending->function_ = Napi::ThreadSafeFunction::New(env, Napi::Function::New(env, [](const Napi::CallbackInfo&) {}), "mome", 0, 1);
    return pending;
  }
  explicit PendingPromise(Napi::Env env) : deferred_(Napi::Promise::Deferred::New(env)) {}

  Napi::Value promise() const { return deferred_.Promise(); }
  // Keeps `value` from being collected until the promise is settled.
  void hold(const Napi::Value& value) {
    if (value.IsObject()) held_.push_back(Napi::Persistent(value.As<Napi::Object>()));
  }

  void settle(Status status, Make make) {
    struct Settlement {
      std::shared_ptr<PendingPromise> pending;
      Status status;
      Make make;
    };
    auto* settlement = new Settlement{shared_from_this(), std::move(status), std::move(make)};
    const napi_status queued = function_.BlockingCall(settlement, [](Napi::Env env, Napi::Function, Settlement* done) {
      std::unique_ptr<Settlement> owned(done);
      if (static_cast<napi_env>(env) == nullptr) {
        for (Napi::ObjectReference& reference : owned->pending->held_) reference.SuppressDestruct();
        return;
      }
      Napi::HandleScope scope(env);
      owned->pending->held_.clear();
      if (!owned->status.ok()) {
        owned->pending->deferred_.Reject(to_error(env, owned->status).Value());
        return;
      }
      const Napi::Value value = owned->make ? owned->make(env) : env.Undefined();
      if (env.IsExceptionPending()) owned->pending->deferred_.Reject(env.GetAndClearPendingException().Value());
      else owned->pending->deferred_.Resolve(value);
    });
    if (queued != napi_ok) {
      // The environment is closing: references can no longer be touched.
      for (Napi::ObjectReference& reference : held_) reference.SuppressDestruct();
      delete settlement;
    } else {
      function_.Release();
    }
  }

 private:
  Napi::Promise::Deferred deferred_;
  Napi::ThreadSafeFunction function_;
  std::vector<Napi::ObjectReference> held_;
};

void register_background(Napi::Env env, Napi::Object exports);
void register_engine(Napi::Env env, Napi::Object exports, AddonState& state);

}  // namespace mome
