#include "core/ops/patch_embed.h"

#include "core/ops/spec.h"

namespace mome {
namespace {

template <typename Args>
void decode_pictures(Decoder& d, Args& a) {
  a.images = d.rows("picture");
  a.image_size = d.integer("image_size");
  a.patch_size = d.integer("patch_size");
  d.expect(a.patch_size > 0 && a.image_size > 0 && a.image_size % a.patch_size == 0, "expected whole patches");
  d.expect(d.has("pixels") != d.has("bytes"), "expected either pixels or bytes");
  if (!d.status().ok()) return;
  const int64_t pictures = d.rows(d.has("pixels") ? "pixels" : "bytes");
  const int64_t count = pictures * 3 * a.image_size * a.image_size;
  a.pixels = d.tensor("pixels", count, true);
  a.bytes = d.bytes("bytes", count);
  a.picture = d.integers("picture", a.images, 0, pictures);
  d.expect(a.images == 0 || pictures > 0, "expected at least one picture");
  const int64_t grid = a.image_size / a.patch_size;
  a.mask = d.integers("mask", a.images * grid * grid, 0, 2, Decoder::kNothingElse, true);
}

void decode_forward(Decoder& d, PatchEmbedForward& a) {
  decode_pictures(d, a);
  if (!d.status().ok()) return;
  const int64_t tokens = 1 + (a.image_size / a.patch_size) * (a.image_size / a.patch_size);
  a.width = d.rows("weight");
  a.type_rows = d.rows("type");
  a.type_index = d.integers("type_index", a.images, 0, a.type_rows);
  a.weight = d.matrix("weight", a.width, 3 * a.patch_size * a.patch_size);
  a.bias = d.tensor("bias", a.width);
  a.cls = d.tensor("cls", a.width);
  a.position = d.tensor("position", tokens * a.width, true);
  a.type = d.tensor("type", a.type_rows * a.width);
  a.mask_token = d.tensor("mask_token", a.width, true);
  d.expect(d.has("mask") == d.has("mask_token"), "expected a mask and a mask token, or neither");
  a.out = d.output("out", a.images * tokens * a.width);
}

void decode_backward(Decoder& d, PatchEmbedBackward& a) {
  decode_pictures(d, a);
  if (!d.status().ok()) return;
  const int64_t tokens = 1 + (a.image_size / a.patch_size) * (a.image_size / a.patch_size);
  a.width = d.columns("dout");
  a.type_rows = d.has("dtype") ? d.rows("dtype") : INT32_MAX;
  a.type_index = d.integers("type_index", a.images, 0, a.type_rows);
  a.dout = d.tensor("dout", a.images * tokens * a.width);
  a.dweight = d.gradient("dweight", a.width * 3 * a.patch_size * a.patch_size);
  a.dbias = d.gradient("dbias", a.width);
  a.dcls = d.gradient("dcls", a.width);
  a.dposition = d.gradient("dposition", tokens * a.width);
  a.dtype = d.gradient("dtype", d.has("dtype") ? a.type_rows * a.width : 0);
  a.dmask_token = d.gradient("dmask_token", a.width);
  d.expect(d.has("mask") || !d.has("dmask_token"), "expected a mask for the gradient of the mask token");
}

}  // namespace

constinit const OpSpec patch_embed_op = {
    .name = PatchEmbedForward::kOp,
    .forward = decode_with<decode_forward>,
    .backward = decode_with<decode_backward>,
    .matrices = {"weight"},
    .results = {"out"},
    .device_rows = DeviceRows::encoder,
};

}  // namespace mome
