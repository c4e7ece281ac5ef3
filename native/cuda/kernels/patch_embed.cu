// patch_embed: patches become the rows of one product; its epilogue adds bias, position and type, puts the mask token
// in place of masked patches and leaves room for the CLS rows.
//
// Bytes stay whole numbers in bfloat16 (0 .. 255 are exact), and their normalisation moves to the other side of the
// product:
//   sum_k w_k (2 b_k / 255 - 1) = 2 / 255 sum_k w_k b_k - sum_k w_k,
// where the last sum comes with the packed weight (pack.h), taken over the rounded values. In float32 the normalised
// values themselves are multiplied.
#include "core/ops/patch_embed.h"

#include "cuda/kernels/gemm.h"
#include "cuda/kernels/pack.h"
#include "cuda/kernels/register.h"

namespace mome::cuda {
namespace {

inline constexpr int kThreads = 256;

// Row (image, patch) of the product, columns (channel, y, x).
template <typename T>
MOME_KERNEL(kThreads)
patch_rows_forward_cuda(MOME_PARAMETER PatchEmbedForward a, bool raw, T* rows) {
  const int64_t grid = a.image_size / a.patch_size, depth = 3 * a.patch_size * a.patch_size;
  const int64_t row = blockIdx.x, image = row / (grid * grid), patch = row % (grid * grid);
  const int64_t top = patch / grid * a.patch_size, left = patch % grid * a.patch_size;
  const int64_t picture = a.picture[image];
  for (int64_t i = threadIdx.x; i < depth; i += kThreads) {
    const int64_t channel = i / (a.patch_size * a.patch_size), y = top + i / a.patch_size % a.patch_size,
                  x = left + i % a.patch_size;
    float value;
    if (a.pixels != nullptr) {
      value = a.pixels[((picture * 3 + channel) * a.image_size + y) * a.image_size + x];
    } else {
      value = a.bytes[((picture * a.image_size + y) * a.image_size + x) * 3 + channel];
      if (!raw) value = (value / 255.0f - 0.5f) / 0.5f;
    }
    rows[row * depth + i] = from_float<T>(value);
  }
}

template <typename T>
struct PatchEpilogue {
  enum : bool { kLight = false };
  PatchEmbedForward a;
  const float* weight_sums;  // null when the rows are already normalised
  T* out;
  bool aligned;

  MOME_DEVICE void operator()(int row, int column, int, int count, bool whole, float (&values)[kRun]) const {
    const int patches = static_cast<int>((a.image_size / a.patch_size) * (a.image_size / a.patch_size));
    const int image = row / patches, token = 1 + row % patches;
    const float* type = a.type + a.type_index[image] * a.width;
    const bool masked = a.mask != nullptr && a.mask[row] != 0;
    for (int i = 0; i < count; i++) {
      const int64_t c = column + i;
      if (weight_sums != nullptr) values[i] = fmaf(values[i], 2.0f / 255.0f, -weight_sums[c]);
      values[i] = masked ? a.mask_token[c] : values[i] + a.bias[c];
      values[i] += type[c] + (a.position == nullptr ? 0.0f : a.position[token * a.width + c]);
    }
    store_run(out + (int64_t{image} * (1 + patches) + token) * a.width + column, count, whole, values);
  }
};

template <typename T>
MOME_KERNEL(kThreads)
patch_cls_forward_cuda(MOME_PARAMETER PatchEmbedForward a, T* out) {
  const int64_t tokens = 1 + (a.image_size / a.patch_size) * (a.image_size / a.patch_size), image = blockIdx.x;
  const float* type = a.type + a.type_index[image] * a.width;
  for (int64_t c = threadIdx.x; c < a.width; c += kThreads) {
    out[image * tokens * a.width + c] =
        from_float<T>(a.cls[c] + type[c] + (a.position == nullptr ? 0.0f : a.position[c]));
  }
}

int64_t patch_rows(const PatchEmbedForward& a) {
  return a.images * (a.image_size / a.patch_size) * (a.image_size / a.patch_size);
}

size_t workspace(const PatchEmbedForward& a, int) {
  return static_cast<size_t>(patch_rows(a) * a.weight.columns) *
         (a.weight.type == WeightType::bf16 ? sizeof(bf16) : sizeof(float));
}

template <typename T>
Status forward_as(const PatchEmbedForward& a, OpContext& context) {
  const Queue& queue = context.device;
  T* rows = reinterpret_cast<T*>(context.workspace);
  const bool raw = a.bytes != nullptr && kWeightType<T> == WeightType::bf16;
  MOME_RETURN_IF_ERROR(launch(patch_rows_forward_cuda<T>, {static_cast<unsigned>(patch_rows(a)), 1, 1}, kThreads, 0,
                              queue.stream, a, raw, rows));
  const float* sums = raw ? packed_sums<T>(a.weight.packed, a.weight.rows, a.weight.columns) : nullptr;
  const PatchEpilogue<T> epilogue{a, sums, as<T>(a.out), a.width % kRun == 0 && is_aligned({a.out})};
  MOME_RETURN_IF_ERROR(gemm(queue, static_cast<const T*>(rows), patch_rows(a), a.weight, epilogue));
  return launch(patch_cls_forward_cuda<T>, {static_cast<unsigned>(a.images), 1, 1}, kThreads, 0, queue.stream, a,
                as<T>(a.out));
}

Status forward(const PatchEmbedForward& a, OpContext& context) {
  return with_element(context.device, [&](auto element) { return forward_as<decltype(element)>(a, context); });
}

}  // namespace

void register_patch_embed(KernelTable& table) { table.add<PatchEmbedForward, forward, workspace>(Target::cuda); }

}  // namespace mome::cuda
