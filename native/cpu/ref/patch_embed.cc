#include "core/ops/patch_embed.h"

#include "cpu/ref/scalar.h"

namespace mome::ref {
namespace {

// Whether patch `token - 1` of an image is masked. Token 0 is CLS.
template <typename Args>
bool is_masked(const Args& a, int64_t image, int64_t token) {
  const int64_t grid = a.image_size / a.patch_size;
  return token > 0 && a.mask != nullptr && a.mask[image * grid * grid + token - 1] != 0;
}

// One patch as (channel, y, x), normalised.
template <typename Args>
std::vector<float> patch_of(const Args& a, int64_t picture, int64_t patch) {
  const int64_t size = a.image_size, p = a.patch_size, grid = size / p;
  std::vector<float> values;
  values.reserve(3 * p * p);
  for (int64_t channel = 0; channel < 3; channel++) {
    for (int64_t y = patch / grid * p; y < (patch / grid + 1) * p; y++) {
      for (int64_t x = patch % grid * p; x < (patch % grid + 1) * p; x++) {
        if (a.pixels != nullptr) {
          values.push_back(a.pixels[((picture * 3 + channel) * size + y) * size + x]);
        } else {
          const double byte = a.bytes[((picture * size + y) * size + x) * 3 + channel];
          values.push_back(static_cast<float>((byte / 255 - 0.5) / 0.5));
        }
      }
    }
  }
  return values;
}

Status forward(const PatchEmbedForward& a, OpContext& context) {
  const int64_t grid = a.image_size / a.patch_size, patches = grid * grid;
  context.pool.parallel_for(a.images * (1 + patches), [&](int64_t row, int) {
    const int64_t image = row / (1 + patches), token = row % (1 + patches);
    float* out = a.out + row * a.width;
    const bool masked = is_masked(a, image, token);
    const float* given = masked ? a.mask_token : a.cls;
    std::vector<float> embedded(given, given + a.width);
    if (token > 0 && !masked)
      map_row(patch_of(a, a.picture[image], token - 1).data(), a.weight, a.bias, embedded.data());
    for (int64_t i = 0; i < a.width; i++) {
      const double position = a.position == nullptr ? 0.0 : a.position[token * a.width + i];
      out[i] = static_cast<float>(embedded[i] + position + a.type[int64_t{a.type_index[image]} * a.width + i]);
    }
  });
  return {};
}

Status backward(const PatchEmbedBackward& a, OpContext&) {
  const int64_t grid = a.image_size / a.patch_size, patches = grid * grid, depth = 3 * a.patch_size * a.patch_size;
  std::vector<double> dweight(a.width * depth), dbias(a.width), dcls(a.width), dposition((1 + patches) * a.width),
      dtype(a.type_rows * a.width), dmask_token(a.width);
  for (int64_t image = 0; image < a.images; image++) {
    for (int64_t token = 0; token <= patches; token++) {
      const float* dout = a.dout + (image * (1 + patches) + token) * a.width;
      const bool masked = is_masked(a, image, token);
      const std::vector<float> patch =
          token > 0 && !masked ? patch_of(a, a.picture[image], token - 1) : std::vector<float>(depth, 0.0f);
      for (int64_t i = 0; i < a.width; i++) {
        (token == 0 ? dcls : masked ? dmask_token : dbias)[i] += dout[i];
        dposition[token * a.width + i] += dout[i];
        dtype[int64_t{a.type_index[image]} * a.width + i] += dout[i];
        for (int64_t k = 0; k < depth; k++) dweight[i * depth + k] += static_cast<double>(dout[i]) * patch[k];
      }
    }
  }
  accumulate(a.dweight, dweight);
  accumulate(a.dbias, dbias);
  accumulate(a.dcls, dcls);
  accumulate(a.dposition, dposition);
  accumulate(a.dtype, dtype);
  accumulate(a.dmask_token, dmask_token);
  return {};
}

}  // namespace

void register_patch_embed(KernelTable& table) {
  table.add<PatchEmbedForward, forward>(Target::ref);
  table.add<PatchEmbedBackward, backward>(Target::ref);
}

}  // namespace mome::ref
