// layer_norm: see layer_norm.h.
#include "cuda/kernels/layer_norm.h"

#include "core/ops/layer_norm.h"
#include "cuda/kernels/register.h"

namespace mome::cuda {
namespace {

Status forward(const LayerNormForward& a, OpContext& context) {
  if (a.rows > INT32_MAX) return error(Code::too_large, "layer_norm: expected fewer than 2^31 rows");
  const NormGroups groups{{static_cast<int>(a.rows), 1, nullptr}, {a.gamma}, {a.beta}};
  return with_element(context.device, [&](auto element) {
    using T = decltype(element);
    return normalise(context.device, as<T>(a.x), a.width, a.eps, groups, as<T>(a.y));
  });
}

}  // namespace

void register_layer_norm(KernelTable& table) { table.add<LayerNormForward, forward>(Target::cuda); }

}  // namespace mome::cuda
