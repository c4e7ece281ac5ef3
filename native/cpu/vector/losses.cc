// The losses. Cross-entropies are bound by memory and exp; contrastive is one product of rows^2 width forward and two
// backward. Row losses are summed in double in ascending order.
#include "core/ops/losses.h"
#include "cpu/vector/kernels.h"
#include "cpu/vector/math.h"
#include "cpu/vector/pack_weight.h"

namespace mome::MOME_ISA {
namespace {

inline constexpr int32_t kIgnored = -100;  // the label of rows that do not count
inline constexpr int64_t kLossRowsPerItem = 16;

// max and sum of e^(x - max) of a row.
struct LogSumExp {
  float max, sum;
  double value() const { return static_cast<double>(max) + __builtin_log(static_cast<double>(sum)); }
};

inline LogSumExp log_sum_exp(const float* x, int64_t count) {
  Vec top = set1(-__builtin_inff());
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) top = max(top, load(x + i));
  float highest = reduce_max(top);
  for (; i < count; i++) highest = x[i] > highest ? x[i] : highest;
  Vec sum = zero();
  for (i = 0; i < count; i += kLanes) {
    const int64_t n = smaller(kLanes, count - i);
    float part[kLanes];
    const Vec e = exp(load_part(x + i, n) - set1(highest));
    if (n == kLanes) {
      sum = sum + e;
    } else {
      store(part, e);
      for (int64_t lane = n; lane < kLanes; lane++) part[lane] = 0;
      sum = sum + load(part);
    }
  }
  return {highest, reduce_add(sum)};
}

// Calls body(row) for rows [0, rows) on the pool.
template <typename Body>
inline void for_each_row(ThreadPool& pool, int64_t rows, const Body& body) {
  pool.parallel_for(ceil_div(rows, kLossRowsPerItem), [&](int64_t item, int) {
    for (int64_t row = item * kLossRowsPerItem; row < smaller(rows, (item + 1) * kLossRowsPerItem); row++) body(row);
  });
}

inline double sum_in_order(const double* values, int64_t count) {
  double sum = 0;
  for (int64_t i = 0; i < count; i++) sum += values[i];
  return sum;
}

// ---- cross_entropy ----------------------------------------------------------------------------------------------------------

inline int64_t counted_rows(const int32_t* labels, int64_t rows) {
  int64_t counted = 0;
  for (int64_t row = 0; row < rows; row++) counted += labels[row] != kIgnored;
  return counted;
}

inline size_t cross_entropy_workspace(const CrossEntropyForward& a, int) {
  return static_cast<size_t>(a.rows) * sizeof(double);
}

inline Status cross_entropy_forward(const CrossEntropyForward& a, OpContext& context) {
  double* losses = reinterpret_cast<double*>(context.workspace);
  for_each_row(context.pool, a.rows, [&](int64_t row) {
    const float* x = a.logits + row * a.classes;
    losses[row] = a.labels[row] == kIgnored ? 0 : log_sum_exp(x, a.classes).value() - x[a.labels[row]];
  });
  const int64_t counted = counted_rows(a.labels, a.rows);
  *a.loss = counted == 0 ? 0.0f : static_cast<float>(sum_in_order(losses, a.rows) / static_cast<double>(counted));
  return {};
}

inline Status cross_entropy_backward(const CrossEntropyBackward& a, OpContext& context) {
  const int64_t counted = counted_rows(a.labels, a.rows);
  const float share = counted == 0 ? 0.0f : a.weight / static_cast<float>(counted);
  for_each_row(context.pool, a.rows, [&](int64_t row) {
    const float* x = a.logits + row * a.classes;
    float* dx = a.dlogits + row * a.classes;
    if (a.labels[row] == kIgnored) {
      for (int64_t i = 0; i < a.classes; i++) dx[i] = 0;
      return;
    }
    const LogSumExp lse = log_sum_exp(x, a.classes);
    const Vec scale = set1(share / lse.sum);
    for (int64_t i = 0; i < a.classes; i += kLanes) {
      const int64_t n = smaller(kLanes, a.classes - i);
      store_part(dx + i, exp(load_part(x + i, n) - set1(lse.max)) * scale, n);
    }
    dx[a.labels[row]] -= share;
  });
  return {};
}

// ---- soft_bce ---------------------------------------------------------------------------------------------------------------
// Of one element: max(x, 0) - x t + log(1 + e^-|x|); its derivative is sigmoid(x) - t.

inline size_t soft_bce_workspace(const SoftBceForward& a, int) { return static_cast<size_t>(a.rows) * sizeof(double); }

inline Status soft_bce_forward(const SoftBceForward& a, OpContext& context) {
  double* losses = reinterpret_cast<double*>(context.workspace);
  for_each_row(context.pool, a.rows, [&](int64_t row) {
    double sum = 0;
    for (int64_t i = row * a.classes; i < (row + 1) * a.classes; i++) {
      const float x = a.logits[i];
      sum += static_cast<double>(x > 0 ? x : 0) - static_cast<double>(x) * a.targets[i] +
             __builtin_log1pf(__builtin_expf(-__builtin_fabsf(x)));
    }
    losses[row] = sum;
  });
  // mean over rows and answers, times answers
  *a.loss = a.rows == 0 ? 0.0f : static_cast<float>(sum_in_order(losses, a.rows) / static_cast<double>(a.rows));
  return {};
}

inline Status soft_bce_backward(const SoftBceBackward& a, OpContext& context) {
  const Vec share = set1(a.rows == 0 ? 0.0f : a.weight / static_cast<float>(a.rows));
  for_each_row(context.pool, a.rows, [&](int64_t row) {
    const int64_t begin = row * a.classes;
    for (int64_t i = 0; i < a.classes; i += kLanes) {
      const int64_t n = smaller(kLanes, a.classes - i);
      const Vec sigmoid = set1(1.0f) / (set1(1.0f) + exp(zero() - load_part(a.logits + begin + i, n)));
      store_part(a.dlogits + begin + i, (sigmoid - load_part(a.targets + begin + i, n)) * share, n);
    }
  });
  return {};
}

// ---- contrastive ------------------------------------------------------------------------------------------------------------

// s = scale * acc.
struct ScaledEpilogue {
  float* y;
  int64_t stride;
  float scale;
  void operator()(int64_t row, int64_t rows, int64_t column, int64_t columns, const float* tile) const {
    for_each_vector(row, rows, column, columns, tile, [&](int64_t r, int64_t c, int64_t count, Vec value) {
      store_part(y + r * stride + c, value * set1(scale), count);
    });
  }
};

// How many columns share the group of row i, itself included.
inline int64_t group_size(const int32_t* group, int64_t rows, int64_t i) {
  if (group == nullptr) return 1;
  int64_t size = 0;
  for (int64_t j = 0; j < rows; j++) size += group[j] == group[i];
  return size;
}

inline bool same_group(const int32_t* group, int64_t i, int64_t j) {
  return group == nullptr ? i == j : group[i] == group[j];
}

// max and sum over a column of s, kLanes columns at a time.
inline void column_log_sum_exp(const float* s, int64_t rows, int64_t column, LogSumExp* out) {
  const int64_t n = smaller(kLanes, rows - column);
  Vec top = set1(-__builtin_inff());
  for (int64_t i = 0; i < rows; i++) top = max(top, load_part(s + i * rows + column, n));
  Vec sum = zero();
  for (int64_t i = 0; i < rows; i++) sum = sum + exp(load_part(s + i * rows + column, n) - top);
  float tops[kLanes], sums[kLanes];
  store(tops, top);
  store(sums, sum);
  for (int64_t lane = 0; lane < n; lane++) out[column + lane] = {tops[lane], sums[lane]};
}

struct ContrastiveForwardWorkspace : Carver {
  GemmWorkspace product;
  float* packed;
  double* row_loss;
  double* column_loss;
  LogSumExp* columns;
  ContrastiveForwardWorkspace(const ContrastiveForward& a, int threads, std::byte* base)
      : Carver{base},
        product(*this, a.rows, a.rows, a.width, threads),
        packed(take<float>(packed_columns_size(a.width, a.rows))),
        row_loss(take<double>(a.rows)),
        column_loss(take<double>(a.rows)),
        columns(take<LogSumExp>(a.rows)) {}
};

inline size_t contrastive_forward_workspace(const ContrastiveForward& a, int threads) {
  return ContrastiveForwardWorkspace(a, threads, nullptr).bytes;
}

inline Status contrastive_forward(const ContrastiveForward& a, OpContext& context) {
  const ContrastiveForwardWorkspace workspace(a, context.pool.threads(), context.workspace);
  pack_weight(a.text, nullptr, a.rows, a.width, Form::packed, WeightType::f32, workspace.packed, context.pool);
  gemm(context.pool, 0, a.rows, a.rows, a.width, PlainSource{a.image, a.width}, workspace.packed, workspace.product,
       ScaledEpilogue{a.similarity, a.rows, __builtin_expf(*a.log_scale)});
  context.pool.parallel_for(ceil_div(a.rows, kLanes), [&](int64_t item, int) {
    column_log_sum_exp(a.similarity, a.rows, item * kLanes, workspace.columns);
  });
  for_each_row(context.pool, a.rows, [&](int64_t i) {
    double in_row = 0, in_column = 0;
    int64_t size = 0;
    for (int64_t j = 0; j < a.rows; j++) {
      if (!same_group(a.group, i, j)) continue;
      in_row += a.similarity[i * a.rows + j];
      in_column += a.similarity[j * a.rows + i];
      size++;
    }
    workspace.row_loss[i] = log_sum_exp(a.similarity + i * a.rows, a.rows).value() - in_row / static_cast<double>(size);
    workspace.column_loss[i] = workspace.columns[i].value() - in_column / static_cast<double>(size);
  });
  const double sum = sum_in_order(workspace.row_loss, a.rows) + sum_in_order(workspace.column_loss, a.rows);
  *a.loss = a.rows == 0 ? 0.0f : static_cast<float>(sum / (2.0 * static_cast<double>(a.rows)));
  return {};
}

struct ContrastiveBackwardWorkspace : Carver {
  float* ds;  // [rows, rows] gradient of s
  LogSumExp* columns;
  double* row_sum;  // of ds * s
  float* packed;
  GemmWorkspace image;
  OverRowsWorkspace text;
  ContrastiveBackwardWorkspace(const ContrastiveBackward& a, int threads, std::byte* base)
      : Carver{base},
        ds(take<float>(a.rows * a.rows)),
        columns(take<LogSumExp>(a.rows)),
        row_sum(take<double>(a.rows)),
        packed(take<float>(packed_columns_size(a.rows, a.width))),
        image(*this, a.rows, a.width, a.rows, threads),
        text(*this, a.rows, a.rows, a.width, threads) {}
};

inline size_t contrastive_backward_workspace(const ContrastiveBackward& a, int threads) {
  return ContrastiveBackwardWorkspace(a, threads, nullptr).bytes;
}

// ds_ij = weight / (2 rows) * (softmax over the row + softmax over the column - 2 target).
inline Status contrastive_backward(const ContrastiveBackward& a, OpContext& context) {
  const ContrastiveBackwardWorkspace workspace(a, context.pool.threads(), context.workspace);
  if (a.rows == 0) return {};
  context.pool.parallel_for(ceil_div(a.rows, kLanes), [&](int64_t item, int) {
    column_log_sum_exp(a.similarity, a.rows, item * kLanes, workspace.columns);
  });
  const float share = a.weight / (2.0f * static_cast<float>(a.rows));
  for_each_row(context.pool, a.rows, [&](int64_t i) {
    const float* s = a.similarity + i * a.rows;
    float* ds = workspace.ds + i * a.rows;
    const LogSumExp row = log_sum_exp(s, a.rows);
    const float target = 2.0f / static_cast<float>(group_size(a.group, a.rows, i));
    for (int64_t j = 0; j < a.rows; j += kLanes) {
      const int64_t n = smaller(kLanes, a.rows - j);
      float tops[kLanes] = {}, sums[kLanes] = {};
      for (int64_t lane = 0; lane < n; lane++) {
        tops[lane] = workspace.columns[j + lane].max;
        sums[lane] = workspace.columns[j + lane].sum;
      }
      const Vec value = load_part(s + j, n);
      const Vec p = exp(value - set1(row.max)) / set1(row.sum) + exp(value - load(tops)) / load(sums);
      store_part(ds + j, p * set1(share), n);
    }
    double sum = 0;
    for (int64_t j = 0; j < a.rows; j++) {
      if (same_group(a.group, i, j)) ds[j] -= share * target;
      sum += static_cast<double>(ds[j]) * s[j];
    }
    workspace.row_sum[i] = sum;
  });
  if (a.dlog_scale != nullptr) *a.dlog_scale += static_cast<float>(sum_in_order(workspace.row_sum, a.rows));
  const float scale = __builtin_expf(*a.log_scale);
  for_each_row(context.pool, a.rows, [&](int64_t i) {
    float* ds = workspace.ds + i * a.rows;
    for (int64_t j = 0; j < a.rows; j++) ds[j] *= scale;
  });
  pack_weight(a.text, nullptr, a.rows, a.width, Form::packed_transposed, WeightType::f32, workspace.packed,
              context.pool);
  gemm(context.pool, 0, a.rows, a.width, a.rows, PlainSource{workspace.ds, a.rows}, workspace.packed, workspace.image,
       StoreEpilogue{a.dimage, a.width, nullptr});
  for (int64_t i = 0; i < a.rows * a.width; i++) a.dtext[i] = 0;
  gemm_over_rows(context.pool, WeightType::f32, 0, a.rows, a.rows, a.width, PlainSource{workspace.ds, a.rows},
                 PlainSource{a.image, a.width}, nullptr, workspace.text, AddEpilogue{a.dtext, a.width});
  return {};
}

constexpr Kernel kKernels[] = {
    kernel<CrossEntropyForward, cross_entropy_forward, cross_entropy_workspace>(),
    kernel<CrossEntropyBackward, cross_entropy_backward>(),
    kernel<SoftBceForward, soft_bce_forward, soft_bce_workspace>(),
    kernel<SoftBceBackward, soft_bce_backward>(),
    kernel<ContrastiveForward, contrastive_forward, contrastive_forward_workspace>(),
    kernel<ContrastiveBackward, contrastive_backward, contrastive_backward_workspace>(),
};

}  // namespace

constinit const KernelList losses_kernels = {kKernels, sizeof kKernels / sizeof *kKernels};

}  // namespace mome::MOME_ISA
