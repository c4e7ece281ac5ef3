// layer_norm: see layer_norm.h.
#include "cuda/kernels/layer_norm.h"

#include "core/ops/layer_norm.h"
#include "cuda/kernels/register.h"

namespace mome::cuda {
namespace {

Status forward(const LayerNormForward& a, OpContext& context) {
  NormGroups groups{};
  groups.groups = 1, groups.end[0] = a.rows, groups.gamma[0] = a.gamma, groups.beta[0] = a.beta;
  return with_element(context.device, [&](auto element) {
    using T = decltype(element);
    return normalise(context.device, as<T>(a.x), a.rows, a.width, a.eps, groups, as<T>(a.y));
  });
}

}  // namespace

void register_layer_norm(KernelTable& table) { table.add<LayerNormForward, forward>(Target::cuda); }

}  // namespace mome::cuda
