#include "napi/engine.h"

#include "core/blocking.h"
#include "core/self_check.h"
#include "napi/process_group.h"

#include <cmath>
#include <cstring>
#include <new>
#include <system_error>
#include <thread>

namespace mome {

Napi::Value in_engine(Napi::Env env, Engine& engine, std::function<Status(PendingPromise::Make&)> work, bool shared) {
  auto pending = PendingPromise::create(env);
  const Napi::Value promise = pending->promise();
  engine.post(
      [pending, work = std::move(work)] {
        PendingPromise::Make make;
        Status status;
        try {
          status = work(make);
        } catch (const std::bad_alloc&) {
          status = error(Code::out_of_memory, "engine: no memory");
        }
        pending->settle(std::move(status), std::move(make));
      },
      shared);
  return promise;
}

Napi::Value to_float32(Napi::Env env, const std::vector<float>& values) {
  return to_array<Napi::Float32Array>(env, values.data(), values.size());
}

Napi::Function CancelToken::Define(Napi::Env env) {
  return DefineClass(env, "CancelToken", {InstanceMethod("cancel", &CancelToken::Cancel)});
}

// ---- engine

namespace {

// The CPU targets of this processor, as a sentence lists them.
std::string targets_here() {
  std::string names;
  for (const Target target : kCpuTargets) {
    if (!target_supported(target)) continue;
    if (!names.empty()) names += ", ";
    names += target_name(target);
  }
  return names;
}

}  // namespace

Napi::Function NativeEngine::Define(Napi::Env env) {
  return DefineClass(
      env, "NativeEngine",
      {InstanceAccessor("threads", &NativeEngine::Threads, nullptr),
       InstanceAccessor("target", &NativeEngine::Target, nullptr),
       InstanceAccessor("arenaBytes", &NativeEngine::ArenaBytes, nullptr),
       InstanceMethod("holds", &NativeEngine::Holds), InstanceMethod("dispose", &NativeEngine::Dispose)});
}

// new NativeEngine(threads, target, deviceIndex?, memoryLimit?): the last two for target cuda.
NativeEngine::NativeEngine(const Napi::CallbackInfo& info) : Napi::ObjectWrap<NativeEngine>(info), env_(info.Env()) {
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
          cuda ? "NativeEngine: no CUDA library: " + device_library().reason
               : "NativeEngine: expected a target of this processor, " + targets_here() + ", got '" + name + "'");
    return;
  }
  if (const bool cuda = target == mome::Target::cuda; !cuda && !target_check(target).passed) {
    raise(info.Env(), Code::device_unavailable,
          "NativeEngine: the self-check of target '" + name +
              "' failed on this processor: " + target_check(target).wrong);
    return;
  }
  if (!blocking_status().ok()) {
    raise(info.Env(), blocking_status());
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

// holds(bytes): how much memory this engine, its weights included, holds outside V8's heap. Without it V8 sees small
// objects alone and leaves models that were dropped for a long time. The total that V8 knows of.
Napi::Value NativeEngine::Holds(const Napi::CallbackInfo& info) {
  const double bytes = info[0].IsNumber() ? info[0].As<Napi::Number>().DoubleValue() : 0;
  return Napi::Number::New(
      info.Env(),
      static_cast<double>(account(engine_ && bytes >= 0 && bytes < 0x1p53 ? static_cast<int64_t>(bytes) : 0)));
}

int64_t NativeEngine::account(int64_t bytes) {
  int64_t total = 0;
  if (env_ != nullptr && napi_adjust_external_memory(env_, bytes - accounted_, &total) == napi_ok) accounted_ = bytes;
  return total;
}

// Waiting for the run in progress is left to another thread, so that the event loop goes on.
void NativeEngine::Dispose(const Napi::CallbackInfo&) {
  account(0);
  if (!engine_) return;
  try {
    std::thread([engine = std::move(engine_)]() mutable { engine.reset(); }).detach();
  } catch (const std::system_error&) {  // no thread to wait on: it was waited for here
  }
}

// ---- program

Napi::Function NativeProgram::Define(Napi::Env env) {
  return DefineClass(
      env, "NativeProgram",
      {InstanceAccessor("names", &NativeProgram::Names, nullptr), InstanceMethod("run", &NativeProgram::Run),
       InstanceMethod("reduceGradients", &NativeProgram::ReduceGradients),
       InstanceMethod("releasePlain", &NativeProgram::ReleasePlain),
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

// A run's inputs, copied: the caller may change or transfer its arrays at once.
struct OwnedInputs {
  std::unique_ptr<std::byte[]> copies;
  RunRequest request;
};

// Where one copy ends and the next begins.
size_t align(size_t bytes) { return (bytes + 15) / 16 * 16; }

// Numbers in the order of `names`; NaN stands for one that was not given.
Status read_numbers(const Napi::Value& value, const std::vector<std::string>& names, const char* kind,
                    std::vector<double>& numbers) {
  napi_typedarray_type type = napi_int8_array;
  size_t count = 0;
  void* data = nullptr;
  if (value.IsTypedArray() &&
      napi_get_typedarray_info(value.Env(), value, &type, &count, &data, nullptr, nullptr) != napi_ok)
    count = 0;
  if (count != names.size() || (count > 0 && type != napi_float64_array)) {
    return error(Code::invalid_argument, "run: expected %zu %ss in a Float64Array", names.size(), kind);
  }
  if (count > 0) numbers.assign(static_cast<const double*>(data), static_cast<const double*>(data) + count);
  for (size_t i = 0; i < count; i++) {
    if (std::isnan(numbers[i]))
      return error(Code::invalid_argument, "run: expected %s %s, got none", kind, names[i].c_str());
  }
  return {};
}

Status read_dims(const Napi::Value& value, const Program& program, std::vector<int64_t>& dims) {
  std::vector<double> numbers;
  MOME_RETURN_IF_ERROR(read_numbers(value, program.dims, "dimension", numbers));
  for (size_t i = 0; i < numbers.size(); i++) {
    if (!(numbers[i] >= 0 && numbers[i] < 0x1p40 && numbers[i] == std::floor(numbers[i]))) {
      return error(Code::invalid_argument, "run: expected dimension %s to be a whole number >= 0",
                   program.dims[i].c_str());
    }
    dims.push_back(static_cast<int64_t>(numbers[i]));
  }
  return {};
}

// Typed arrays in the order of the program's inputs.
Status read_inputs(const Napi::Value& value, const Program& program, OwnedInputs& owned) {
  if (!value.IsArray()) return error(Code::invalid_argument, "run: expected a list of inputs");
  const Napi::Array arrays = value.As<Napi::Array>();
  std::vector<size_t> bytes;
  size_t total = 0;
  for (size_t i = 0; i < program.inputs.size(); i++) {
    const ProgramInput& declared = program.inputs[i];
    const Napi::Value array = arrays.Get(static_cast<uint32_t>(i));
    napi_typedarray_type type = napi_int8_array;
    size_t count = 0;
    void* data = nullptr;
    if (!array.IsTypedArray() ||
        napi_get_typedarray_info(array.Env(), array, &type, &count, &data, nullptr, nullptr) != napi_ok) {
      return error(Code::invalid_argument, "run: expected a typed array for input %s", declared.name.c_str());
    }
    const napi_typedarray_type wanted = declared.type == ElementType::f32   ? napi_float32_array
                                        : declared.type == ElementType::i32 ? napi_int32_array
                                                                            : napi_uint8_array;
    if (type != wanted)
      return error(Code::invalid_argument, "run: expected another element type for input %s", declared.name.c_str());
    owned.request.inputs.push_back({declared.type, data, count});
    bytes.push_back(count * (wanted == napi_uint8_array ? 1 : 4));
    total += align(bytes.back());
  }
  owned.copies.reset(new std::byte[total]);
  size_t place = 0;
  for (size_t i = 0; i < bytes.size(); i++) {
    if (bytes[i] > 0) std::memcpy(owned.copies.get() + place, owned.request.inputs[i].data, bytes[i]);
    owned.request.inputs[i].data = owned.copies.get() + place;
    place += align(bytes[i]);
  }
  return {};
}

// A group and the parameters whose gradients its processes sum.
Status read_group(const Napi::Value& given, const Napi::Value& names, const WeightStore& store,
                  std::shared_ptr<ProcessGroup>& group, std::vector<int>& parameters) {
  const auto* state = given.Env().GetInstanceData<AddonState>();
  if (!given.IsObject() || !given.As<Napi::Object>().InstanceOf(state->process_group.Value()) || !names.IsArray())
    return error(Code::invalid_argument, "run: expected a process group and names of parameters");
  group = NativeProcessGroup::Unwrap(given.As<Napi::Object>())->group();
  if (!group) return error(Code::disposed, "run: expected a process group that was not left");
  if (!store.training()) return error(Code::invalid_argument, "run: expected weights that are trained");
  const Napi::Array list = names.As<Napi::Array>();
  for (uint32_t i = 0; i < list.Length(); i++) {
    const Napi::Value name = list.Get(i);
    const int index = name.IsString() ? store.find(name.As<Napi::String>().Utf8Value()) : -1;
    if (index < 0) return error(Code::not_found, "run: expected names of parameters whose gradients are summed");
    parameters.push_back(index);
  }
  return {};
}

void read_part(const Napi::Object& part, RunRequest& request) {
  const auto number = [&](const char* name, size_t absent) {
    const Napi::Value value = part.Get(name);
    const double given = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : -1;
    return given >= 0 && given < 0x1p40 ? static_cast<size_t>(given) : absent;
  };
  request.first = number("first", 0);
  request.end = number("end", SIZE_MAX);
  request.keep = part.Get("keep").ToBoolean().Value();
}

Napi::Array to_list(Napi::Env env, const std::vector<std::string>& names) {
  Napi::Array list = Napi::Array::New(env, names.size());
  for (size_t i = 0; i < names.size(); i++) list.Set(static_cast<uint32_t>(i), names[i]);
  return list;
}

}  // namespace

// names: { dims, scalars, inputs } in the order in which `run` takes them.
Napi::Value NativeProgram::Names(const Napi::CallbackInfo& info) {
  Napi::Object names = Napi::Object::New(info.Env());
  if (!compiled_) return names;
  std::vector<std::string> inputs;
  for (const ProgramInput& input : compiled_->program->inputs) inputs.push_back(input.name);
  names.Set("dims", to_list(info.Env(), compiled_->program->dims));
  names.Set("scalars", to_list(info.Env(), compiled_->program->scalars));
  names.Set("inputs", to_list(info.Env(), inputs));
  return names;
}

// run(dims: Float64Array, scalars: Float64Array, inputs: typed arrays, profile, cancelToken?, { first?, end?, keep?,
// group?, gradients? }?): Promise<{ outputs, nanoseconds?, startNanoseconds? }>
Napi::Value NativeProgram::Run(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  Engine* engine = owner_ == nullptr ? nullptr : owner_->engine();
  if (engine == nullptr || !compiled_ || !owner_->store())
    return raise(env, Code::disposed, "run: expected a live program");

  auto owned = std::make_shared<OwnedInputs>();
  owned->request.asked = std::chrono::steady_clock::now();
  const Program& program = *compiled_->program;
  Status status = read_dims(info[0], program, owned->request.dims);
  if (status.ok()) status = read_numbers(info[1], program.scalars, "scalar", owned->request.scalars);
  if (status.ok()) status = read_inputs(info[2], program, *owned);
  if (!status.ok()) return raise(env, status);
  owned->request.profile = info[3].IsBoolean() && info[3].As<Napi::Boolean>().Value();
  const auto* state = env.GetInstanceData<AddonState>();
  if (info[4].IsObject() && info[4].As<Napi::Object>().InstanceOf(state->cancel_token.Value())) {
    owned->request.cancelled = CancelToken::Unwrap(info[4].As<Napi::Object>())->flag();
  }
  std::shared_ptr<ProcessGroup> group;
  if (info[5].IsObject()) {
    const Napi::Object part = info[5].As<Napi::Object>();
    read_part(part, owned->request);
    std::vector<int> parameters;
    if (part.Has("group")) {
      status = read_group(part.Get("group"), part.Get("gradients"), *owner_->store(), group, parameters);
      if (!status.ok()) return raise(env, status);
      // The sums of gradients begin as soon as nothing is added to them any more.
      owned->request.after = [group, store = owner_->store(), next = size_t{0},
                              buckets = GradientBuckets::of(program, compiled_->parameters, *owner_->store(),
                                                            parameters)](size_t instruction) mutable {
        for (; next < buckets.buckets.size() && buckets.buckets[next].ready_after <= instruction; next++)
          GradientBuckets::post(*group, buckets.buckets[next], store);
      };
    }
  }
  return in_engine(
      env, *engine,
      [engine, owned, group, compiled = compiled_, store = owner_->store()](PendingPromise::Make& make) -> Status {
        auto result = std::make_shared<RunResult>();
        const Status done = engine->run(*compiled, *store, owned->request, *result);
        if (group && !done.ok()) group->fail(done);  // the other processes wait for sums that will not come
        MOME_RETURN_IF_ERROR(done);
        make = [result, compiled](Napi::Env env) -> Napi::Value {
          Napi::Object outputs = Napi::Object::New(env);
          for (size_t i = 0; i < result->outputs.size(); i++)
            outputs.Set(compiled->program->outputs[i].name, to_float32(env, result->outputs[i]));
          Napi::Object value = Napi::Object::New(env);
          value.Set("outputs", outputs);
          if (!result->nanoseconds.empty()) {
            value.Set("nanoseconds",
                      to_array<Napi::Float64Array>(env, result->nanoseconds.data(), result->nanoseconds.size()));
            value.Set("startNanoseconds", result->start_nanoseconds);
          }
          return value;
        };
        return {};
      },
      true);
}

// reduceGradients(group, parameters): posts the sums of these gradients over all processes, in the order and the pieces
// in which a run of this program with `group` does. `settled` of the group says when they are done.
Napi::Value NativeProgram::ReduceGradients(const Napi::CallbackInfo& info) {
  if (owner_ == nullptr || owner_->engine() == nullptr || !compiled_ || !owner_->store())
    return raise(info.Env(), Code::disposed, "reduceGradients: expected a live program");
  std::shared_ptr<ProcessGroup> group;
  std::vector<int> parameters;
  const Status status = read_group(info[0], info[1], *owner_->store(), group, parameters);
  if (!status.ok()) return raise(info.Env(), status);
  const GradientBuckets buckets =
      GradientBuckets::of(*compiled_->program, compiled_->parameters, *owner_->store(), parameters);
  for (const GradientBuckets::Bucket& bucket : buckets.buckets) GradientBuckets::post(*group, bucket, owner_->store());
  return info.Env().Undefined();
}

// releasePlain(): Promise<void>: keeps only the packed form of the matrices this program reads.
Napi::Value NativeProgram::ReleasePlain(const Napi::CallbackInfo& info) {
  Engine* engine = owner_ == nullptr ? nullptr : owner_->engine();
  if (engine == nullptr || !compiled_ || !owner_->store())
    return raise(info.Env(), Code::disposed, "releasePlain: expected a live program");
  return in_engine(info.Env(), *engine,
                   [engine, compiled = compiled_, store = owner_->store()](PendingPromise::Make&) -> Status {
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
