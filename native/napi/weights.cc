// NativeWeights: parameters in and out, gradients and the optimiser.
#include <fcntl.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/training.h"
#include "napi/engine.h"

namespace mome {
namespace {

Status read_shape(const Napi::Value& value, std::vector<int64_t>& shape) {
  if (!value.IsArray()) return error(Code::invalid_argument, "weights: expected a shape, an array of numbers");
  const Napi::Array sizes = value.As<Napi::Array>();
  for (uint32_t i = 0; i < sizes.Length(); i++) {
    const Napi::Value size = sizes.Get(i);
    const double number = size.IsNumber() ? size.As<Napi::Number>().DoubleValue() : -1;
    if (!(number >= 0 && number < 0x1p40) || number != std::floor(number))
      return error(Code::invalid_argument, "weights: expected whole numbers as shape");
    shape.push_back(static_cast<int64_t>(number));
  }
  return {};
}

float number_of(const Napi::Object& object, const char* name) {
  const Napi::Value value = object.Get(name);
  return value.IsNumber() ? value.As<Napi::Number>().FloatValue() : std::nanf("");
}

std::string string_of(const Napi::Object& object, const char* name) {
  const Napi::Value value = object.Get(name);
  return value.IsString() ? value.As<Napi::String>().Utf8Value() : "";
}

const char* kinds[] = {"value", "gradient", "m", "v"};

// Kinds beside the value itself.
AlignedMemory& memory_of(Parameter& parameter, int kind) {
  return kind == 1 ? parameter.training.gradient : kind == 2 ? parameter.training.m : parameter.training.v;
}

int kind_of(const Napi::Value& value) {
  if (value.IsUndefined()) return 0;
  if (!value.IsString()) return -1;
  const std::string name = value.As<Napi::String>().Utf8Value();
  for (int kind = 0; kind < 4; kind++) {
    if (name == kinds[kind]) return kind;
  }
  return -1;
}

}  // namespace

Napi::Function NativeWeights::Define(Napi::Env env) {
  return DefineClass(
      env, "NativeWeights",
      {InstanceMethod("add", &NativeWeights::Add), InstanceMethod("map", &NativeWeights::Map),
       InstanceMethod("names", &NativeWeights::Names), InstanceMethod("count", &NativeWeights::Count),
       InstanceAccessor("bytes", &NativeWeights::Bytes, nullptr), InstanceMethod("read", &NativeWeights::Read),
       InstanceMethod("write", &NativeWeights::Write), InstanceMethod("enableTraining", &NativeWeights::EnableTraining),
       InstanceMethod("zeroGradients", &NativeWeights::ZeroGradients),
       InstanceMethod("gradientNorm", &NativeWeights::GradientNorm), InstanceMethod("adamw", &NativeWeights::Adamw),
       InstanceMethod("dispose", &NativeWeights::Dispose)});
}

// new NativeWeights(engine, type = 'float32')
NativeWeights::NativeWeights(const Napi::CallbackInfo& info) : Napi::ObjectWrap<NativeWeights>(info) {
  const auto* state = info.Env().GetInstanceData<AddonState>();
  if (!info[0].IsObject() || !info[0].As<Napi::Object>().InstanceOf(state->engine.Value())) {
    raise(info.Env(), Code::invalid_argument, "NativeWeights: expected an engine");
    return;
  }
  owner_ = NativeEngine::Unwrap(info[0].As<Napi::Object>());
  owner_reference_ = Napi::Persistent(info[0].As<Napi::Object>());
  WeightType type = WeightType::f32;
  if (info[1].IsString() && !parse_weight_type(info[1].As<Napi::String>().Utf8Value(), type)) {
    raise(info.Env(), Code::invalid_argument, "NativeWeights: expected float32, bfloat16 or int8");
    return;
  }
  store_ = std::make_shared<WeightStore>(type);
}

#define MOME_REQUIRE_LIVE() \
  if (!store_ || engine() == nullptr) return raise(info.Env(), Code::disposed, "weights: expected live weights")

// add(name, shape): the values are written afterwards. Must come before any program is made.
Napi::Value NativeWeights::Add(const Napi::CallbackInfo& info) {
  MOME_REQUIRE_LIVE();
  if (!info[0].IsString()) return raise(info.Env(), Code::invalid_argument, "weights.add: expected (name, shape)");
  std::vector<int64_t> shape;
  Status status = read_shape(info[1], shape);
  if (status.ok()) status = store_->add(info[0].As<Napi::String>().Utf8Value(), shape);
  return status.ok() ? info.Env().Undefined() : raise(info.Env(), status);
}

// map(fd, path, [{ name, shape, dtype, offset }]): Promise<void>. The descriptor is duplicated before the call returns.
Napi::Value NativeWeights::Map(const Napi::CallbackInfo& info) {
  MOME_REQUIRE_LIVE();
  if (!info[0].IsNumber() || !info[1].IsString() || !info[2].IsArray()) {
    return raise(info.Env(), Code::invalid_argument, "weights.map: expected (fd, path, entries)");
  }
  auto regions = std::make_shared<std::vector<FileRegion>>();
  const Napi::Array entries = info[2].As<Napi::Array>();
  for (uint32_t i = 0; i < entries.Length(); i++) {
    const Napi::Value entry = entries.Get(i);
    if (!entry.IsObject())
      return raise(info.Env(), Code::invalid_argument, "weights.map: expected entries to be objects");
    const Napi::Object object = entry.As<Napi::Object>();
    FileRegion region;
    region.name = string_of(object, "name");
    const std::string dtype = string_of(object, "dtype");
    const double offset = object.Get("offset").IsNumber() ? object.Get("offset").As<Napi::Number>().DoubleValue() : -1;
    const Status status = read_shape(object.Get("shape"), region.shape);
    if (!status.ok()) return raise(info.Env(), status);
    if (!(offset >= 0 && offset < 0x1p53))
      return raise(info.Env(), Code::invalid_argument, "weights.map: expected an offset >= 0");
    if (dtype == "F32")
      region.type = FileType::f32;
    else if (dtype == "F16")
      region.type = FileType::f16;
    else if (dtype == "BF16")
      region.type = FileType::bf16;
    else if (dtype == "I8")
      region.type = FileType::i8;
    else
      return raise(info.Env(), Code::unsupported, "weights.map: expected F32, F16, BF16 or I8, got " + dtype);
    if (region.type == FileType::i8) {
      const double scale =
          object.Get("scaleOffset").IsNumber() ? object.Get("scaleOffset").As<Napi::Number>().DoubleValue() : -1;
      if (!(scale >= 0 && scale < 0x1p53))
        return raise(info.Env(), Code::invalid_argument, "weights.map: expected a scaleOffset beside I8");
      region.scale_offset = static_cast<uint64_t>(scale);
    }
    region.offset = static_cast<uint64_t>(offset);
    regions->push_back(std::move(region));
  }
  const std::string path = info[1].As<Napi::String>().Utf8Value();
  auto file = std::make_shared<FileDescriptor>(fcntl(info[0].As<Napi::Number>().Int32Value(), F_DUPFD_CLOEXEC, 0));
  return in_engine(info.Env(), *engine(), [store = store_, regions, path, file](PendingPromise::Make&) {
    return store->add_from_file(std::move(*file), path, *regions);
  });
}

Napi::Value NativeWeights::Names(const Napi::CallbackInfo& info) {
  MOME_REQUIRE_LIVE();
  Napi::Array names = Napi::Array::New(info.Env());
  for (int i = 0; i < store_->size(); i++) names.Set(static_cast<uint32_t>(i), store_->at(i).name);
  return names;
}

// count(name): how many values a parameter has; undefined for one that is not there.
Napi::Value NativeWeights::Count(const Napi::CallbackInfo& info) {
  MOME_REQUIRE_LIVE();
  const int index = info[0].IsString() ? store_->find(info[0].As<Napi::String>().Utf8Value()) : -1;
  return index < 0 ? info.Env().Undefined()
                   : Napi::Number::New(info.Env(), static_cast<double>(store_->at(index).count));
}

Napi::Value NativeWeights::Bytes(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), store_ ? static_cast<double>(store_->bytes()) : 0);
}

// read(name, kind, first, count): Promise<Float32Array> of these values; kind is 'value', 'gradient', 'm' or 'v'.
Napi::Value NativeWeights::Read(const Napi::CallbackInfo& info) {
  MOME_REQUIRE_LIVE();
  const int index = info[0].IsString() ? store_->find(info[0].As<Napi::String>().Utf8Value()) : -1;
  const int kind = kind_of(info[1]);
  if (index < 0 || kind < 0)
    return raise(info.Env(), Code::not_found, "weights.read: expected the name of a parameter and a kind");
  int64_t first = 0, count = 0;
  if (!number_at(info, 2, first) || !number_at(info, 3, count) || first < 0 || count < 0 ||
      first > store_->at(index).count || count > store_->at(index).count - first) {
    return raise(info.Env(), Code::invalid_shape, "weights.read: expected a range of the parameter's values");
  }
  return in_engine(info.Env(), *engine(),
                   [store = store_, index, kind, first, count](PendingPromise::Make& make) -> Status {
                     auto values = std::make_shared<std::vector<float>>(static_cast<size_t>(count));
                     if (kind == 0) {
                       MOME_RETURN_IF_ERROR(store->read(index, first, count, values->data()));
                     } else {
                       const AlignedMemory& memory = memory_of(store->at(index), kind);
                       if (memory.data() == nullptr && count > 0)
                         return error(Code::unsupported, "weights.read: %s has no %s here",
                                      store->at(index).name.c_str(), kinds[kind]);
                       std::copy_n(memory.floats() + first, count, values->data());
                     }
                     make = [values](Napi::Env env) { return to_float32(env, *values); };
                     return {};
                   });
}

// write(name, values, kind, first): Promise<void>. The values are copied before the call returns.
Napi::Value NativeWeights::Write(const Napi::CallbackInfo& info) {
  MOME_REQUIRE_LIVE();
  const int index = info[0].IsString() ? store_->find(info[0].As<Napi::String>().Utf8Value()) : -1;
  const int kind = kind_of(info[2]);
  if (index < 0 || kind < 0)
    return raise(info.Env(), Code::not_found, "weights.write: expected the name of a parameter and a kind");
  int64_t first = 0;
  const bool is_array = info[1].IsTypedArray() && info[1].As<Napi::TypedArray>().TypedArrayType() == napi_float32_array;
  const int64_t count = is_array ? static_cast<int64_t>(info[1].As<Napi::Float32Array>().ElementLength()) : 0;
  if (!is_array || !number_at(info, 3, first) || first < 0 || first > store_->at(index).count ||
      count > store_->at(index).count - first) {
    return raise(info.Env(), Code::invalid_shape,
                 "weights.write: expected a Float32Array for a range of the parameter's values");
  }
  const float* data = info[1].As<Napi::Float32Array>().Data();
  auto values = std::make_shared<std::vector<float>>(data, data + count);
  return in_engine(
      info.Env(), *engine(), [store = store_, index, kind, first, values](PendingPromise::Make&) -> Status {
        if (kind == 0) return store->write(index, first, static_cast<int64_t>(values->size()), values->data());
        AlignedMemory& memory = memory_of(store->at(index), kind);
        if (memory.data() == nullptr)
          return error(Code::unsupported, "weights.write: %s is not being trained", store->at(index).name.c_str());
        std::copy(values->begin(), values->end(), memory.floats() + first);
        return {};
      });
}

// enableTraining(): Promise<void>
Napi::Value NativeWeights::EnableTraining(const Napi::CallbackInfo& info) {
  MOME_REQUIRE_LIVE();
  return in_engine(
      info.Env(), *engine(), [store = store_, target = engine()->target()](PendingPromise::Make&) -> Status {
        // Elsewhere the values themselves would be rounded, or bfloat16 would gain nothing.
        if (store->type() == WeightType::bf16 && !multiplies_bf16(target)) {
          return error(Code::unsupported,
                       "weights: expected kernels that multiply bfloat16 (avx512_bf16, amx) to train in it, got %s",
                       target_name(target).data());
        }
        return store->enable_training();
      });
}

Napi::Value NativeWeights::ZeroGradients(const Napi::CallbackInfo& info) {
  MOME_REQUIRE_LIVE();
  return in_engine(info.Env(), *engine(), [store = store_](PendingPromise::Make&) -> Status {
    store->zero_gradients();
    return {};
  });
}

Napi::Value NativeWeights::GradientNorm(const Napi::CallbackInfo& info) {
  MOME_REQUIRE_LIVE();
  return in_engine(info.Env(), *engine(), [store = store_, engine = engine()](PendingPromise::Make& make) -> Status {
    double norm = 0;
    MOME_RETURN_IF_ERROR(gradient_norm(*store, engine->target(), engine->pool(), norm));
    make = [norm](Napi::Env env) -> Napi::Value { return Napi::Number::New(env, norm); };
    return {};
  });
}

namespace {

Status read_parameter(const Napi::Value& name, const WeightStore& store, int& index) {
  index = name.IsString() ? store.find(name.As<Napi::String>().Utf8Value()) : -1;
  return index < 0 ? error(Code::not_found, "weights.adamw: expected names of parameters") : Status();
}

Status read_members(const Napi::Value& groups, const WeightStore& store, std::vector<AdamwStep::Member>& members) {
  if (!groups.IsArray()) return error(Code::invalid_argument, "weights.adamw: expected options with groups");
  for (uint32_t g = 0; g < groups.As<Napi::Array>().Length(); g++) {
    const Napi::Value entry = groups.As<Napi::Array>().Get(g);
    if (!entry.IsObject() || !entry.As<Napi::Object>().Get("names").IsArray()) {
      return error(Code::invalid_argument, "weights.adamw: expected groups with names");
    }
    const Napi::Object group = entry.As<Napi::Object>();
    const Napi::Array names = group.Get("names").As<Napi::Array>();
    for (uint32_t n = 0; n < names.Length(); n++) {
      AdamwStep::Member member{-1, number_of(group, "weightDecay"), number_of(group, "learningRateScale")};
      MOME_RETURN_IF_ERROR(read_parameter(names.Get(n), store, member.parameter));
      members.push_back(member);
    }
  }
  return {};
}

Status read_limits(const Napi::Value& value, const WeightStore& store, std::vector<AdamwStep::Limit>& limits) {
  if (value.IsUndefined()) return {};
  if (!value.IsObject())
    return error(Code::invalid_argument, "weights.adamw: expected limits by the names of parameters");
  const Napi::Object object = value.As<Napi::Object>();
  const Napi::Array names = object.GetPropertyNames();
  for (uint32_t n = 0; n < names.Length(); n++) {
    const Napi::Value highest = object.Get(names.Get(n));
    AdamwStep::Limit limit{-1, highest.IsNumber() ? highest.As<Napi::Number>().DoubleValue() : std::nan("")};
    MOME_RETURN_IF_ERROR(read_parameter(names.Get(n), store, limit.parameter));
    limits.push_back(limit);
  }
  return {};
}

}  // namespace

// adamw({ step, learningRate, beta1, beta2, eps, gradientScale, groups: [{ names, weightDecay, learningRateScale }],
// limits?: { name: highest } })
Napi::Value NativeWeights::Adamw(const Napi::CallbackInfo& info) {
  MOME_REQUIRE_LIVE();
  if (!info[0].IsObject()) return raise(info.Env(), Code::invalid_argument, "weights.adamw: expected options");
  const Napi::Object options = info[0].As<Napi::Object>();
  const float number = number_of(options, "step");
  auto step = std::make_shared<AdamwStep>();
  step->step =
      number >= 1 && number < 0x1p40f ? static_cast<int64_t>(options.Get("step").As<Napi::Number>().DoubleValue()) : 0;
  step->learning_rate = number_of(options, "learningRate");
  step->beta1 = number_of(options, "beta1");
  step->beta2 = number_of(options, "beta2");
  step->eps = number_of(options, "eps");
  step->gradient_scale = number_of(options, "gradientScale");
  Status status = read_members(options.Get("groups"), *store_, step->members);
  if (status.ok()) status = read_limits(options.Get("limits"), *store_, step->limits);
  if (status.ok()) status = check(*step, *store_);
  if (!status.ok()) return raise(info.Env(), status);
  return in_engine(info.Env(), *engine(), [store = store_, engine = engine(), step](PendingPromise::Make&) {
    return run_adamw(*step, *store, engine->target(), engine->pool());
  });
}

void NativeWeights::Dispose(const Napi::CallbackInfo&) { store_.reset(); }

}  // namespace mome
