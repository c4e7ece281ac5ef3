// The addon's entry: plain functions, and the constructors of its classes. State hangs on the environment, so that
// worker threads and double loading are safe.
#include <atomic>

#include "core/blocking.h"
#include "core/device.h"
#include "core/finite.h"
#include "core/kernel.h"
#include "core/ops/table.h"
#include "core/self_check.h"
#include "napi/bridge.h"
#include "napi/engine.h"

namespace mome {
namespace {

// As /proc/cpuinfo names it: by a name on x86-64, by the numbers of its maker and design on Arm.
std::string cpu_model() {
  std::string model, maker, design;
  FILE* file = std::fopen("/proc/cpuinfo", "r");
  if (file == nullptr) return "unknown";
  char line[256];
  while (model.empty() && std::fgets(line, sizeof line, file) != nullptr) {
    const std::string text(line);
    const size_t colon = text.find(": ");
    if (colon == std::string::npos) continue;
    const std::string value = text.substr(colon + 2, text.find('\n') - colon - 2);
    if (text.rfind("model name", 0) == 0) model = value;
    if (text.rfind("CPU implementer", 0) == 0) maker = value;
    if (text.rfind("CPU part", 0) == 0) design = value;
  }
  std::fclose(file);
  if (model.empty() && !design.empty()) model = "Arm, implementer " + maker + ", part " + design;
  return model.empty() ? "unknown" : model;
}

// This processor, the CPU targets it has, the one to take, the faster ones whose self-check failed.
Napi::Value CpuInfo(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  Napi::Object result = Napi::Object::New(env);
  Napi::Array targets = Napi::Array::New(env);
  for (const Target target : kCpuTargets) {
    if (target_supported(target))
      targets.Set(targets.Length(), Napi::String::New(env, std::string(target_name(target))));
  }
  result.Set("model", cpu_model());
  result.Set("availableCores", available_cores());
  result.Set("targets", targets);
  const TargetChoice& choice = chosen_target();
  Napi::Array rejected = Napi::Array::New(env);
  for (const Target target : choice.rejected) {
    Napi::Object entry = Napi::Object::New(env);
    entry.Set("target", std::string(target_name(target)));
    entry.Set("reason", target_check(target).wrong);
    rejected.Set(rejected.Length(), entry);
  }
  result.Set("best", std::string(target_name(choice.target)));
  result.Set("rejected", rejected);
  return result;
}

// blocking(): how work is cut on this processor, where that is from, and how cpuid names the processor.
Napi::Value GetBlocking(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  Napi::Object fields = Napi::Object::New(env);
  for (const BlockingField& each : blocking_fields())
    fields.Set(each.name, static_cast<double>(blocking().*each.field));
  const ProcessorKind kind = this_processor();
  Napi::Object result = Napi::Object::New(env);
  result.Set("fields", fields);
  result.Set("source", blocking_source());
  result.Set("vendor", kind.vendor);
  result.Set("family", kind.family);
  result.Set("model", kind.model);
  return result;
}

// setBlocking(text), such as "depth_steps=384", for measuring: while no run goes on.
Napi::Value SetBlocking(const Napi::CallbackInfo& info) {
  Blocking fresh = blocking();
  if (!info[0].IsString()) return raise(info.Env(), Code::invalid_argument, "setBlocking: expected a text");
  const Status status = parse_blocking(info[0].As<Napi::String>().Utf8Value(), fresh);
  if (!status.ok()) return raise(info.Env(), status);
  set_blocking(fresh);
  return info.Env().Undefined();
}

// checkTarget(target): the self-check of a CPU target that this processor has: { passed, wrong, milliseconds }.
Napi::Value CheckTarget(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  Target target;
  if (!info[0].IsString() || !parse_target(info[0].As<Napi::String>().Utf8Value(), target) || target == Target::cuda ||
      !target_supported(target)) {
    return raise(env, Code::invalid_argument, "checkTarget: expected a target of this processor");
  }
  const TargetCheck& check = target_check(target);
  Napi::Object result = Napi::Object::New(env);
  result.Set("passed", check.passed);
  result.Set("wrong", check.wrong);
  result.Set("milliseconds", check.milliseconds);
  return result;
}

// firstToWarn(): true for the first caller of this process, whatever its thread.
Napi::Value FirstToWarn(const Napi::CallbackInfo& info) {
  static std::atomic<bool> warned{false};
  return Napi::Boolean::New(info.Env(), !warned.exchange(true));
}

// The CUDA library and its devices: { library: path | null, reason, devices: [{ name, runtime, capability, ..., unfit
// }] }.
Napi::Value CudaInfo(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const DeviceLibrary& library = device_library();
  Napi::Object result = Napi::Object::New(env);
  Napi::Array devices = Napi::Array::New(env);
  std::string reason = library.reason;
  const int count = library.api == nullptr ? 0 : library.api->count(reason);
  for (int index = 0; index < count; index++) {
    DeviceDescription description;
    Napi::Object entry = Napi::Object::New(env);
    const Status status = library.api->describe(index, description);
    entry.Set("name", description.name);
    entry.Set("runtime", description.runtime);
    entry.Set("capability", description.capability / 10.0);
    entry.Set("multiprocessors", description.multiprocessors);
    entry.Set("memoryBytes", static_cast<double>(description.memory_bytes));
    entry.Set("unfit", status.ok() ? unfit(description) : status.message());
    devices.Set(devices.Length(), entry);
  }
  result.Set("library", library.api == nullptr ? env.Null() : Napi::String::New(env, library.path));
  result.Set("reason", reason);
  result.Set("devices", devices);
  return result;
}

Napi::Value ErrorCodes(const Napi::CallbackInfo& info) {
  Napi::Array codes = Napi::Array::New(info.Env());
  for (int code = 1; code <= static_cast<int>(Code::internal); code++) {
    codes.Set(codes.Length(), Napi::String::New(info.Env(), std::string(code_name(static_cast<Code>(code)))));
  }
  return codes;
}

Napi::Value Kernels(const Napi::CallbackInfo& info) {
  Napi::Array list = Napi::Array::New(info.Env());
  std::vector<Kernel> kernels;
  for (const Target target : {Target::ref, Target::cuda}) {
    const std::span<const Kernel> part = kernel_table(target).kernels();
    kernels.insert(kernels.end(), part.begin(), part.end());
  }
  for (const Kernel& kernel : kernels) {
    Napi::Object entry = Napi::Object::New(info.Env());
    entry.Set("op", std::string(kernel.op));
    entry.Set("direction", std::string(direction_name(kernel.direction)));
    entry.Set("target", std::string(target_name(kernel.target)));
    list.Set(list.Length(), entry);
  }
  return list;
}

Napi::Array to_list(Napi::Env env, const Keys& keys) {
  Napi::Array list = Napi::Array::New(env);
  for (const std::string_view key : keys) list.Set(list.Length(), Napi::String::New(env, std::string(key)));
  return list;
}

// Every OpSpec, as OpEntry of ts/src/runtime/addon.ts has it.
Napi::Value Ops(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  Napi::Array list = Napi::Array::New(env);
  for (const OpSpec* op : op_table()) {
    Napi::Object entry = Napi::Object::New(env);
    Napi::Array directions = Napi::Array::New(env);
    for (const Direction direction : {Direction::forward, Direction::backward}) {
      if (op->decoder(direction) != nullptr)
        directions.Set(directions.Length(), Napi::String::New(env, std::string(direction_name(direction))));
    }
    entry.Set("name", std::string(op->name));
    entry.Set("directions", directions);
    entry.Set("matrices", to_list(env, op->matrices));
    entry.Set("rows", to_list(env, op->rows));
    entry.Set("results", to_list(env, op->results));
    entry.Set("backwardResults", to_list(env, op->backward_results));
    entry.Set("float32Results", to_list(env, op->float32_results));
    entry.Set("int8Matrices", op->int8_matrices);
    entry.Set("deviceRows", std::string(device_rows_name(op->device_rows)));
    list.Set(list.Length(), entry);
  }
  return list;
}

// firstNonFinite(bytes, dtype): index of the first element that is NaN or infinite, -1 where there is none.
Napi::Value FirstNonFinite(const Napi::CallbackInfo& info) {
  if (!info[0].IsTypedArray() || !info[1].IsString() ||
      info[0].As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array) {
    return raise(info.Env(), Code::invalid_argument, "firstNonFinite: expected (Uint8Array, type)");
  }
  const Napi::Uint8Array array = info[0].As<Napi::Uint8Array>();
  const auto* bytes = reinterpret_cast<const std::byte*>(array.Data());
  const auto length = static_cast<int64_t>(array.ByteLength());
  const std::string type = info[1].As<Napi::String>().Utf8Value();
  int64_t index = -1;
  if (type == "F32") index = first_non_finite<uint32_t>(bytes, length / 4, 0x7f800000);
  if (type == "F16") index = first_non_finite<uint16_t>(bytes, length / 2, 0x7c00);
  if (type == "BF16") index = first_non_finite<uint16_t>(bytes, length / 2, 0x7f80);
  return Napi::Number::New(info.Env(), static_cast<double>(index));
}

Napi::Object Init(Napi::Env env, Napi::Object exports) {
  auto* addon = new AddonState();
  env.SetInstanceData(addon);
  addon->mailbox = Mailbox::open(env);
  exports.Set("blocking", Napi::Function::New(env, GetBlocking, "blocking"));
  exports.Set("setBlocking", Napi::Function::New(env, SetBlocking, "setBlocking"));
  exports.Set("cpuInfo", Napi::Function::New(env, CpuInfo, "cpuInfo"));
  exports.Set("checkTarget", Napi::Function::New(env, CheckTarget, "checkTarget"));
  exports.Set("firstToWarn", Napi::Function::New(env, FirstToWarn, "firstToWarn"));
  exports.Set("cudaInfo", Napi::Function::New(env, CudaInfo, "cudaInfo"));
  exports.Set("errorCodes", Napi::Function::New(env, ErrorCodes, "errorCodes"));
  exports.Set("kernels", Napi::Function::New(env, Kernels, "kernels"));
  exports.Set("ops", Napi::Function::New(env, Ops, "ops"));
  exports.Set("firstNonFinite", Napi::Function::New(env, FirstNonFinite, "firstNonFinite"));
  register_background(env, exports);
  register_process(env, exports);
  register_engine(env, exports, *addon);
  register_process_group(env, exports, *addon);
  return exports;
}

}  // namespace
}  // namespace mome

Napi::Object InitAddon(Napi::Env env, Napi::Object exports) { return mome::Init(env, exports); }

NODE_API_MODULE(mome, InitAddon)
