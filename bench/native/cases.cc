// The cases of mome_bench kernels: every op at the model's shapes, in every type of weights it takes, through the kernel table.
#include <cstring>
#include <memory>
#include <random>

#include "core/memory.h"
#include "core/ops/attention.h"
#include "core/ops/expert_ffn.h"
#include "core/ops/layer_norm.h"
#include "core/ops/linear.h"
#include "core/ops/optimizer.h"
#include "core/ops/proj_residual.h"
#include "core/ops/qkv.h"
#include "core/weights.h"
#include "native/bench.h"

namespace mome::bench {
namespace {

constexpr int64_t kWidth = 768, kHidden = 3072, kHeads = 12, kGrid = 14, kTextInit = 196;
constexpr int64_t kTokens = 1 + kGrid * kGrid, kTextTokens = 12;
constexpr WeightType kTypes[] = {WeightType::f32, WeightType::bf16, WeightType::i8};

// Operands of one case.
class Operands {
 public:
  Operands(Target target, ThreadPool& pool) : target_(target), pool_(pool) {}

  float* values(int64_t count, float deviation = 1) {
    AlignedMemory memory;
    if (!memory.reserve(static_cast<size_t>(count) * sizeof(float))) std::abort();
    std::normal_distribution<float> normal(0, deviation);
    // A short run of random numbers, repeated: enough to have no pattern a kernel could profit from.
    constexpr int64_t kRun = 65537;
    for (int64_t i = 0; i < count; i++) memory.floats()[i] = i < kRun ? normal(engine_) : memory.floats()[i - kRun];
    kept_.push_back(std::move(memory));
    return kept_.back().floats();
  }

  Matrix matrix(int64_t rows, int64_t columns, WeightType type, bool backward = false) {
    WeightStore store(type);
    const float* data = values(rows * columns, 0.05f);
    Matrix matrix{rows, columns, data, nullptr, nullptr, type};
    if (!store.add("w", {rows, columns}, data, rows * columns).ok()) std::abort();
    for (const Form form : {Form::packed, Form::packed_transposed}) {
      if (form == Form::packed_transposed && !backward) continue;
      if (!store.pack(0, form, target_, type, pool_).ok()) std::abort();
    }
    PerForm<AlignedMemory>& forms = store.at(0).host;
    matrix.packed = forms[Form::packed].data();
    matrix.packed_transposed = forms[Form::packed_transposed].floats();
    for (const Form form : {Form::packed, Form::packed_transposed}) kept_.push_back(std::move(forms[form]));
    return matrix;
  }

  template <typename Args>
  std::function<Status()> call(const Args& args) {
    const Kernel* kernel = kernel_table(target_).find(Args::kOp, Args::kDirection, target_);
    if (kernel == nullptr) std::abort();
    AlignedMemory workspace;
    const size_t bytes = kernel->workspace == nullptr ? 0 : kernel->workspace(&args, pool_.threads());
    if (!workspace.reserve(bytes)) std::abort();
    kept_.push_back(std::move(workspace));
    std::byte* memory = kept_.back().data();
    return [kernel, args, memory, bytes, pool = &pool_] {
      OpContext context{*pool, memory, bytes};
      return kernel->run(&args, context);
    };
  }

 private:
  Target target_;
  ThreadPool& pool_;
  std::mt19937 engine_{1};
  std::vector<AlignedMemory> kept_;
};

std::string sizes(std::initializer_list<int64_t> numbers) {
  std::string text;
  for (const int64_t number : numbers) text += (text.empty() ? "" : "x") + std::to_string(number);
  return text;
}

Case make(const char* op, const char* direction, std::string shape, WeightType type, double flops) {
  Case made;
  made.op = op, made.direction = direction, made.shape = std::move(shape), made.type = type, made.flops = flops;
  return made;
}

// A case that is made only when it is wanted.
struct Maker {
  Case named;
  std::function<void(Operands&, Case&)> fill;
};

Maker linear(int64_t rows, int64_t inputs, int64_t outputs, WeightType type) {
  return {make("linear", "forward", sizes({rows, inputs, outputs}), type, 2.0 * rows * inputs * outputs), [=](Operands& operands, Case& made) {
            LinearForward args{};
            args.rows = rows, args.x = operands.values(rows * inputs), args.weight = operands.matrix(outputs, inputs, type);
            args.y = operands.values(rows * outputs);
            made.run = operands.call(args);
            if (type != WeightType::f32) return;
            made.rows = rows, made.inputs = inputs, made.outputs = outputs;
            made.a = args.x, made.weight = args.weight.data, made.result = args.y;
          }};
}

Maker linear_backward(int64_t rows, int64_t inputs, int64_t outputs) {
  return {make("linear", "backward", sizes({rows, inputs, outputs}), WeightType::f32, 4.0 * rows * inputs * outputs), [=](Operands& operands, Case& made) {
            LinearBackward args{};
            args.rows = rows, args.x = operands.values(rows * inputs), args.weight = operands.matrix(outputs, inputs, WeightType::f32, true);
            args.dy = operands.values(rows * outputs), args.dx = operands.values(rows * inputs);
            args.dweight = operands.values(outputs * inputs), args.dbias = operands.values(outputs);
            made.run = operands.call(args);
          }};
}

Maker qkv(int64_t rows, WeightType type) {
  return {make("qkv", "forward", sizes({rows, kWidth}), type, 6.0 * rows * kWidth * kWidth), [=](Operands& operands, Case& made) {
            made.run = operands.call(QkvForward{rows, kWidth, operands.values(rows * kWidth), operands.matrix(3 * kWidth, kWidth, type),
                                                operands.values(kWidth), operands.values(kWidth), operands.values(3 * rows * kWidth)});
          }};
}

Maker proj_residual(int64_t rows, WeightType type) {
  return {make("proj_residual", "forward", sizes({rows, kWidth}), type, 2.0 * rows * kWidth * kWidth), [=](Operands& operands, Case& made) {
            made.run = operands.call(ProjResidualForward{rows, kWidth, operands.values(rows * kWidth), operands.values(rows * kWidth),
                                                         operands.matrix(kWidth, kWidth, type), operands.values(kWidth), operands.values(kWidth), nullptr,
                                                         operands.values(rows * kWidth)});
          }};
}

ExpertForward expert(Operands& operands, int64_t rows, WeightType type, bool backward) {
  return {0, rows, operands.values(kWidth), operands.values(kWidth), operands.matrix(kHidden, kWidth, type, backward), operands.values(kHidden),
          operands.matrix(kWidth, kHidden, type, backward), operands.values(kWidth)};
}

Maker expert_ffn(int64_t rows, WeightType type) {
  return {make("expert_ffn", "forward", sizes({rows, kWidth, kHidden}), type, 4.0 * rows * kWidth * kHidden), [=](Operands& operands, Case& made) {
            ExpertFfnForward args{};
            args.rows = rows, args.width = kWidth, args.hidden = kHidden, args.eps = 1e-6f, args.experts = 1;
            args.x = operands.values(rows * kWidth), args.expert[0] = expert(operands, rows, type, false);
            args.gamma = operands.values(kWidth), args.out = operands.values(rows * kWidth);
            made.run = operands.call(args);
          }};
}

Maker expert_ffn_backward(int64_t rows) {
  return {make("expert_ffn", "backward", sizes({rows, kWidth, kHidden}), WeightType::f32, 8.0 * rows * kWidth * kHidden), [=](Operands& operands, Case& made) {
            ExpertFfnBackward args{};
            args.rows = rows, args.width = kWidth, args.hidden = kHidden, args.eps = 1e-6f, args.experts = 1;
            args.x = operands.values(rows * kWidth), args.expert[0] = expert(operands, rows, WeightType::f32, true);
            args.gamma = operands.values(kWidth), args.pre_activation = operands.values(rows * kHidden);
            args.dout = operands.values(rows * kWidth), args.dx = operands.values(rows * kWidth), args.dgamma = operands.values(kWidth);
            args.gradient[0] = {operands.values(kWidth), operands.values(kWidth), operands.values(kHidden * kWidth), operands.values(kHidden),
                                operands.values(kWidth * kHidden), operands.values(kWidth)};
            made.run = operands.call(args);
          }};
}

// `pairs` fused sequences of text and image, or image-only ones.
Maker attention(int64_t count, bool fused, bool backward) {
  const int64_t tokens = kTokens + (fused ? kTextTokens : 0), rows = count * tokens;
  const double products = backward ? 5 : 2;
  return {make("attention", backward ? "backward" : "forward", sizes({count, tokens, kWidth}), WeightType::f32, products * 2.0 * count * tokens * tokens * kWidth),
          [=](Operands& operands, Case& made) {
            auto sequences = std::make_shared<std::vector<Sequence>>();
            const int64_t texts = fused ? kTextTokens : 0;
            for (int64_t i = 0; i < count; i++) {
              sequences->push_back({static_cast<int32_t>(i * texts), static_cast<int32_t>(texts), static_cast<int32_t>(count * texts + i * kTokens), kTokens});
            }
            const RelativePosition position{static_cast<int32_t>(kGrid), static_cast<int32_t>(kTextInit)};
            const float scale = 0.125f;
            const float* table = operands.values(position.rows() * kHeads, 0.1f);
            AttentionForward forward{rows, kWidth, kHeads, count, sequences->data(), operands.values(3 * rows * kWidth), table, kHeads, 0, position, scale,
                                     operands.values(rows * kWidth), operands.values(rows * kHeads), 0, true};
            const std::function<Status()> run = operands.call(forward);
            if (!backward) {
              made.run = [run, sequences] { return run(); };
              return;
            }
            if (!run().ok()) std::abort();
            const std::function<Status()> back = operands.call(AttentionBackward{
                rows, kWidth, kHeads, count, sequences->data(), forward.qkv, table, kHeads, 0, position, scale, forward.out, forward.lse,
                operands.values(rows * kWidth), operands.values(3 * rows * kWidth), operands.values(position.rows() * kHeads)});
            made.run = [back, sequences] { return back(); };
          }};
}

Maker layer_norm(int64_t rows) {
  return {make("layer_norm", "forward", sizes({rows, kWidth}), WeightType::f32, 8.0 * rows * kWidth), [=](Operands& operands, Case& made) {
            made.bytes = 2.0 * rows * kWidth * sizeof(float);  // a row stays in cache between its two passes
            made.run = operands.call(LayerNormForward{rows, kWidth, operands.values(rows * kWidth), operands.values(kWidth), operands.values(kWidth), 1e-6f,
                                                      operands.values(rows * kWidth)});
          }};
}

Maker adamw(int64_t count) {
  return {make("adamw", "forward", sizes({count}), WeightType::f32, 15.0 * count), [=](Operands& operands, Case& made) {
            made.bytes = 7.0 * count * sizeof(float);  // four tensors are read, three written
            auto tensor = std::make_shared<AdamwTensor>(
                AdamwTensor{operands.values(count), operands.values(count), operands.values(count), operands.values(count), count, 0.01f, 1});
            std::memset(tensor->v, 0, static_cast<size_t>(count) * sizeof(float));
            const std::function<Status()> run = operands.call(AdamwForward{1, tensor.get(), 10, 1e-6f, 0.9f, 0.98f, 1e-8f, 1});
            made.run = [run, tensor] { return run(); };
          }};
}

std::vector<Maker> makers() {
  std::vector<Maker> all;
  for (const int64_t rows : {1, 12, 40, 197, 1576}) {
    for (const auto& [inputs, outputs] : {std::pair<int64_t, int64_t>{768, 768}, {768, 2304}, {768, 3072}, {3072, 768}}) {
      all.push_back(linear(rows, inputs, outputs, WeightType::f32));
      if (rows <= 40) all.push_back(linear(rows, inputs, outputs, WeightType::bf16));
    }
  }
  for (const int64_t rows : {12, 197, 1576}) {
    for (const WeightType type : kTypes) {
      all.push_back(qkv(rows, type));
      all.push_back(proj_residual(rows, type));
      all.push_back(expert_ffn(rows, type));
    }
  }
  all.push_back(linear_backward(1576, 768, 2304));
  all.push_back(expert_ffn_backward(1576));
  for (const bool backward : {false, true}) {
    all.push_back(attention(1, false, backward));
    all.push_back(attention(8, false, backward));
    all.push_back(attention(8, true, backward));
  }
  all.push_back(layer_norm(64 * kTokens));  // more than any cache holds
  all.push_back(adamw(10 << 20));
  return all;
}

}  // namespace

bool each_case(Target target, ThreadPool& pool, const std::function<bool(const std::string&)>& wanted, const Use& use) {
  for (const Maker& maker : makers()) {
    const Case& named = maker.named;
    if (!wanted(named.op + "." + named.direction + "/" + named.shape + "/" + std::string(weight_type_name(named.type)))) continue;
    Operands operands(target, pool);
    Case made = named;
    maker.fill(operands, made);
    if (!use(made)) return false;
  }
  return true;
}

}  // namespace mome::bench
