// The dispatch table: every kernel variant (op, direction, target) with its entry points. Tests, benches and docs
// iterate it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "core/matrix.h"
#include "core/quantise.h"
#include "core/status.h"
#include "core/thread_pool.h"

namespace mome {

enum class Direction { forward, backward };
enum class Target { ref, avx2, avx2_vnni, avx512, avx512_vnni, avx512_bf16, amx, neon, neon_dot, neon_bf16, cuda };
inline constexpr int kTargets = 11;
// The targets that run on processors of one kind or another, of each kind the slowest first.
inline constexpr Target kCpuTargets[] = {Target::ref,         Target::avx2,        Target::avx2_vnni, Target::avx512,
                                         Target::avx512_vnni, Target::avx512_bf16, Target::amx,       Target::neon,
                                         Target::neon_dot,    Target::neon_bf16};

// Whether the target multiplies numbers of bfloat16: rows are then rounded to it as well where a weight is bfloat16,
// and attention multiplies in it where weights are not float32.
constexpr bool multiplies_bf16(Target target) {
  return target == Target::avx512_bf16 || target == Target::amx || target == Target::neon_bf16;
}

// Whether attention multiplies 16-bit integers on the target where weights have 8 bits. Not in AVX-512 without VNNI: on
// its processors (Skylake) a product of 16 bits and its addition share two ports, and take as long as two float32 ones.
// Nor with NEON, where four instructions do what two float32 ones do.
constexpr bool multiplies_int16(Target target) {
  return target == Target::avx2 || target == Target::avx2_vnni || target == Target::avx512_vnni;
}

// The type in which the target's attention multiplies for weights of this type, where no backward pass follows.
constexpr ProductType product_type(Target target, WeightType weights) {
  if (weights == WeightType::f32) return ProductType::f32;
  if (multiplies_bf16(target)) return ProductType::bf16;
  return weights == WeightType::i8 && multiplies_int16(target) ? ProductType::int16 : ProductType::f32;
}

// The largest sum of 8-bit weights that a target's products take (core/quantise.h): where four products are summed in
// 16 bits (cpu/vector/dot.h), 129.
constexpr int weight_sum_limit(Target target) {
  return target == Target::avx2 ? INT16_MAX / (2 * kQuantLimit) : kNoSumLimit;
}

std::string_view direction_name(Direction direction);
std::string_view target_name(Target target);
bool parse_target(std::string_view name, Target& target);

// Where a kernel of a device runs. Pointers of argument structs to rows point to elements of type `rows` there.
struct DeviceQueue {
  void* stream = nullptr;
  int multiprocessors = 0;
  int capability = 0;                 // compute capability, 10 * major + minor
  WeightType rows = WeightType::f32;  // f32 or bf16
};

// The threads and the memory that a kernel may use.
struct OpContext {
  ThreadPool& pool;
  // 64-byte aligned memory of at least the size that the variant's workspace function asked for. Its contents are
  // undefined.
  std::byte* workspace = nullptr;
  size_t workspace_bytes = 0;
  DeviceQueue device = {};  // kernels of a device only
};

struct Kernel {
  std::string_view op;  // "layer_norm": the name in the op's OpSpec (core/ops/spec.h)
  Direction direction;
  Target target;
  // `args` points to the op's argument struct for this direction (core/ops/<op>.h), already checked.
  Status (*run)(const void* args, OpContext& context);
  // Bytes of workspace for these arguments and this many threads; null = none.
  size_t (*workspace)(const void* args, int threads);
};

// Packs a weight [rows = outputs, columns = inputs], row-major, for one target's GEMM kernels and rounds it to `type`.
// `form` is one of the packed forms. `row_scales` [rows], or null: the scales of a weight that has 8 bits already,
// whose integers are kept as they are; otherwise a row's scale is that of its largest magnitude.
struct Packer {
  // Bytes the packed form takes.
  size_t (*size)(int64_t rows, int64_t columns, Form form, WeightType type);
  void (*pack)(const float* weight, const float* row_scales, int64_t rows, int64_t columns, Form form, WeightType type,
               void* packed, ThreadPool& pool);
};

class KernelTable {
 public:
  // Args is an argument struct with `static constexpr const char* kOp` and `static constexpr Direction kDirection`.
  template <typename Args, Status (*kRun)(const Args&, OpContext&)>
  void add(Target target) {
    add({Args::kOp, Args::kDirection, target, erased_run<Args, kRun>, nullptr});
  }
  template <typename Args, Status (*kRun)(const Args&, OpContext&), size_t (*kWorkspace)(const Args&, int)>
  void add(Target target) {
    add({Args::kOp, Args::kDirection, target, erased_run<Args, kRun>,
         [](const void* args, int threads) { return kWorkspace(*static_cast<const Args*>(args), threads); }});
  }
  void add(const Kernel& kernel);
  void set_packer(Target target, const Packer& packer);

  // Null when there is no such variant. Callers report that; they never take another target instead.
  const Kernel* find(std::string_view op, Direction direction, Target target) const;
  // Null when the target reads weights unpacked.
  const Packer* packer(Target target) const;
  std::span<const Kernel> kernels() const { return kernels_; }

 private:
  template <typename Args, Status (*kRun)(const Args&, OpContext&)>
  static Status erased_run(const void* args, OpContext& context) {
    return kRun(*static_cast<const Args*>(args), context);
  }

  std::vector<Kernel> kernels_;
  Packer packers_[kTargets] = {};
};

// The table with the kernels of `target`. All processor targets share one, filled once; the table of cuda is empty
// until its library was loaded (core/device.h).
const KernelTable& kernel_table(Target target);

// Whether this build has `target`'s kernels. Every build has those of all processors whose instructions its compiler
// knows, except that the CMake option MOME_AVX512=OFF leaves AVX-512 out.
bool target_built(Target target);
// Whether this build has `target`'s kernels and this machine can run them.
bool target_supported(Target target);
// The fastest supported CPU target.
Target best_target();

}  // namespace mome
