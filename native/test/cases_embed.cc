// Cases of patch_embed and text_embed.
#include "core/ops/patch_embed.h"
#include "core/ops/text_embed.h"
#include "test/harness.h"

namespace mome::test {
namespace {

OpCase patch_embed(const std::string& name, int64_t grid, int64_t patch, int64_t width, bool bytes, bool absolute,
                   bool masked = false) {
  Random random(31);
  const int64_t size = grid * patch, pictures = 2, images = 3, depth = 3 * patch * patch,
                rows = images * (1 + grid * grid), types = 3;
  const std::vector<int32_t> picture = {1, 0, 1}, type_index = {1, 2, 1};
  std::vector<uint8_t> raw(static_cast<size_t>(pictures * size * size * 3));
  for (uint8_t& byte : raw) byte = static_cast<uint8_t>(random.below(256));
  const Tensor pixels = random.normal(pictures * 3 * size * size);
  OpCase test{"patch_embed/" + name, "patch_embed", {}, {}, {}};
  test.roundings = 2;  // the result and patches that come as floats
  test.inputs = {{"weight", random.normal(width * depth, 0.1f)},
                 {"bias", random.normal(width)},
                 {"cls", random.normal(width)},
                 {"type", random.normal(types * width)}};
  if (absolute) test.inputs["position"] = random.normal((1 + grid * grid) * width);
  const std::vector<int32_t> mask = random.integers(images * grid * grid, 0, 2);
  if (masked) test.inputs["mask_token"] = random.normal(width);
  test.forward = [=](Runner& run, const Tensors& in, Tensors& out) {
    out["y"].resize(rows * width);
    return run.run(PatchEmbedForward{
        images, size, patch, width, bytes ? nullptr : pixels.data(), bytes ? raw.data() : nullptr, picture.data(),
        type_index.data(), run.matrix(in.at("weight"), width, depth), in.at("bias").data(), in.at("cls").data(),
        absolute ? in.at("position").data() : nullptr, in.at("type").data(), types, masked ? mask.data() : nullptr,
        masked ? in.at("mask_token").data() : nullptr, out["y"].data()});
  };
  test.backward = [=](Runner& run, const Tensors& in, const Tensors&, const Tensors& dout, Tensors& g) {
    for (const auto& [key, values] : in) g[key].assign(values.size(), 0);
    return run.run(PatchEmbedBackward{images, size, patch, width, bytes ? nullptr : pixels.data(),
                                      bytes ? raw.data() : nullptr, picture.data(), type_index.data(), types,
                                      masked ? mask.data() : nullptr, dout.at("y").data(), g["weight"].data(),
                                      g["bias"].data(), g["cls"].data(), absolute ? g["position"].data() : nullptr,
                                      g["type"].data(), masked ? g["mask_token"].data() : nullptr});
  };
  return test;
}

OpCase text_embed(const std::string& name, int64_t rows, int64_t width, bool absolute, float dropout) {
  Random random(32);
  const int64_t vocabulary = 50, max_length = 12;
  std::vector<int32_t> ids = random.integers(rows, 1, static_cast<int32_t>(vocabulary)),
                       index = random.integers(rows, 0, static_cast<int32_t>(max_length));
  OpCase test{"text_embed/" + name, "text_embed", {}, {}, {}};
  test.inputs = {{"word", random.normal(vocabulary * width)},
                 {"segment", random.normal(width)},
                 {"gamma", random.normal(width)},
                 {"beta", random.normal(width)},
                 {"type", random.normal(width)}};
  if (absolute) test.inputs["position"] = random.normal(max_length * width);
  test.forward = [=](Runner& run, const Tensors& in, Tensors& out) {
    out["y"].resize(rows * width);
    return run.run(TextEmbedForward{rows, width, vocabulary, max_length, ids.data(), index.data(), in.at("word").data(),
                                    in.at("segment").data(), absolute ? in.at("position").data() : nullptr,
                                    in.at("gamma").data(), in.at("beta").data(), 1e-12f, in.at("type").data(), dropout,
                                    77, out["y"].data()});
  };
  test.backward = [=](Runner& run, const Tensors& in, const Tensors&, const Tensors& dout, Tensors& g) {
    for (const auto& [key, values] : in) g[key].assign(values.size(), 0);
    return run.run(TextEmbedBackward{rows,
                                     width,
                                     vocabulary,
                                     max_length,
                                     ids.data(),
                                     index.data(),
                                     in.at("word").data(),
                                     in.at("segment").data(),
                                     absolute ? in.at("position").data() : nullptr,
                                     in.at("gamma").data(),
                                     1e-12f,
                                     dropout,
                                     77,
                                     dout.at("y").data(),
                                     g["word"].data(),
                                     g["segment"].data(),
                                     absolute ? g["position"].data() : nullptr,
                                     g["gamma"].data(),
                                     g["beta"].data(),
                                     g["type"].data()});
  };
  test.bound = 5e-6;
  return test;
}

}  // namespace

void add_embed_cases(std::vector<OpCase>& cases) {
  cases.push_back(patch_embed("bytes", 4, 8, 40, true, true));
  cases.push_back(patch_embed("pixels", 3, 16, 34, false, false));
  cases.push_back(patch_embed("one_patch", 1, 5, 7, false, true));
  cases.push_back(patch_embed("masked_bytes", 4, 8, 40, true, true, true));
  cases.push_back(patch_embed("masked_pixels", 3, 5, 34, false, false, true));
  cases.push_back(with_weights(patch_embed("bytes", 4, 8, 40, true, true), WeightType::bf16));
  cases.push_back(with_weights(patch_embed("masked_bytes", 4, 8, 40, true, true, true), WeightType::bf16));
  cases.push_back(with_weights(patch_embed("pixels", 3, 16, 34, false, false), WeightType::bf16));
  cases.push_back(text_embed("absolute", 60, 34, true, 0));
  cases.push_back(text_embed("relative", 33, 48, false, 0));
  cases.push_back(text_embed("dropout", 80, 24, true, 0.3f));
  cases.push_back(text_embed("nothing", 0, 16, true, 0));
}

}  // namespace mome::test
