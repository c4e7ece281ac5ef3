// mome_device_bench [--rounds N] [--launches N] [--sizes base|small] [--sweep yes]: the forward kernels of the CUDA
// library in bfloat16.
//
// Prints a line of JSON for the device, then one for each figure, so that a run that is cut off keeps what it had;
// scripts/gpu/run.py sets them against other libraries on the same device. A figure is a list of rounds; each is the
// mean of many launches between two events of the device. Launches take their inputs, weights and results in turn from
// so many copies that the second-level cache does not hold the next one's.
//
// Without --sweep: each op at the base model's sizes, rows of 64 pictures. With it: the four products of a block for
// each tile, family and number of rows, as `qkv`, whose epilogue is the lightest, and for one number of rows also
// without any epilogue. `small` sizes are for rehearsals.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "core/device.h"
#include "core/ops/attention.h"
#include "core/ops/expert_ffn.h"
#include "core/ops/layer_norm.h"
#include "core/ops/proj_residual.h"
#include "core/ops/qkv.h"
#include "core/weights.h"
#include "cuda/config/gemm_tile.h"

namespace mome {
namespace {

struct Sizes {
  int64_t images = 64, tokens = 197, grid = 14, width = 768, hidden = 3072, heads = 12, layers = 12;
  std::vector<int64_t> sweep = {197, 1576, 6304, 12608, 50432};
  size_t rotated_bytes = size_t{128} << 20;  // more than twice the second-level cache of an H100 or H200
  int64_t rows() const { return images * tokens; }
};
Sizes small_sizes() { return {2, 17, 4, 48, 96, 2, 2, {17, 70}, size_t{32} << 10}; }

constexpr int kMostCopies = 24;

class Bench {
 public:
  Bench(std::shared_ptr<Device> device, size_t rotated_bytes, int rounds, int launches)
      : device_(std::move(device)), rotated_bytes_(rotated_bytes), rounds_(rounds), launches_(launches) {
    for (void*& mark : marks_) check(device_->make_timed_mark(mark));
  }
  ~Bench() {
    for (void* mark : marks_) device_->release_mark(mark);
  }
  Bench(const Bench&) = delete;
  Bench& operator=(const Bench&) = delete;

  // As many copies of the memory of a launch as outgrow the second-level cache.
  int copies(size_t bytes) const {
    return static_cast<int>(std::clamp<size_t>((rotated_bytes_ + bytes - 1) / bytes, 1, kMostCopies));
  }

  // Device memory with normal values as bfloat16 (products depend on their operands' bits: zeros would run faster) or
  // float32.
  void* rows(int64_t count) { return fill(count, true); }
  float* vector(int64_t count) { return static_cast<float*>(fill(count, false)); }
  Matrix matrix(int64_t rows, int64_t columns) {
    std::vector<float> values = normal(rows * columns);
    WeightStore store(WeightType::bf16);
    Status status = store.add("w", {rows, columns}, values.data(), rows * columns);
    if (status.ok()) status = store.send(0, Form::packed, WeightType::bf16, device_, pool_);
    if (!status.ok()) die(status);
    kept_.push_back(std::move(store.at(0).device[Form::packed]));
    return {rows, columns, nullptr, kept_.back().data(), nullptr, WeightType::bf16};
  }
  void* bytes(const void* values, size_t count) {
    DeviceMemory memory;
    Status status = memory.reserve(device_, count);
    if (status.ok()) status = device_->upload(memory.data(), values, count);
    if (status.ok()) status = device_->finish();
    if (!status.ok()) die(status);
    kept_.push_back(std::move(memory));
    return kept_.back().data();
  }

  // The same weights once more, elsewhere.
  Matrix again(const Matrix& matrix) {
    const size_t bytes = static_cast<size_t>(matrix.rows * ((matrix.columns + 7) / 8 * 8)) * sizeof(uint16_t);
    std::vector<std::byte> values(bytes);
    check(device_->download(values.data(), matrix.packed, bytes));
    check(device_->finish());
    Matrix copy = matrix;
    copy.packed = static_cast<std::byte*>(this->bytes(values.data(), bytes));
    return copy;
  }

  // `args`: of launches that follow each other. `head`: the line's first members.
  template <typename Args>
  void measure(const std::string& head, const std::vector<Args>& args, double flops) {
    const Kernel* kernel = kernel_table(Target::cuda).find(Args::kOp, Args::kDirection, Target::cuda);
    const size_t bytes = kernel->workspace == nullptr ? 0 : kernel->workspace(&args[0], 1);
    DeviceMemory workspace;
    check(workspace.reserve(device_, bytes));
    OpContext context{pool_, workspace.data(), bytes, device_->queue()};
    context.device.rows = WeightType::bf16;
    std::string seconds;
    size_t next = 0;
    for (int round = -1; round < rounds_; round++) {  // the first warms up
      check(device_->set_mark(marks_[0]));
      for (int i = 0; i < launches_; i++) check(kernel->run(&args[next++ % args.size()], context));
      check(device_->set_mark(marks_[1]));
      check(device_->wait_mark(marks_[1]));
      double took = 0;
      check(device_->seconds_between(marks_[0], marks_[1], took));
      char text[32];
      std::snprintf(text, sizeof text, "%s%.4g", seconds.empty() ? "" : ", ", took / launches_);
      if (round >= 0) seconds += text;
    }
    std::printf("{%s, \"flops\": %.0f, \"copies\": %zu, \"seconds\": [%s]}\n", head.c_str(), flops, args.size(),
                seconds.c_str());
    std::fflush(stdout);
  }
  template <typename Args>
  void measure_op(const char* name, const std::vector<Args>& args, double flops) {
    measure("\"name\": \"" + std::string(name) + "\"", args, flops);
  }

  DeviceQueue queue() const { return device_->queue(); }

 private:
  static void check(const Status& status) {
    if (!status.ok()) die(status);
  }
  [[noreturn]] static void die(const Status& status) {
    std::fprintf(stderr, "mome_device_bench: %s\n", status.message().c_str());
    std::exit(1);
  }
  std::vector<float> normal(int64_t count) {
    std::normal_distribution<float> distribution(0, 1);
    std::vector<float> pool(1 << 16);
    for (float& value : pool) value = distribution(random_);
    std::vector<float> values(static_cast<size_t>(count));
    for (size_t i = 0; i < values.size(); i++) values[i] = pool[(i * 2654435761u >> 8) % pool.size()] * 0.1f;
    return values;
  }
  void* fill(int64_t count, bool halves) {
    const std::vector<float> values = normal(count);
    if (!halves) return bytes(values.data(), values.size() * sizeof(float));
    std::vector<uint16_t> rounded(values.size());
    for (size_t i = 0; i < values.size(); i++) {
      uint32_t word;
      std::memcpy(&word, &values[i], sizeof word);
      rounded[i] = static_cast<uint16_t>((word + 0x8000) >> 16);
    }
    return bytes(rounded.data(), rounded.size() * sizeof(uint16_t));
  }

  std::shared_ptr<Device> device_;
  size_t rotated_bytes_;
  int rounds_, launches_;
  void* marks_[2] = {};
  ThreadPool pool_{0};
  std::mt19937 random_{5};
  std::vector<DeviceMemory> kept_;
};

float* as_rows(void* pointer) { return static_cast<float*>(pointer); }

// Makes args(i) for each copy of the memory of a launch.
template <typename Make>
auto copies_of(const Bench& bench, size_t bytes, Make make) {
  std::vector<decltype(make(0))> all;
  for (int i = 0; i < bench.copies(bytes); i++) all.push_back(make(i));
  return all;
}

void ops(Bench& bench, const Sizes& size) {
  const int64_t rows = size.rows(), width = size.width, hidden = size.hidden;
  const double gemm = 2.0 * static_cast<double>(rows) * static_cast<double>(width);
  const size_t row_bytes = static_cast<size_t>(rows * width) * sizeof(uint16_t);
  const float* vector = bench.vector(hidden);
  const auto new_rows = [&](int64_t columns) { return as_rows(bench.rows(rows * columns)); };

  const Matrix qkv = bench.matrix(3 * width, width), proj = bench.matrix(width, width),
               fc1 = bench.matrix(hidden, width), fc2 = bench.matrix(width, hidden);
  const auto product = [&](const Matrix& weight) {
    return [&bench, &new_rows, rows, vector, weight](int i) {
      return QkvForward{rows,   weight.rows / 3, new_rows(weight.columns), i == 0 ? weight : bench.again(weight),
                        vector, vector,          new_rows(weight.rows)};
    };
  };
  bench.measure_op("qkv", copies_of(bench, 4 * row_bytes, product(qkv)), gemm * 3 * static_cast<double>(width));
  // The products of the experts' layers alone, as the widest and the deepest `qkv`: it writes a third of its columns at
  // a time.
  const size_t fc_bytes = row_bytes + static_cast<size_t>(rows * hidden) * sizeof(uint16_t);
  bench.measure_op("fc1", copies_of(bench, fc_bytes, product(fc1)), gemm * static_cast<double>(hidden));
  bench.measure_op("fc2", copies_of(bench, fc_bytes, product(fc2)), gemm * static_cast<double>(hidden));
  bench.measure_op("proj_residual",
                   copies_of(bench, 3 * row_bytes,
                             [&](int i) {
                               return ProjResidualForward{
                                   rows,   width,  new_rows(width), new_rows(width), i == 0 ? proj : bench.again(proj),
                                   vector, vector, nullptr,         new_rows(width)};
                             }),
                   gemm * static_cast<double>(width));
  bench.measure_op(
      "layer_norm",
      copies_of(
          bench, 2 * row_bytes,
          [&](int) { return LayerNormForward{rows, width, new_rows(width), vector, vector, 1e-6f, new_rows(width)}; }),
      0);

  const auto experts = [&](std::vector<int32_t> bounds) {
    const auto* ends = static_cast<const int32_t*>(bench.bytes(bounds.data(), bounds.size() * sizeof(int32_t)));
    std::vector<std::pair<Matrix, Matrix>> weights = {{fc1, fc2}};
    while (weights.size() < bounds.size() - 1)
      weights.emplace_back(bench.matrix(hidden, width), bench.matrix(width, hidden));
    return copies_of(bench, 2 * fc_bytes, [&](int) {
      ExpertFfnForward ffn{};
      ffn.rows = rows, ffn.width = width, ffn.hidden = hidden, ffn.eps = 1e-6f, ffn.x = new_rows(width),
      ffn.gamma = vector, ffn.out = new_rows(width);
      ffn.bounds = ends;
      ffn.experts = static_cast<int>(weights.size());
      for (int e = 0; e < ffn.experts; e++) {
        const auto& [own_fc1, own_fc2] = weights[static_cast<size_t>(e)];
        ffn.expert[e] = {0, 0, vector, vector, own_fc1, vector, own_fc2, vector};
      }
      return ffn;
    });
  };
  const int32_t end = static_cast<int32_t>(rows);
  bench.measure_op("expert_ffn", experts({0, end}), 2 * gemm * static_cast<double>(hidden));
  bench.measure_op("expert_ffn, 3 experts", experts({0, end / 8, end / 2, end}),
                   2 * gemm * static_cast<double>(hidden));

  const RelativePosition position{static_cast<int32_t>(size.grid), 196};
  std::vector<Sequence> sequences;
  for (int32_t i = 0; i < size.images; i++)
    sequences.push_back({0, 0, i * static_cast<int32_t>(size.tokens), static_cast<int32_t>(size.tokens)});
  const auto* on_device =
      static_cast<const Sequence*>(bench.bytes(sequences.data(), sequences.size() * sizeof(Sequence)));
  const float* table = bench.vector(position.rows() * size.heads * size.layers);
  const auto attention = [&](bool biased) {
    return copies_of(bench, 4 * row_bytes, [&, biased](int) {
      AttentionForward a{rows,
                         width,
                         size.heads,
                         size.images,
                         nullptr,
                         new_rows(3 * width),
                         biased ? table : nullptr,
                         size.heads * size.layers,
                         0,
                         position,
                         0.125f,
                         new_rows(width),
                         nullptr,
                         0,
                         false};
      summarise_sequences(sequences.data(), a);
      a.sequences = on_device;
      return a;
    });
  };
  const double scores = 4.0 * static_cast<double>(size.images * size.tokens * size.tokens * width);
  bench.measure_op("attention, no bias", attention(false), scores);
  bench.measure_op("attention", attention(true), scores);
}

// Tiles x families x rows x the four products of a block.
void sweep(Bench& bench, const Sizes& size) {
  using namespace cuda;
  const int64_t most_rows = *std::max_element(size.sweep.begin(), size.sweep.end()),
                most_columns = std::max(size.hidden, 3 * size.width);
  // Operands of all cases are parts of two buffers; copies follow each other there.
  const auto bytes_of = [](int64_t count) { return static_cast<size_t>(count) * sizeof(uint16_t); };
  const int64_t room =
      std::max(most_rows * most_columns, static_cast<int64_t>(size.rotated_bytes / sizeof(uint16_t)) * 2);
  float *x = as_rows(bench.rows(room)), *y = as_rows(bench.rows(room));
  const float* vector = bench.vector(most_columns);
  const bool newer = gemm_family(bench.queue().capability) == GemmFamily::sm90;
  struct Product {
    const char* name;
    int64_t columns, depth;
  };
  for (const Product& product : {Product{"qkv", 3 * size.width, size.width},
                                 {"proj", size.width, size.width},
                                 {"fc1", size.hidden, size.width},
                                 {"fc2", size.width, size.hidden}}) {
    std::vector<Matrix> weights = {bench.matrix(product.columns, product.depth)};
    for (const int64_t rows : size.sweep) {
      const int64_t row_x = rows * product.depth, row_y = rows * product.columns;
      const size_t touched = bytes_of(row_x + row_y + product.columns * product.depth);
      const auto args = copies_of(bench, touched, [&](int i) {
        while (weights.size() <= static_cast<size_t>(i)) weights.push_back(bench.again(weights[0]));
        const auto part = [&](float* from, int64_t count) {
          return as_rows(reinterpret_cast<uint16_t*>(from) + i % (room / count) * count);
        };
        return QkvForward{rows,   product.columns / 3, part(x, row_x), weights[static_cast<size_t>(i)], vector,
                          vector, part(y, row_y)};
      });
      for (const GemmFamily family : {GemmFamily::sm90, GemmFamily::sm80}) {
        if (family == GemmFamily::sm90 && !newer) continue;
        const char* name = family == GemmFamily::sm90 ? "sm90" : "sm80";
        setenv("MOME_GEMM_FAMILY", name, 1);
        for (size_t tile = 0; tile < gemm_tiles(family).size(); tile++) {
          setenv("MOME_GEMM_TILE", std::to_string(tile).c_str(), 1);
          for (const bool epilogue : {true, false}) {
            if (!epilogue && rows != size.sweep[size.sweep.size() > 3 ? 3 : 0]) continue;
            if (!epilogue) setenv("MOME_GEMM_EPILOGUE", "none", 1);
            const GemmTile& of = gemm_tiles(family)[tile];
            char head[256];
            std::snprintf(head, sizeof head,
                          "\"product\": \"%s\", \"rows\": %lld, \"columns\": %lld, \"depth\": %lld, "
                          "\"family\": \"%s\", \"tile\": %zu, \"tileRows\": %d, \"tileColumns\": %d, "
                          "\"epilogue\": %s",
                          product.name, static_cast<long long>(rows), static_cast<long long>(product.columns),
                          static_cast<long long>(product.depth), name, tile, of.rows, of.columns,
                          epilogue ? "true" : "false");
            bench.measure(head, args,
                          2.0 * static_cast<double>(rows * product.columns) * static_cast<double>(product.depth));
            unsetenv("MOME_GEMM_EPILOGUE");
          }
        }
      }
      unsetenv("MOME_GEMM_TILE");
      unsetenv("MOME_GEMM_FAMILY");
    }
  }
}

}  // namespace
}  // namespace mome

int main(int count, char** arguments) {
  using namespace mome;
  int rounds = 10, launches = 20;
  bool swept = false, known = count % 2 == 1;
  Sizes sizes;
  for (int i = 1; i + 1 < count; i += 2) {
    const std::string name = arguments[i], value = arguments[i + 1];
    if (name == "--rounds")
      rounds = std::atoi(value.c_str());
    else if (name == "--launches")
      launches = std::atoi(value.c_str());
    else if (name == "--sizes" && value == "small")
      sizes = small_sizes();
    else if (name == "--sweep" && value == "yes")
      swept = true;
    else if (!(name == "--sizes" && value == "base"))
      known = false;
  }
  if (!known || rounds < 1 || launches < 1)
    return std::printf("usage: mome_device_bench [--rounds N] [--launches N] [--sizes base|small] [--sweep yes]\n"), 2;
  const DeviceLibrary& library = device_library();
  std::string why = library.reason;
  std::shared_ptr<Device> device;
  if (library.api == nullptr || library.api->count(why) == 0)
    return std::fprintf(stderr, "mome_device_bench: no device: %s\n", why.c_str()), 1;
  Status status = library.api->open({}, device);
  if (status.ok()) status = device->use();
  DeviceDescription description;
  if (!status.ok() || !library.api->describe(0, description).ok())
    return std::fprintf(stderr, "mome_device_bench: %s\n", status.message().c_str()), 1;
  std::printf("{\"device\": \"%s\", \"runtime\": \"%s\", \"multiprocessors\": %d, \"rows\": %lld}\n",
              description.name.c_str(), description.runtime.c_str(), device->queue().multiprocessors,
              static_cast<long long>(sizes.rows()));
  std::fflush(stdout);
  Bench bench(device, sizes.rotated_bytes, rounds, launches);
  if (swept)
    sweep(bench, sizes);
  else
    ops(bench, sizes);
  return 0;
}
