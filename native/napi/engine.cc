#include "napi/engine.h"

#include <cstring>
#include <new>
#include <system_error>
#include <thread>

namespace mome {

Napi::Value in_engine(Napi::Env env, Engine& engine, std::function<Status(PendingPromise::Make&)> work, bool shared) {
  auto pending = PendingPromise::create(env);
  const Napi::Value promise = pending->promise();
  engine.post([pending, work = std::move(work)] {
    PendingPromise::Make make;
    Status status;
    try {
      status = work(make);
    } catch (const std::bad_alloc&) {
      status = error(Code::out_of_memory, "engine: no memory");
    }
    pending->settle(std::move(status), std::move(make));
  }, shared);
  return promise;
}

Napi::Value to_float32(Napi::Env env, const std::vector<float>& values) {
  return to_array<Napi::Float32Array>(env, values.data(), values.size());
}

Napi::Function CancelToken::Define(Napi::Env env) {
  return DefineClass(env, "CancelToken", {InstanceMethod("cancel", &CancelToken::Cancel)});
}

// ---- engine

Napi::Function NativeEngine::Define(Napi::Env env) {
  return DefineClass(env, "NativeEngine",
                     {InstanceAccessor("threads", &NativeEngine::Threads, nullptr), InstanceAccessor("target", &NativeEngine::Target, nullptr),
                      InstanceAccessor("arenaBytes", &NativeEngine::ArenaBytes, nullptr), InstanceMethod("dispose", &NativeEngine::Dispose)});
}

// new NativeEngine(threads, target, deviceIndex?, memoryLimit?): the last two for target cuda.
NativeEngine::NativeEngine(const Napi::CallbackInfo& info) : Napi::ObjectWrap<NativeEngine>(info) {
  constexpr int kMaxThreads = 1024;
  if (!info[0].IsNumber() || !info[1].IsString()) {
    raise(info.Env(), Code::invalid_argument, "NativeEngine: expected (threads, target)");
    return;
  }
  const double threads = info[0].As<Napi::Number>().DoubleValue();
  if (!(threads >= 0 && threads <= kMaxThreads)) {
    raise(info.Env(), Code::invalid_argument, "NativeEngine: expected 0 to 1024 threads");
    return;
  }
  mome::Target target;
  const std::string name = info[1].As<Napi::String>().Utf8Value();
  if (!parse_target(name, target) || !target_supported(target)) {
    const bool cuda = name == target_name(mome::Target::cuda);
    raise(info.Env(), Code::device_unavailable,
          cuda ? "NativeEngine: no CUDA library: " + device_library().reason : "NativeEngine: this processor has no target '" + name + "'");
    return;
  }
  std::shared_ptr<Device> device;
  if (target == mome::Target::cuda) {
    const double index = info[2].IsNumber() ? info[2].As<Napi::Number>().DoubleValue() : 0;
    const double limit = info[3].IsNumber() ? info[3].As<Napi::Number>().DoubleValue() : 0;
    if (!(index >= 0 && index < 1024 && limit >= 0 && limit < 0x1p53)) {
      raise(info.Env(), Code::invalid_argument, "NativeEngine: expected a device index and a limit of bytes");
      return;
    }
    const Status status = device_library().api->open({static_cast<int>(index), static_cast<size_t>(limit)}, device);
    if (!status.ok()) {
      raise(info.Env(), status);
      return;
    }
  }
  try {
    engine_ = std::make_unique<Engine>(static_cast<int>(threads), target, std::move(device));
  } catch (const std::system_error&) {
    raise(info.Env(), Code::out_of_memory, "NativeEngine: no thread could be started");
  }
}

Napi::Value NativeEngine::Threads(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), engine_ ? engine_->threads() : 0);
}

Napi::Value NativeEngine::Target(const Napi::CallbackInfo& info) {
  return Napi::String::New(info.Env(), engine_ ? std::string(target_name(engine_->target())) : "");
}

Napi::Value NativeEngine::ArenaBytes(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), engine_ ? static_cast<double>(engine_->arena_bytes()) : 0);
}

// Waiting for the run in progress is left to another thread, so that the event loop goes on.
void NativeEngine::Dispose(const Napi::CallbackInfo&) {
  if (!engine_) return;
  try {
    std::thread([engine = std::move(engine_)]() mutable { engine.reset(); }).detach();
  } catch (const std::system_error&) {  // no thread to wait on: it was waited for here
  }
}

// ---- program

Napi::Function NativeProgram::Define(Napi::Env env) {
  return DefineClass(env, "NativeProgram",
                     {InstanceMethod("run", &NativeProgram::Run), InstanceMethod("releasePlain", &NativeProgram::ReleasePlain),
                      InstanceMethod("dispose", &NativeProgram::Dispose)});
}

// new NativeProgram(weights, text)
NativeProgram::NativeProgram(const Napi::CallbackInfo& info) : Napi::ObjectWrap<NativeProgram>(info) {
  const auto* state = info.Env().GetInstanceData<AddonState>();
  if (!info[0].IsObject() || !info[0].As<Napi::Object>().InstanceOf(state->weights.Value()) || !info[1].IsString()) {
    raise(info.Env(), Code::invalid_argument, "NativeProgram: expected (weights, text)");
    return;
  }
  owner_ = NativeWeights::Unwrap(info[0].As<Napi::Object>());
  owner_reference_ = Napi::Persistent(info[0].As<Napi::Object>());
  if (owner_->engine() == nullptr || !owner_->store()) {
    raise(info.Env(), Code::disposed, "NativeProgram: expected live weights");
    return;
  }
  const std::string text = info[1].As<Napi::String>().Utf8Value();
  const Status status = CompiledProgram::create(text, *owner_->store(), owner_->engine()->target(), compiled_);
  if (!status.ok()) raise(info.Env(), status);
}

namespace {

// Copies of a run's inputs: the caller may change or transfer its arrays at once.
struct OwnedInputs {
  std::vector<std::vector<std::byte>> copies;
  RunRequest request;
};

Status read_number(const Napi::Object& numbers, const std::string& name, const char* kind, double& value) {
  const Napi::Value number = numbers.Get(name);
  if (!number.IsNumber()) return Status(Code::invalid_argument, std::string("run: expected ") + kind + " " + name + ", got none");
  value = number.As<Napi::Number>().DoubleValue();
  return {};
}

Status read_input(const Napi::Object& inputs, const ProgramInput& declared, OwnedInputs& owned) {
  const Napi::Value value = inputs.Get(declared.name);
  if (!value.IsTypedArray()) return Status(Code::invalid_argument, "run: expected a typed array for input " + declared.name);
  const Napi::TypedArray array = value.As<Napi::TypedArray>();
  RunInput input{declared.type, nullptr, array.ElementLength()};
  const napi_typedarray_type wanted = declared.type == ElementType::f32   ? napi_float32_array
                                      : declared.type == ElementType::i32 ? napi_int32_array
                                                                          : napi_uint8_array;
  if (array.TypedArrayType() != wanted) return Status(Code::invalid_argument, "run: expected another element type for input " + declared.name);
  const auto* data = static_cast<const std::byte*>(array.ArrayBuffer().Data());
  const size_t bytes = array.ByteLength();
  owned.copies.emplace_back();
  if (bytes > 0) owned.copies.back().assign(data + array.ByteOffset(), data + array.ByteOffset() + bytes);
  input.data = owned.copies.back().data();
  owned.request.inputs.push_back(input);
  return {};
}

}  // namespace

// run({ dims, inputs, scalars?, profile? }, cancelToken?): Promise<{ outputs, nanoseconds? }>
Napi::Value NativeProgram::Run(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  Engine* engine = owner_ == nullptr ? nullptr : owner_->engine();
  if (engine == nullptr || !compiled_ || !owner_->store()) return raise(env, Code::disposed, "run: expected a live program");
  if (!info[0].IsObject()) return raise(env, Code::invalid_argument, "run: expected an object with dims and inputs");
  const Napi::Object arguments = info[0].As<Napi::Object>();
  const Napi::Value dims = arguments.Get("dims");
  const Napi::Value inputs = arguments.Get("inputs");
  const Napi::Value scalars = arguments.Get("scalars");
  if (!dims.IsObject() || !inputs.IsObject()) return raise(env, Code::invalid_argument, "run: expected an object with dims and inputs");

  auto owned = std::make_shared<OwnedInputs>();
  const Program& program = *compiled_->program;
  double number = 0;
  Status status;
  for (const std::string& name : program.dims) {
    status = read_number(dims.As<Napi::Object>(), name, "dimension", number);
    if (status.ok() && !(number >= 0 && number < 0x1p40 && number == static_cast<double>(static_cast<int64_t>(number)))) {
      status = Status(Code::invalid_argument, "run: expected dimension " + name + " to be a whole number >= 0");
    }
    if (!status.ok()) return raise(env, status);
    owned->request.dims.push_back(static_cast<int64_t>(number));
  }
  for (const std::string& name : program.scalars) {
    if (!scalars.IsObject()) return raise(env, Code::invalid_argument, "run: expected scalars");
    status = read_number(scalars.As<Napi::Object>(), name, "scalar", number);
    if (!status.ok()) return raise(env, status);
    owned->request.scalars.push_back(number);
  }
  for (const ProgramInput& declared : program.inputs) {
    status = read_input(inputs.As<Napi::Object>(), declared, *owned);
    if (!status.ok()) return raise(env, status);
  }
  const Napi::Value profile = arguments.Get("profile");
  owned->request.profile = profile.IsBoolean() && profile.As<Napi::Boolean>().Value();
  const auto* state = env.GetInstanceData<AddonState>();
  if (info[1].IsObject() && info[1].As<Napi::Object>().InstanceOf(state->cancel_token.Value())) {
    owned->request.cancelled = CancelToken::Unwrap(info[1].As<Napi::Object>())->flag();
  }
  return in_engine(env, *engine, [engine, owned, compiled = compiled_, store = owner_->store()](PendingPromise::Make& make) -> Status {
    auto result = std::make_shared<RunResult>();
    MOME_RETURN_IF_ERROR(engine->run(*compiled, *store, owned->request, *result));
    make = [result, compiled](Napi::Env env) -> Napi::Value {
      Napi::Object outputs = Napi::Object::New(env);
      for (size_t i = 0; i < result->outputs.size(); i++) outputs.Set(compiled->program->outputs[i].name, to_float32(env, result->outputs[i]));
      Napi::Object value = Napi::Object::New(env);
      value.Set("outputs", outputs);
      if (!result->nanoseconds.empty()) {
        value.Set("nanoseconds", to_array<Napi::Float64Array>(env, result->nanoseconds.data(), result->nanoseconds.size()));
      }
      return value;
    };
    return {};
  }, true);
}

// releasePlain(): Promise<void>: keeps only the packed form of the matrices this program reads.
Napi::Value NativeProgram::ReleasePlain(const Napi::CallbackInfo& info) {
  Engine* engine = owner_ == nullptr ? nullptr : owner_->engine();
  if (engine == nullptr || !compiled_ || !owner_->store()) return raise(info.Env(), Code::disposed, "releasePlain: expected a live program");
  return in_engine(info.Env(), *engine, [engine, compiled = compiled_, store = owner_->store()](PendingPromise::Make&) -> Status {
    return engine->release_plain(*compiled, *store);
  });
}

void NativeProgram::Dispose(const Napi::CallbackInfo&) { compiled_.reset(); }

void register_engine(Napi::Env env, Napi::Object exports, AddonState& state) {
  state.cancel_token = Napi::Persistent(CancelToken::Define(env));
  state.engine = Napi::Persistent(NativeEngine::Define(env));
  state.weights = Napi::Persistent(NativeWeights::Define(env));
  state.program = Napi::Persistent(NativeProgram::Define(env));
  exports.Set("CancelToken", state.cancel_token.Value());
  exports.Set("NativeEngine", state.engine.Value());
  exports.Set("NativeWeights", state.weights.Value());
  exports.Set("NativeProgram", state.program.Value());
}

}  // namespace mome
