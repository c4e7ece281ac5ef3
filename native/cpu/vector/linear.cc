// linear: y = x W^T + bias, and its gradients. 2 rows outputs inputs FLOPs forward, twice that backward. Float32
// accumulators, one chain per element; bias is added to the finished sum. The blocking and the tile kernel are in
// gemm.h.
#include "core/ops/linear.h"
#include "cpu/vector/gemm.h"
#include "cpu/vector/kernels.h"

namespace mome::MOME_ISA {
namespace {

// ---- Forward ----------------------------------------------------------------------------------------------------------------

struct LinearForwardWorkspace : Carver {
  GemmWorkspace product;
  LinearForwardWorkspace(const LinearForward& args, int threads, std::byte* base)
      : Carver{base}, product(*this, args.rows, args.weight.rows, args.weight.columns, threads) {}
};

inline size_t linear_forward_workspace(const LinearForward& args, int threads) {
  return LinearForwardWorkspace(args, threads, nullptr).bytes;
}

inline Status linear_forward(const LinearForward& args, OpContext& context) {
  const LinearForwardWorkspace workspace(args, context.pool.threads(), context.workspace);
  const int64_t outputs = args.weight.rows, inputs = args.weight.columns;
  gemm(context.pool, 0, args.rows, outputs, inputs, PlainSource{args.x, inputs}, args.weight, workspace.product,
       StoreEpilogue{args.y, outputs, args.bias});
  return {};
}

// ---- Backward: dx = dy W, dW += dy^T x, dbias += column sums of dy ----------------------------------------------------------

struct LinearBackwardWorkspace : Carver {
  GemmWorkspace input;
  OverRowsWorkspace weight;
  LinearBackwardWorkspace(const LinearBackward& args, int threads, std::byte* base)
      : Carver{base},
        input(*this, args.dx == nullptr ? 0 : args.rows, args.weight.columns, args.weight.rows, threads),
        weight(at(0), args.rows, args.weight.rows, args.dweight == nullptr ? 0 : args.weight.columns, threads) {}
};

inline size_t linear_backward_workspace(const LinearBackward& args, int threads) {
  return LinearBackwardWorkspace(args, threads, nullptr).bytes;
}

inline Status linear_backward(const LinearBackward& args, OpContext& context) {
  const LinearBackwardWorkspace workspace(args, context.pool.threads(), context.workspace);
  const int64_t outputs = args.weight.rows, inputs = args.weight.columns;
  if (args.dx != nullptr) {
    gemm(context.pool, 0, args.rows, inputs, outputs, PlainSource{args.dy, outputs}, transposed(args.weight),
         workspace.input, StoreEpilogue{args.dx, inputs, nullptr});
  }
  if (args.dweight != nullptr || args.dbias != nullptr) {
    gemm_over_rows(context.pool, args.weight.type, 0, args.rows, outputs, args.dweight == nullptr ? 0 : inputs,
                   PlainSource{args.dy, outputs}, PlainSource{args.x, inputs}, args.dbias, workspace.weight,
                   AddEpilogue{args.dweight, inputs});
  }
  return {};
}

constexpr Kernel kKernels[] = {
    kernel<LinearForward, linear_forward, linear_forward_workspace>(),
    kernel<LinearBackward, linear_backward, linear_backward_workspace>(),
};

}  // namespace

constinit const KernelList linear_kernels = {kKernels, sizeof kKernels / sizeof *kKernels};

}  // namespace mome::MOME_ISA
