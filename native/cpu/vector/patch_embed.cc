// patch_embed: pictures to token rows, a product of depth 3 P^2 whose A rows are read straight from the picture while
// they are packed; no patch matrix is ever written. 2 rows width 3 P^2 FLOPs. Bytes are normalised with the same float
// operations as on a float picture, (b / 255 - 0.5) / 0.5, so both inputs give the same bits. Float32 accumulators, see
// gemm.h. Masked patches are multiplied like the others and their products left unread: the whole product is some 1 %
// of a base model's pass, and tiles that skip rows would be a second way through the GEMM.
#include "core/ops/patch_embed.h"
#include "cpu/vector/gemm.h"
#include "cpu/vector/kernels.h"

namespace mome::MOME_ISA {
namespace {

// Row r is patch r % patches of image r / patches; column (c * P + y) * P + x is pixel (y, x) of channel c inside it.
struct PatchSource {
  const float* pixels;
  const uint8_t* bytes;
  const int32_t* picture;
  int64_t size, patch, grid;
  void prepare(int64_t) const {}

  Vec load(int64_t row, int64_t column, int64_t count) const {
    const int64_t area = patch * patch;
    const int64_t image = row / (grid * grid), place = row % (grid * grid);
    const int64_t top = place / grid * patch, left = place % grid * patch;
    const int64_t base = picture[image] * size * size;
    int64_t channel = column / area, y = column % area / patch, x = column % patch;
    if (pixels != nullptr && x + count <= patch) {  // one run of a pixel row
      return load_part(pixels + 3 * base + (channel * size + top + y) * size + left + x, count);
    }
    float value[kLanes] = {};
    for (int64_t i = 0; i < count; ++i) {
      const int64_t at = (top + y) * size + left + x;
      value[i] = pixels != nullptr ? pixels[3 * base + channel * size * size + at]
                                   : static_cast<float>(bytes[3 * (base + at) + channel]);
      if (++x < patch) continue;
      x = 0;
      if (++y < patch) continue;
      y = 0;
      ++channel;
    }
    const Vec v = mome::MOME_ISA::load(value);
    return pixels != nullptr ? v : (v / set1(255.0f) - set1(0.5f)) / set1(0.5f);
  }
};

// ---- Forward ----------------------------------------------------------------------------------------------------------------

// out[token of the patch] = acc + bias + position + type, where acc + bias is the mask token for masked patches.
struct PatchEpilogue {
  const PatchEmbedForward& args;
  int64_t patches;
  void operator()(int64_t row, int64_t rows, int64_t column, int64_t columns, const float* tile) const {
    for_each_vector(row, rows, column, columns, tile, [&](int64_t r, int64_t c, int64_t count, Vec value) {
      const int64_t image = r / patches, token = 1 + r % patches;
      const bool masked = args.mask != nullptr && args.mask[r] != 0;
      value = masked ? load_part(args.mask_token + c, count) : value + load_part(args.bias + c, count);
      if (args.position != nullptr) value = value + load_part(args.position + token * args.width + c, count);
      value = value + load_part(args.type + args.type_index[image] * args.width + c, count);
      store_part(args.out + (image * (1 + patches) + token) * args.width + c, value, count);
    });
  }
};

inline int64_t patches_of(int64_t image_size, int64_t patch_size) {
  const int64_t grid = image_size / patch_size;
  return grid * grid;
}

struct PatchEmbedForwardWorkspace : Carver {
  GemmWorkspace product;
  PatchEmbedForwardWorkspace(const PatchEmbedForward& args, int threads, std::byte* base)
      : Carver{base},
        product(*this, args.images * patches_of(args.image_size, args.patch_size), args.width,
                3 * args.patch_size * args.patch_size, threads) {}
};

inline size_t patch_embed_forward_workspace(const PatchEmbedForward& args, int threads) {
  return PatchEmbedForwardWorkspace(args, threads, nullptr).bytes;
}

inline Status patch_embed_forward(const PatchEmbedForward& args, OpContext& context) {
  const PatchEmbedForwardWorkspace workspace(args, context.pool.threads(), context.workspace);
  const int64_t grid = args.image_size / args.patch_size, patches = grid * grid, width = args.width;

  // Row 0 of each image.
  for (int64_t i = 0; i < args.images; ++i) {
    for (int64_t j = 0; j < width; ++j) {
      float value = args.cls[j];
      if (args.position != nullptr) value += args.position[j];
      args.out[i * (1 + patches) * width + j] = value + args.type[args.type_index[i] * width + j];
    }
  }
  gemm(context.pool, 0, args.images * patches, width, 3 * args.patch_size * args.patch_size,
       PatchSource{args.pixels, args.bytes, args.picture, args.image_size, args.patch_size, grid}, args.weight,
       workspace.product, PatchEpilogue{args, patches});
  return {};
}

// ---- Backward ---------------------------------------------------------------------------------------------------------------
//
// The pictures get no gradient. dweight and dbias sum over the rows of patches that are not masked; dmask_token over
// those of masked ones, dcls over rows 0, dposition over images, dtype over all rows of the images of a type: these run
// per column over rows in ascending order.

// The patch rows of dout, leaving out each image's row 0; zeros for masked patches.
struct PatchGradientSource {
  const float* dout;
  const int32_t* mask;
  int64_t patches, width;
  void prepare(int64_t) const {}
  Vec load(int64_t row, int64_t column, int64_t count) const {
    if (mask != nullptr && mask[row] != 0) return zero();
    return load_part(dout + (row + row / patches + 1) * width + column, count);
  }
};

struct PatchEmbedBackwardWorkspace : Carver {
  OverRowsWorkspace product;
  PatchEmbedBackwardWorkspace(const PatchEmbedBackward& args, int threads, std::byte* base)
      : Carver{base},
        product(*this, args.images * patches_of(args.image_size, args.patch_size), args.width,
                args.dweight == nullptr ? 0 : 3 * args.patch_size * args.patch_size, threads) {}
};

inline size_t patch_embed_backward_workspace(const PatchEmbedBackward& args, int threads) {
  return PatchEmbedBackwardWorkspace(args, threads, nullptr).bytes;
}

inline void accumulate_part(float* p, Vec value, int64_t count) { store_part(p, load_part(p, count) + value, count); }

inline Status patch_embed_backward(const PatchEmbedBackward& args, OpContext& context) {
  const PatchEmbedBackwardWorkspace workspace(args, context.pool.threads(), context.workspace);
  const int64_t grid = args.image_size / args.patch_size, patches = grid * grid, width = args.width;
  const int64_t depth = 3 * args.patch_size * args.patch_size;
  if (args.dweight != nullptr || args.dbias != nullptr) {
    gemm_over_rows(context.pool, WeightType::f32, 0, args.images * patches, width, args.dweight == nullptr ? 0 : depth,
                   PatchGradientSource{args.dout, args.mask, patches, width},
                   PatchSource{args.pixels, args.bytes, args.picture, args.image_size, args.patch_size, grid},
                   args.dbias, workspace.product, AddEpilogue{args.dweight, depth});
  }
  if (args.dcls == nullptr && args.dposition == nullptr && args.dtype == nullptr && args.dmask_token == nullptr)
    return {};

  context.pool.parallel_for(ceil_div(width, kLanes), [&](int64_t item, int) {
    const int64_t column = item * kLanes, count = smaller(kLanes, width - column);
    for (int64_t i = 0; i < args.images; ++i) {
      Vec sum = zero(), masked = zero();
      for (int64_t token = 0; token <= patches; ++token) {
        const Vec value = load_part(args.dout + (i * (1 + patches) + token) * width + column, count);
        if (token == 0 && args.dcls != nullptr) accumulate_part(args.dcls + column, value, count);
        if (args.dposition != nullptr) accumulate_part(args.dposition + token * width + column, value, count);
        sum = sum + value;
        if (args.mask != nullptr && token > 0 && args.mask[i * patches + token - 1] != 0) masked = masked + value;
      }
      if (args.dmask_token != nullptr) accumulate_part(args.dmask_token + column, masked, count);
      if (args.dtype != nullptr) accumulate_part(args.dtype + args.type_index[i] * width + column, sum, count);
    }
  });
  return {};
}

constexpr Kernel kKernels[] = {
    kernel<PatchEmbedForward, patch_embed_forward, patch_embed_forward_workspace>(),
    kernel<PatchEmbedBackward, patch_embed_backward, patch_embed_backward_workspace>(),
};

}  // namespace

constinit const KernelList patch_embed_kernels = {kKernels, sizeof kKernels / sizeof *kKernels};

}  // namespace mome::MOME_ISA
