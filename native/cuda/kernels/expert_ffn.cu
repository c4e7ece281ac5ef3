// expert_ffn: out = x + row_scale * gamma * (fc2_e(gelu(fc1_e(layer_norm_e(x))))) per row range with its expert e.
//
// Three launches, each over all experts at once: the normalisation, fc1 with bias and GELU in its epilogue, fc2 with
// bias, layer scale and residual in its own. Tiles never cross a range, so a range costs at most one part-filled row of
// tiles. Where the ranges lie is read on the device (row_groups.h); rows of none are left alone.
#include "core/ops/expert_ffn.h"

#include "cuda/kernels/layer_norm.h"
#include "cuda/kernels/register.h"
#include "cuda/kernels/residual.h"

namespace mome::cuda {
namespace {

static_assert(kMaxExperts <= kMaxGroups);

template <typename T>
struct HiddenEpilogue {
  enum : bool { kLight = true };
  const float* bias[kMaxGroups];
  T* hidden;
  float* pre_activation;  // or null
  int64_t columns;
  bool aligned;

  MOME_DEVICE void operator()(int row, int column, int group, int count, bool whole, float (&values)[kRun]) const {
    each_of_run(bias[group] + column, count, whole, [&](int i, float b) { values[i] += b; });
    if constexpr (kWeightType<T> == WeightType::f32) {  // kept for a backward pass, in float32 alone
      if (pre_activation != nullptr) store_run(pre_activation + int64_t{row} * columns + column, count, whole, values);
    }
#pragma unroll
    for (int i = 0; i < kRun; i++) values[i] = gelu(values[i]);
    store_run(hidden + int64_t{row} * columns + column, count, whole, values);
  }
};

size_t rounded(size_t bytes) { return (bytes + 255) / 256 * 256; }

size_t element_bytes(const ExpertFfnForward& a) {
  return a.expert[0].fc1.type == WeightType::bf16 ? sizeof(bf16) : sizeof(float);
}

size_t normed_bytes(const ExpertFfnForward& a) {
  return rounded(static_cast<size_t>(a.rows * a.width) * element_bytes(a));
}

size_t workspace(const ExpertFfnForward& a, int) {
  return normed_bytes(a) + static_cast<size_t>(a.rows * a.hidden) * element_bytes(a);
}

// The operands of one of the two products.
template <typename T>
Status operands_of(const ExpertFfnForward& a, const T* x, Matrix ExpertForward::* weight, GemmOperands<T>& g) {
  MOME_RETURN_IF_ERROR(gemm_operands(x, a.rows, a.expert[0].*weight, g));
  g.rows = {static_cast<int>(a.rows), a.experts, a.bounds};
  for (int e = 0; e < a.experts; e++) g.weight[e] = static_cast<const T*>((a.expert[e].*weight).packed);
  return {};
}

template <typename T>
Status forward_as(const ExpertFfnForward& a, OpContext& context) {
  const Queue& queue = context.device;
  if (a.rows == 0) return {};
  if (a.bounds == nullptr) return error(Code::internal, "expert_ffn: expected the bounds of its experts on the device");
  T* normed = reinterpret_cast<T*>(context.workspace);
  T* hidden = reinterpret_cast<T*>(context.workspace + normed_bytes(a));
  GemmOperands<T> fc1{}, fc2{};
  MOME_RETURN_IF_ERROR(operands_of<T>(a, normed, &ExpertForward::fc1, fc1));
  MOME_RETURN_IF_ERROR(operands_of<T>(a, hidden, &ExpertForward::fc2, fc2));
  NormGroups groups{fc1.rows, {}, {}};
  HiddenEpilogue<T> into_hidden{
      {}, hidden, a.pre_activation, a.hidden, a.hidden % kRun == 0 && is_aligned({a.pre_activation})};
  ResidualEpilogue<T> into_out{as<T>(a.x),
                               {},
                               a.gamma,
                               a.row_scale,
                               as<T>(a.out),
                               a.width,
                               a.width % kRun == 0 && is_aligned({a.x, a.gamma, a.out})};
  for (int e = 0; e < a.experts; e++) {
    const ExpertForward& expert = a.expert[e];
    groups.gamma[e] = expert.norm_gamma, groups.beta[e] = expert.norm_beta;
    into_hidden.bias[e] = expert.fc1_bias;
    into_out.bias[e] = expert.fc2_bias;
    into_hidden.aligned &= is_aligned({expert.fc1_bias});
    into_out.aligned &= is_aligned({expert.fc2_bias});
  }
  MOME_RETURN_IF_ERROR(normalise(queue, as<T>(a.x), a.width, a.eps, groups, normed));
  MOME_RETURN_IF_ERROR(launch_gemm(queue, fc1, into_hidden));
  return launch_gemm(queue, fc2, into_out);
}

Status forward(const ExpertFfnForward& a, OpContext& context) {
  return with_element(context.device, [&](auto element) { return forward_as<decltype(element)>(a, context); });
}

}  // namespace

void register_expert_ffn(KernelTable& table) { table.add<ExpertFfnForward, forward, workspace>(Target::cuda); }

}  // namespace mome::cuda
