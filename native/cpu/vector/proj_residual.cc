// proj_residual: out = x + row_scale * gamma * (a W^T + bias) in one product, 2 rows width^2 FLOPs forward, twice that
// backward. The residual is added while the tile is in the first-level cache: x is read and out written once. See
// gemm.h.
#include "core/ops/proj_residual.h"
#include "cpu/vector/gemm.h"
#include "cpu/vector/gemm_branch.h"
#include "cpu/vector/kernels.h"

namespace mome::MOME_ISA {
namespace {

// ---- Forward ----------------------------------------------------------------------------------------------------------------

struct ProjResidualForwardWorkspace : Carver {
  GemmWorkspace product;
  ProjResidualForwardWorkspace(const ProjResidualForward& args, int threads, std::byte* base)
      : Carver{base}, product(*this, args.rows, args.width, args.width, threads) {}
};

inline size_t proj_residual_forward_workspace(const ProjResidualForward& args, int threads) {
  return ProjResidualForwardWorkspace(args, threads, nullptr).bytes;
}

inline Status proj_residual_forward(const ProjResidualForward& args, OpContext& context) {
  const ProjResidualForwardWorkspace workspace(args, context.pool.threads(), context.workspace);
  gemm(context.pool, 0, args.rows, args.width, args.width, PlainSource{args.a, args.width}, args.weight,
       workspace.product, ResidualEpilogue{args.x, args.out, args.width, args.bias, args.gamma, args.row_scale});
  return {};
}

// ---- Backward: da = (row_scale * gamma * dout) W; the parameters as derived in gemm_branch.h --------------------------------

struct ProjResidualBackwardWorkspace : Carver {
  GemmWorkspace input;
  BranchWorkspace weight;
  ProjResidualBackwardWorkspace(const ProjResidualBackward& args, int threads, std::byte* base)
      : Carver{base},
        input(*this, args.rows, args.width, args.width, threads),
        weight(at(0), args.rows, args.width, args.width, threads) {}
};

inline size_t proj_residual_backward_workspace(const ProjResidualBackward& args, int threads) {
  return ProjResidualBackwardWorkspace(args, threads, nullptr).bytes;
}

inline Status proj_residual_backward(const ProjResidualBackward& args, OpContext& context) {
  const ProjResidualBackwardWorkspace workspace(args, context.pool.threads(), context.workspace);
  const int64_t width = args.width;
  gemm(context.pool, 0, args.rows, width, width, ScaledSource{args.dout, width, args.row_scale, args.gamma},
       transposed(args.weight), workspace.input, StoreEpilogue{args.da, width, nullptr});
  branch_weight_gradient(context.pool, 0, args.rows, args.dout, args.row_scale, PlainSource{args.a, width},
                         BranchGradient{args.weight, args.bias, args.gamma, args.dweight, args.dbias, args.dgamma},
                         workspace.weight);
  return {};
}

constexpr Kernel kKernels[] = {
    kernel<ProjResidualForward, proj_residual_forward, proj_residual_forward_workspace>(),
    kernel<ProjResidualBackward, proj_residual_backward, proj_residual_backward_workspace>(),
};

}  // namespace

constinit const KernelList proj_residual_kernels = {kKernels, sizeof kKernels / sizeof *kKernels};

}  // namespace mome::MOME_ISA
