// What every binding file shares: the one include of napi.h, errors as JS values, promises settled from native threads.
#pragma once

#include <napi.h>

#include <cmath>
#include <cstdio>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <vector>

#include "core/status.h"

namespace mome {

// The way from native threads to one environment's JS thread. Closed by a clean-up hook before the environment takes
// its function apart, so that no thread ever calls into one that is gone.
class Mailbox {
 public:
  using Letter = std::function<void(Napi::Env)>;

  // Called on the JS thread. The function keeps the process alive only while letters are awaited.
  static std::shared_ptr<Mailbox> open(Napi::Env env);

  // Announces a letter; JS thread.
  void await(Napi::Env env) {
    if (awaited_++ == 0) function_.Ref(env);
  }
  // Hands a letter to the JS thread; any thread. Without an environment it is dropped, unread.
  void post(Letter letter);
  // Calls `body`, which reads memory of JavaScript, unless the environment has ended; the environment does not end
  // before `body` has. Any thread.
  template <typename Body>
  bool while_open(const Body& body) {
    const std::shared_lock reading(memory_);
    {
      const std::lock_guard lock(mutex_);
      if (closed_) return false;
    }
    body();
    return true;
  }

 private:
  std::mutex mutex_;
  std::shared_mutex memory_;
  bool closed_ = false;
  int64_t awaited_ = 0;  // JS thread
  Napi::ThreadSafeFunction function_;
};

// Per-environment state.
struct AddonState {
  Napi::FunctionReference engine, weights, program, cancel_token, process_group;
  std::shared_ptr<Mailbox> mailbox;
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

inline Napi::Value raise(Napi::Env env, Code code, const std::string& message) {
  return raise(env, Status(code, message));
}

// A promise that a native thread settles. `settle` may be called on any thread, once; `make` then runs on the JS thread
// and gives the value. When the environment is gone nothing happens. Values the native side needs alive are kept in
// `held`.
class PendingPromise : public std::enable_shared_from_this<PendingPromise> {
 public:
  using Make = std::function<Napi::Value(Napi::Env)>;

  static std::shared_ptr<PendingPromise> create(Napi::Env env) {
    auto pending = std::make_shared<PendingPromise>(env);
    pending->mailbox_->await(env);
    return pending;
  }
  // An environment that is ending makes no promise: both stay null then. (Napi::Promise::Deferred would leave them
  // undefined.)
  explicit PendingPromise(Napi::Env env) : mailbox_(env.GetInstanceData<AddonState>()->mailbox) {
    napi_value promise = nullptr;
    if (napi_create_promise(env, &deferred_, &promise) != napi_ok) {
      deferred_ = nullptr;
      promise = nullptr;
    }
    promise_ = Napi::Value(env, promise);
  }
  ~PendingPromise() {
    // Left when the environment ended first: its references can no longer be touched.
    for (Napi::ObjectReference& reference : held_) reference.SuppressDestruct();
  }

  // Valid until the call that made it returns.
  Napi::Value promise() const { return promise_; }
  // Keeps `value` from being collected until the promise is settled.
  void hold(const Napi::Value& value) {
    if (value.IsObject()) held_.push_back(Napi::Persistent(value.As<Napi::Object>()));
  }

  template <typename Body>
  bool while_open(const Body& body) {
    return mailbox_->while_open(body);
  }

  void settle(Status status, Make make) {
    mailbox_->post([pending = shared_from_this(), status = std::move(status), make = std::move(make)](Napi::Env env) {
      pending->held_.clear();
      if (pending->deferred_ == nullptr) return;
      if (!status.ok()) {
        napi_reject_deferred(env, pending->deferred_, to_error(env, status).Value());
        return;
      }
      const Napi::Value value = make ? make(env) : env.Undefined();
      if (env.IsExceptionPending())
        napi_reject_deferred(env, pending->deferred_, env.GetAndClearPendingException().Value());
      else if (!value.IsEmpty())
        napi_resolve_deferred(env, pending->deferred_, value);
    });
  }

 private:
  napi_deferred deferred_ = nullptr;
  Napi::Value promise_;
  std::shared_ptr<Mailbox> mailbox_;
  std::vector<Napi::ObjectReference> held_;
};

// A typed array with a copy of `values`; undefined where the environment is ending and makes no more values.
template <typename Array, typename Element>
Napi::Value to_array(Napi::Env env, const Element* values, size_t count) {
  Array array = Array::New(env, count);
  if (array.IsEmpty() || env.IsExceptionPending()) return env.Undefined();
  if (count > 0) std::memcpy(array.Data(), values, count * sizeof(Element));
  return array;
}

void register_background(Napi::Env env, Napi::Object exports);
void register_process(Napi::Env env, Napi::Object exports);
void register_engine(Napi::Env env, Napi::Object exports, AddonState& state);
void register_process_group(Napi::Env env, Napi::Object exports, AddonState& state);

// Takes a whole number that is not negative.
inline bool number_in(double number, int64_t& value) {
  if (!(number >= 0 && number <= 9e15) || number != std::floor(number)) return false;
  value = static_cast<int64_t>(number);
  return true;
}

inline bool number_at(const Napi::CallbackInfo& info, size_t index, int64_t& value) {
  return info[index].IsNumber() && number_in(info[index].As<Napi::Number>().DoubleValue(), value);
}

}  // namespace mome
