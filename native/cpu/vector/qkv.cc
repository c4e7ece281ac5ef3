// qkv: y = x W^T + [q_bias, 0, v_bias] as one tall product, 6 rows width^2 FLOPs forward, twice that backward. Float32
// accumulators, one chain per element; see gemm.h.
#include "core/ops/qkv.h"
#include "cpu/vector/gemm.h"
#include "cpu/vector/kernels.h"

namespace mome::MOME_ISA {
namespace {

// ---- Forward ----------------------------------------------------------------------------------------------------------------

// The bias of a column depends on which third it is in; a vector may straddle two of them, so it is read from [q_bias,
// 0, v_bias] laid out once.
struct QkvForwardWorkspace : Carver {
  GemmWorkspace product;
  float* bias;
  QkvForwardWorkspace(const QkvForward& args, int threads, std::byte* base)
      : Carver{base},
        product(*this, args.rows, 3 * args.width, args.width, threads),
        bias(take<float>(3 * args.width)) {}
};

inline size_t qkv_forward_workspace(const QkvForward& args, int threads) {
  return QkvForwardWorkspace(args, threads, nullptr).bytes;
}

inline Status qkv_forward(const QkvForward& args, OpContext& context) {
  const QkvForwardWorkspace workspace(args, context.pool.threads(), context.workspace);
  const int64_t width = args.width;
  for (int64_t j = 0; j < width; ++j) {
    workspace.bias[j] = args.q_bias[j];
    workspace.bias[width + j] = 0;
    workspace.bias[2 * width + j] = args.v_bias[j];
  }
  gemm(context.pool, 0, args.rows, 3 * width, width, PlainSource{args.x, width}, args.weight, workspace.product,
       StoreEpilogue{args.y, 3 * width, workspace.bias});
  return {};
}

// ---- Backward: dx = dy W, dW += dy^T x, the bias gradients are the column sums of the first and last third of dy ------------

struct QkvBackwardWorkspace : Carver {
  float* dbias;
  size_t shared;
  GemmWorkspace input;
  OverRowsWorkspace weight;
  QkvBackwardWorkspace(const QkvBackward& args, int threads, std::byte* base)
      : Carver{base},
        dbias(take<float>(3 * args.width)),
        shared(used),
        input(*this, args.rows, args.width, 3 * args.width, threads),
        weight(at(shared), args.rows, 3 * args.width, args.dweight == nullptr ? 0 : args.width, threads) {}
};

inline size_t qkv_backward_workspace(const QkvBackward& args, int threads) {
  return QkvBackwardWorkspace(args, threads, nullptr).bytes;
}

inline Status qkv_backward(const QkvBackward& args, OpContext& context) {
  const QkvBackwardWorkspace workspace(args, context.pool.threads(), context.workspace);
  const int64_t width = args.width;
  const PlainSource dy{args.dy, 3 * width};
  gemm(context.pool, 0, args.rows, width, 3 * width, dy, transposed(args.weight), workspace.input,
       StoreEpilogue{args.dx, width, nullptr});
  if (args.dweight == nullptr && args.dq_bias == nullptr && args.dv_bias == nullptr) return {};

  for (int64_t j = 0; j < 3 * width; ++j) workspace.dbias[j] = 0;
  gemm_over_rows(context.pool, args.weight.type, 0, args.rows, 3 * width, args.dweight == nullptr ? 0 : width, dy,
                 PlainSource{args.x, width}, workspace.dbias, workspace.weight, AddEpilogue{args.dweight, width});
  for (int64_t j = 0; j < width; ++j) {
    if (args.dq_bias != nullptr) args.dq_bias[j] += workspace.dbias[j];
    if (args.dv_bias != nullptr) args.dv_bias[j] += workspace.dbias[2 * width + j];
  }
  return {};
}

constexpr Kernel kKernels[] = {
    kernel<QkvForward, qkv_forward, qkv_forward_workspace>(),
    kernel<QkvBackward, qkv_backward, qkv_backward_workspace>(),
};

}  // namespace

constinit const KernelList qkv_kernels = {kKernels, sizeof kKernels / sizeof *kKernels};

}  // namespace mome::MOME_ISA
