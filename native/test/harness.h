// Cases of ops: inputs, and how forward and backward are called. The driver (kernels_main.cc) runs every case on every
// target, compares with `ref`, and checks `ref`'s gradients against differences of its own forward.
#pragma once

#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "core/kernel_call.h"
#include "core/matrix.h"
#include "core/memory.h"
#include "core/weights.h"
#include "test/device_run.h"

namespace mome::test {

// Where tensors lie: 16 bytes behind a whole cache line, as memory of a caller may, or as the engine's arena does, on
// whole lines and in huge pages. Chosen before the first tensor is made.
enum class Placement { any, arena };
inline Placement placement = Placement::any;

void* allocate_placed(size_t bytes);
void release_placed(void* memory);

template <typename T>
struct PlacedAllocator {
  using value_type = T;
  PlacedAllocator() = default;
  template <typename Other>
  PlacedAllocator(const PlacedAllocator<Other>&) {}
  T* allocate(size_t count) { return static_cast<T*>(allocate_placed(count * sizeof(T))); }
  void deallocate(T* values, size_t) { release_placed(values); }
  bool operator==(const PlacedAllocator&) const { return true; }
};

using Tensor = std::vector<float, PlacedAllocator<float>>;
using Tensors = std::map<std::string, Tensor>;

// Runs kernels of one target with exact, guarded workspace.
class Runner {
 public:
  // `device`: where Target::cuda runs; rows are kept in `type` there.
  Runner(Target target, ThreadPool& pool, WeightType type = WeightType::f32, std::shared_ptr<Device> device = nullptr)
      : target_(target), rounding_(target), pool_(pool), type_(type), device_(std::move(device)) {}
  // For Target::ref: rounds what `other` rounds.
  void round_as(Target other) { rounding_ = other; }
  Target target() const { return target_; }

  template <typename Args>
  Status run(const Args& args) {
    if (!device_) {
      KernelCall call;
      MOME_RETURN_IF_ERROR(call.prepare(target_, pool_, args, kGuardBytes));
      return measure_ ? measure_(call) : run(call);
    }
    const Kernel* kernel = kernel_table(target_).find(Args::kOp, Args::kDirection, target_);
    if (kernel == nullptr) return error(Code::unsupported, "no kernel %s", Args::kOp);
    return run_on_device(device_, *kernel, args, type_, pool_);
  }
  // A weight in every form the target reads, kept as `type()`. The runner keeps the memory.
  Matrix matrix(const Tensor& weight, int64_t rows, int64_t columns);
  WeightType type() const { return type_; }
  // In which attention multiplies, as Decoder::product_type tells.
  ProductType product_type() const { return mome::product_type(rounding_, type_); }
  // Outputs of the last matrix: the columns of what a product writes. 0 before the first.
  int64_t columns() const { return columns_; }

  // Hands calls to `measure` from now on, instead of running them once. It runs each at least once.
  void measure(std::function<Status(KernelCall&)> measure) { measure_ = std::move(measure); }
  // Whether forward kernels keep what their backward kernels read: not while they are measured, as in inference.
  bool saves() const { return type_ == WeightType::f32 && !measure_; }

 private:
  static constexpr size_t kGuardBytes = 256;
  Status run(KernelCall& call);

  std::function<Status(KernelCall&)> measure_;

  Target target_;
  Target rounding_;
  ThreadPool& pool_;
  WeightType type_;
  int64_t columns_ = 0;
  std::shared_ptr<Device> device_;
  std::vector<AlignedMemory> kept_;
  std::vector<DeviceMemory> kept_on_device_;
};

// Rows that `ref` and a kernel may round apart. Activations of an expert FFN are made in float32 by kernels and in
// double by `ref`, a few units in the last place apart, before 8 bits take them. Where one lies that near the middle of
// two steps, the two round to neighbours and its row differs by a step. Over random cases 1 to 2 activations in a
// million do, also one of the case of 2,110 rows; without their rows the relative error is 1e-7. All other rows keep
// the case's bound.
struct Ties {
  int64_t rows = 0;  // of the result
  int64_t most = 0;  // rows that may lie outside the bound, up to kTieBound each
};
// A step is 1/127 of the largest activation, thus at most that of the row's norm, and products keep the ratio in the
// mean; a step of fc1's operand moves all hidden activations, which then round anew (9e-3 seen).
inline constexpr double kTieBound = 4.0 / 127;

struct OpCase {
  std::string name;
  std::string_view op;
  Tensors inputs;  // what gradients are taken of, and constants
  std::function<Status(Runner&, const Tensors& inputs, Tensors& outputs)> forward;
  // Gradients (by the name of the input) of sum(dout * out) over the outputs named in `dout`.
  std::function<Status(Runner&, const Tensors& inputs, const Tensors& outputs, const Tensors& dout, Tensors& gradients)>
      backward;
  // Outputs that gradients flow into; the others are saved for backward.
  std::vector<std::string> differentiable = {"y"};
  double bound = 2e-6;  // relative L2 against ref
  WeightType type = WeightType::f32;
  Ties ties = {};
  Ties int8_ties = {};  // `ties` of the same case with 8-bit weights
  int sum_limit = 0;    // unless 0: targets with another weight_sum_limit are left out
  // Roundings to bfloat16 on the way to a result, where rows are bfloat16: one for the result, one for each value in
  // between.
  int roundings = 1;
  // The case is about how kernels of a processor cut their work: it is large, and tells nothing new of a device.
  bool processor_only = false;
};

// An OpCase at the sizes of the base model, of which one direction is measured. It is made when it is wanted.
struct PerfCase {
  std::string_view op;
  Direction direction;
  std::string shape;
  WeightType type;
  double flops;
  double bytes;  // that must come from memory or go there, where these bound the op; otherwise 0
  std::function<OpCase()> make;
};

// Numbers of a fixed seed.
class Random {
 public:
  explicit Random(uint32_t seed) : engine_(seed) {}
  Tensor normal(int64_t count, float deviation = 1, float mean = 0) {
    std::normal_distribution<float> distribution(mean, deviation);
    Tensor values(static_cast<size_t>(count));
    for (float& value : values) value = distribution(engine_);
    return values;
  }
  std::vector<int32_t> integers(int64_t count, int32_t low, int32_t high) {
    std::uniform_int_distribution<int32_t> distribution(low, high - 1);
    std::vector<int32_t> values(static_cast<size_t>(count));
    for (int32_t& value : values) value = distribution(engine_);
    return values;
  }
  int64_t below(int64_t limit) { return std::uniform_int_distribution<int64_t>(0, limit - 1)(engine_); }

 private:
  std::mt19937 engine_;
};

void add_norm_cases(std::vector<OpCase>& cases);
void add_linear_cases(std::vector<OpCase>& cases);
void add_expert_cases(std::vector<OpCase>& cases);
void add_tail_cases(std::vector<OpCase>& cases);
void add_damaged_cases(std::vector<OpCase>& cases);
void add_attention_cases(std::vector<OpCase>& cases);
void add_embed_cases(std::vector<OpCase>& cases);
void add_head_cases(std::vector<OpCase>& cases);
void add_loss_cases(std::vector<OpCase>& cases);
void add_optimizer_cases(std::vector<OpCase>& cases);

std::vector<OpCase> all_cases();

void add_layer_perf_cases(std::vector<PerfCase>& cases);
void add_attention_perf_cases(std::vector<PerfCase>& cases);
void add_optimizer_perf_cases(std::vector<PerfCase>& cases);

std::vector<PerfCase> perf_cases();

// The case with its weights kept as `type`: forward only. Sums of 8-bit products are exact and both sides quantise by
// the same rule, so the bound is that of float32: an activation rounded to the neighbouring step would show, but for
// Ties.
OpCase with_weights(OpCase test, WeightType type);
// Cases about how a processor cuts its work: not for devices.
OpCase on_processors(OpCase test);

}  // namespace mome::test
