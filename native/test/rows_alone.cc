// The mode `rows` of mome_kernels: each row alone equals the row in a batch, bit for bit, since results must not depend
// on what else is in a batch. (In attention, each sequence.) Some cases are deeper than a product runs through uncut,
// as the second product of an expert is.
#include <cmath>
#include <cstdio>

#include "core/ops/attention.h"
#include "core/ops/expert_ffn.h"
#include "core/ops/linear.h"
#include "core/ops/proj_residual.h"
#include "core/ops/qkv.h"
#include "test/comparison.h"
#include "test/modes.h"

namespace mome::test {
namespace {

constexpr int64_t kBatch = 33;  // several tiles of every processor

struct Weight {
  int64_t rows, columns;
};

// An op whose rows do not see each other. `forward` computes `count` rows from `first` on: y [count, outputs].
struct RowsCase {
  std::string name;
  int64_t outputs;
  std::vector<Weight> weights;
  std::function<Status(Runner&, const std::vector<Matrix>& weights, int64_t first, int64_t count, float* y)> forward;
};

// Numbers of a period that no size divides: millions of weights, quickly.
Tensor repeated(int64_t count, float deviation = 1) {
  constexpr int64_t kPeriod = 99991;
  static const Tensor period = Random(61).normal(kPeriod);
  Tensor values(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; i++)
    values[static_cast<size_t>(i)] = deviation * period[static_cast<size_t>(i % kPeriod)];
  return values;
}

RowsCase linear(int64_t depth) {
  const int64_t outputs = 100;
  const Tensor x = repeated(kBatch * depth), bias = repeated(outputs);
  return {"linear",
          outputs,
          {{outputs, depth}},
          [=](Runner& run, const std::vector<Matrix>& weights, int64_t first, int64_t count, float* y) {
            return run.run(LinearForward{count, x.data() + first * depth, weights[0], bias.data(), y});
          }};
}

RowsCase qkv(int64_t width) {
  const Tensor x = repeated(kBatch * width), bias = repeated(width);
  return {"qkv",
          3 * width,
          {{3 * width, width}},
          [=](Runner& run, const std::vector<Matrix>& weights, int64_t first, int64_t count, float* y) {
            return run.run(QkvForward{count, width, x.data() + first * width, weights[0], bias.data(), bias.data(), y});
          }};
}

RowsCase proj_residual(int64_t width) {
  const Tensor x = repeated(kBatch * width), bias = repeated(width);
  return {
      "proj_residual",
      width,
      {{width, width}},
      [=](Runner& run, const std::vector<Matrix>& weights, int64_t first, int64_t count, float* y) {
        const float* rows = x.data() + first * width;
        return run.run(ProjResidualForward{count, width, rows, rows, weights[0], bias.data(), bias.data(), nullptr, y});
      }};
}

RowsCase expert_ffn(int64_t width, int64_t hidden) {
  const Tensor x = repeated(kBatch * width), bias = repeated(hidden + width);
  return {"expert_ffn",
          width,
          {{hidden, width}, {width, hidden}},
          [=](Runner& run, const std::vector<Matrix>& weights, int64_t first, int64_t count, float* y) {
            ExpertFfnForward args{};
            args.rows = count, args.width = width, args.hidden = hidden, args.eps = 1e-6f,
            args.x = x.data() + first * width, args.experts = 1;
            args.expert[0] = {0, count, bias.data(), bias.data(), weights[0], bias.data(), weights[1], bias.data()};
            args.out = y;
            return run.run(args);
          }};
}

// A row of this case is a sequence of `tokens` tokens.
RowsCase attention(int64_t tokens, int64_t head_width) {
  constexpr int64_t kHeads = 2;
  const int64_t width = kHeads * head_width;
  const RelativePosition position{2, static_cast<int32_t>(tokens)};
  const Tensor qkv = repeated(kBatch * tokens * 3 * width), table = repeated(position.rows() * kHeads);
  return {"attention",
          tokens * width,
          {},
          [=](Runner& run, const std::vector<Matrix>&, int64_t first, int64_t count, float* y) {
            std::vector<Sequence> sequences;
            for (int64_t i = 0; i < count; i++)
              sequences.push_back({static_cast<int32_t>(i * tokens), static_cast<int32_t>(tokens), 0, 0});
            AttentionForward args{};
            args.rows = count * tokens, args.width = width, args.heads = kHeads;
            args.sequences = sequences.data(), args.sequence_count = count;
            args.qkv = qkv.data() + first * tokens * 3 * width;
            args.table = table.data(), args.table_columns = kHeads, args.position = position;
            args.scale = 1 / std::sqrt(static_cast<float>(head_width));
            args.out = y, args.type = run.product_type();
            summarise_sequences(sequences.data(), args);
            return run.run(args);
          }};
}

// Index of the first number that differs in its bits, or -1.
int64_t first_difference(const float* a, const float* b, int64_t count) {
  for (int64_t i = 0; i < count; i++) {
    if (std::memcmp(a + i, b + i, sizeof(float)) != 0) return i;
  }
  return -1;
}

// What is wrong with `test` where `runner` runs it, or nothing.
std::string compare_rows(const RowsCase& test, Runner& runner, int64_t step) {
  std::vector<Matrix> weights;
  for (const Weight& weight : test.weights)
    weights.push_back(runner.matrix(repeated(weight.rows * weight.columns, 0.1f), weight.rows, weight.columns));
  Tensor batch(static_cast<size_t>(kBatch * test.outputs)), row(static_cast<size_t>(test.outputs));
  Status status = test.forward(runner, weights, 0, kBatch, batch.data());
  for (int64_t r = 0; status.ok() && r < kBatch; r += step) {
    status = test.forward(runner, weights, r, 1, row.data());
    const float* in_batch = batch.data() + r * test.outputs;
    if (const int64_t at = first_difference(row.data(), in_batch, test.outputs); status.ok() && at >= 0) {
      char line[160];
      std::snprintf(line, sizeof line, "row %lld, element %lld: %.9g alone, %.9g in the batch",
                    static_cast<long long>(r), static_cast<long long>(at), row[static_cast<size_t>(at)], in_batch[at]);
      return line;
    }
  }
  if (!status.ok()) return status.message();
  // The last bit of one number must show.
  const Tensor planted = batch;
  batch.back() = std::nextafter(batch.back(), INFINITY);
  return first_difference(planted.data(), batch.data(), kBatch * test.outputs) == kBatch * test.outputs - 1
             ? ""
             : "a planted error was not noticed";
}

}  // namespace

void rows(const Only& only) {
  int compared = 0;
  const std::function<RowsCase()> cases[] = {[] { return linear(769); },
                                             [] { return linear(3072); },
                                             [] { return qkv(769); },
                                             [] { return qkv(3072); },
                                             [] { return proj_residual(769); },
                                             [] { return proj_residual(3072); },
                                             [] { return expert_ffn(769, 3072); },
                                             [] { return expert_ffn(3072, 769); },
                                             [] { return attention(101, 20); },
                                             [] { return attention(197, 64); }};
  for (size_t i = 0; i < std::size(cases); i++) {
    const RowsCase test = cases[i]();
    const bool deep = i % 2 == 1;
    for (const Target target : kCpuTargets) {
      if (target == Target::ref || only.leaves_out(target) || !target_supported(target)) continue;
      for (const WeightType type : {WeightType::f32, WeightType::bf16, WeightType::i8}) {
        if (only.leaves_out(type)) continue;
        ThreadPool pool(2);
        Runner runner(target, pool, type);
        const std::string wrong = compare_rows(test, runner, deep ? 7 : 3);
        if (!wrong.empty()) {
          fail(test.name + (deep ? ", deep, " : ", ") + std::string(weight_type_name(type)) + " on " +
               std::string(target_name(target)) + ": " + wrong);
        }
        compared++;
      }
    }
  }
  std::printf("%d comparisons of rows alone and in a batch\n", compared);
  if (const Target wanted = only.target.value_or(best_target());
      compared == 0 && wanted != Target::ref && target_supported(wanted))
    fail("nothing was compared");
}

}  // namespace mome::test
