// The classes of the binding: engine, weights, program, cancel token.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "core/engine.h"
#include "core/weights.h"
#include "napi/bridge.h"

namespace mome {

class CancelToken : public Napi::ObjectWrap<CancelToken> {
 public:
  static Napi::Function Define(Napi::Env env);
  explicit CancelToken(const Napi::CallbackInfo& info) : Napi::ObjectWrap<CancelToken>(info) {}
  const std::shared_ptr<std::atomic<bool>>& flag() const { return flag_; }

 private:
  void Cancel(const Napi::CallbackInfo&) { flag_->store(true, std::memory_order_relaxed); }
  std::shared_ptr<std::atomic<bool>> flag_ = std::make_shared<std::atomic<bool>>(false);
};

class NativeEngine : public Napi::ObjectWrap<NativeEngine> {
 public:
  static Napi::Function Define(Napi::Env env);
  explicit NativeEngine(const Napi::CallbackInfo& info);
  ~NativeEngine() override { account(0); }
  // Null once disposed.
  Engine* engine() const { return engine_.get(); }

 private:
  Napi::Value Threads(const Napi::CallbackInfo& info);
  Napi::Value Target(const Napi::CallbackInfo& info);
  Napi::Value ArenaBytes(const Napi::CallbackInfo& info);
  Napi::Value Holds(const Napi::CallbackInfo& info);
  void Dispose(const Napi::CallbackInfo& info);
  // Tells V8 that this engine holds `bytes` outside its heap. The total of all that V8 was told of.
  int64_t account(int64_t bytes);

  std::unique_ptr<Engine> engine_;
  napi_env env_ = nullptr;
  int64_t accounted_ = 0;
};

// Weights belong to the engine they were made with; everything asynchronous runs on its coordinator thread.
class NativeWeights : public Napi::ObjectWrap<NativeWeights> {
 public:
  static Napi::Function Define(Napi::Env env);
  explicit NativeWeights(const Napi::CallbackInfo& info);
  const std::shared_ptr<WeightStore>& store() const { return store_; }
  Engine* engine() const { return owner_ == nullptr ? nullptr : owner_->engine(); }

 private:
  Napi::Value Add(const Napi::CallbackInfo& info);
  Napi::Value Map(const Napi::CallbackInfo& info);
  Napi::Value Names(const Napi::CallbackInfo& info);
  Napi::Value Count(const Napi::CallbackInfo& info);
  Napi::Value Bytes(const Napi::CallbackInfo& info);
  Napi::Value Read(const Napi::CallbackInfo& info);
  Napi::Value Write(const Napi::CallbackInfo& info);
  Napi::Value EnableTraining(const Napi::CallbackInfo& info);
  Napi::Value ZeroGradients(const Napi::CallbackInfo& info);
  Napi::Value GradientNorm(const Napi::CallbackInfo& info);
  Napi::Value Adamw(const Napi::CallbackInfo& info);
  void Dispose(const Napi::CallbackInfo& info);

  NativeEngine* owner_ = nullptr;
  Napi::ObjectReference owner_reference_;
  std::shared_ptr<WeightStore> store_;
};

class NativeProgram : public Napi::ObjectWrap<NativeProgram> {
 public:
  static Napi::Function Define(Napi::Env env);
  explicit NativeProgram(const Napi::CallbackInfo& info);

 private:
  Napi::Value Names(const Napi::CallbackInfo& info);
  Napi::Value Run(const Napi::CallbackInfo& info);
  Napi::Value ReduceGradients(const Napi::CallbackInfo& info);
  Napi::Value ReleasePlain(const Napi::CallbackInfo& info);
  void Dispose(const Napi::CallbackInfo& info);

  Napi::ObjectReference owner_reference_;
  NativeWeights* owner_ = nullptr;
  std::shared_ptr<CompiledProgram> compiled_;
};

// Queues `work` on the engine's coordinator thread and returns the promise it settles.
// `shared`: it may overlap with other such work of a device (Engine::post).
Napi::Value in_engine(Napi::Env env, Engine& engine, std::function<Status(PendingPromise::Make&)> work,
                      bool shared = false);

// A Float32Array with a copy of `values`.
Napi::Value to_float32(Napi::Env env, const std::vector<float>& values);

}  // namespace mome
