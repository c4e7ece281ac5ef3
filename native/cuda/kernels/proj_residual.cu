// proj_residual: out = x + row_scale * gamma * (a W^T + bias).
#include "core/ops/proj_residual.h"

#include "cuda/kernels/register.h"
#include "cuda/kernels/residual.h"

namespace mome::cuda {
namespace {

Status forward(const ProjResidualForward& a, OpContext& context) {
  return with_element(context.device, [&](auto element) {
    using T = decltype(element);
    const bool aligned = a.width % kRun == 0 && is_aligned({a.x, a.bias, a.gamma, a.out});
    const ResidualEpilogue<T> epilogue{as<T>(a.x), {a.bias}, a.gamma, a.row_scale, as<T>(a.out), a.width, aligned};
    return gemm(context.device, as<T>(a.a), a.rows, a.weight, epilogue);
  });
}

}  // namespace

void register_proj_residual(KernelTable& table) { table.add<ProjResidualForward, forward>(Target::cuda); }

}  // namespace mome::cuda
