// cross_entropy, soft_bce and contrastive, float32 logits, sums in double in a fixed order. One block per row (and per
// column of the similarities) writes its term; one block adds the terms up.
#include "core/ops/losses.h"

#include "cuda/kernels/gemm.h"
#include "cuda/kernels/register.h"
#include "cuda/primitives/warp.h"

namespace mome::cuda {
namespace {

inline constexpr int kThreads = 256;
inline constexpr int kWarps = kThreads / 32;

// One row of a mean: its loss and its weight.
struct Term {
  double loss, weight;
};

// log sum exp of count values, stride apart.
MOME_DEVICE double log_sum_exp(const float* values, int64_t count, int64_t stride, double* scratch) {
  float highest = -INFINITY;
  for (int64_t i = threadIdx.x; i < count; i += kThreads) highest = fmaxf(highest, values[i * stride]);
  highest = warp_max(highest);
  block_barrier();
  if (threadIdx.x % kWarp == 0) scratch[threadIdx.x / kWarp] = highest;
  block_barrier();
  double most = scratch[0];
  for (int i = 1; i < kWarps; i++) most = fmax(most, scratch[i]);
  double sum = 0;
  for (int64_t i = threadIdx.x; i < count; i += kThreads) sum += exp(values[i * stride] - most);
  return most + log(block_sum(sum, scratch));
}

// loss = sum of losses / sum of weights, 0 when nothing has weight.
MOME_KERNEL(kThreads)
mean_terms_forward_cuda(const Term* terms, int64_t count, float* loss) {
  double* scratch = shared_memory<double>();
  double sum = 0, weight = 0;
  for (int64_t i = threadIdx.x; i < count; i += kThreads) {
    sum += terms[i].loss;
    weight += terms[i].weight;
  }
  sum = block_sum(sum, scratch);
  weight = block_sum(weight, scratch);
  if (threadIdx.x == 0) *loss = weight == 0 ? 0.0f : static_cast<float>(sum / weight);
}

MOME_KERNEL(kThreads)
cross_entropy_forward_cuda(const float* logits, int64_t classes, const int32_t* labels, Term* terms) {
  const int64_t row = blockIdx.x;
  const int32_t label = labels[row];
  double* scratch = shared_memory<double>();
  const double lse = log_sum_exp(logits + row * classes, classes, 1, scratch);
  if (threadIdx.x == 0) terms[row] = label < 0 ? Term{0, 0} : Term{lse - logits[row * classes + label], 1};
}

MOME_KERNEL(kThreads)
soft_bce_forward_cuda(const float* logits, const float* targets, int64_t classes, Term* terms) {
  const int64_t row = blockIdx.x;
  double sum = 0;
  for (int64_t i = threadIdx.x; i < classes; i += kThreads) {
    const double x = logits[row * classes + i], t = targets[row * classes + i];
    sum += fmax(x, 0.0) - x * t + log1p(exp(-fabs(x)));
  }
  sum = block_sum(sum, shared_memory<double>());
  if (threadIdx.x == 0) terms[row] = {sum, 1};
}

// Blocks [0, rows): row i against its texts; [rows, 2 rows): column j against its images.
MOME_KERNEL(kThreads)
contrastive_terms_forward_cuda(const float* similarity, int64_t rows, const int32_t* group, Term* terms) {
  double* scratch = shared_memory<double>();
  const int64_t i = blockIdx.x % rows;
  const bool column = blockIdx.x >= rows;
  const int64_t stride = column ? rows : 1;
  const float* values = similarity + (column ? i : i * rows);
  const double lse = log_sum_exp(values, rows, stride, scratch);
  double sum = 0, count = 0;
  for (int64_t j = threadIdx.x; j < rows; j += kThreads) {
    if (group == nullptr ? j != i : group[j] != group[i]) continue;
    sum += values[j * stride];
    count += 1;
  }
  sum = block_sum(sum, scratch);
  count = block_sum(count, scratch);
  if (threadIdx.x == 0) terms[blockIdx.x] = {lse - sum / count, 1};
}

struct SimilarityEpilogue {
  enum : bool { kLight = false };
  const float* log_scale;
  float* similarity;
  int64_t columns;
  bool aligned;

  MOME_DEVICE void operator()(int row, int column, int, int count, bool, float (&values)[kRun]) const {
    const float scale = expf(*log_scale);
    for (int i = 0; i < count; i++) similarity[int64_t{row} * columns + column + i] = scale * values[i];
  }
};

size_t term_bytes(int64_t terms) { return static_cast<size_t>(terms) * sizeof(Term); }

Status mean(OpContext& context, int64_t count, float* loss) {
  return launch(mean_terms_forward_cuda, {1, 1, 1}, kThreads, kWarps * sizeof(double), context.device.stream,
                reinterpret_cast<const Term*>(context.workspace), count, loss);
}

size_t cross_entropy_workspace(const CrossEntropyForward& a, int) { return term_bytes(a.rows); }

Status cross_entropy_forward(const CrossEntropyForward& a, OpContext& context) {
  MOME_RETURN_IF_ERROR(launch(cross_entropy_forward_cuda, {static_cast<unsigned>(a.rows), 1, 1}, kThreads,
                              kWarps * sizeof(double), context.device.stream, a.logits, a.classes, a.labels,
                              reinterpret_cast<Term*>(context.workspace)));
  return mean(context, a.rows, a.loss);
}

size_t soft_bce_workspace(const SoftBceForward& a, int) { return term_bytes(a.rows); }

Status soft_bce_forward(const SoftBceForward& a, OpContext& context) {
  MOME_RETURN_IF_ERROR(launch(soft_bce_forward_cuda, {static_cast<unsigned>(a.rows), 1, 1}, kThreads,
                              kWarps * sizeof(double), context.device.stream, a.logits, a.targets, a.classes,
                              reinterpret_cast<Term*>(context.workspace)));
  return mean(context, a.rows, a.loss);
}

size_t contrastive_workspace(const ContrastiveForward& a, int) { return term_bytes(2 * a.rows); }

Status contrastive_forward(const ContrastiveForward& a, OpContext& context) {
  if (a.rows > 0) {
    GemmOperands<float> g{};
    MOME_RETURN_IF_ERROR(gemm_operands(a.image, a.rows, {a.rows, a.width}, g));
    g.pitch = g.depth, g.weight[0] = a.text;
    MOME_RETURN_IF_ERROR(launch_gemm(context.device, g, SimilarityEpilogue{a.log_scale, a.similarity, a.rows, false}));
  }
  MOME_RETURN_IF_ERROR(launch(contrastive_terms_forward_cuda, {static_cast<unsigned>(2 * a.rows), 1, 1}, kThreads,
                              kWarps * sizeof(double), context.device.stream, static_cast<const float*>(a.similarity),
                              a.rows, a.group, reinterpret_cast<Term*>(context.workspace)));
  // The mean over 2 rows terms is half the sum of the two means.
  return mean(context, 2 * a.rows, a.loss);
}

}  // namespace

void register_losses(KernelTable& table) {
  table.add<CrossEntropyForward, cross_entropy_forward, cross_entropy_workspace>(Target::cuda);
  table.add<SoftBceForward, soft_bce_forward, soft_bce_workspace>(Target::cuda);
  table.add<ContrastiveForward, contrastive_forward, contrastive_workspace>(Target::cuda);
}

}  // namespace mome::cuda
