// expert_ffn: out = x + row_scale * gamma * fc2_e(gelu(fc1_e(layer_norm_e(x)))) for the row range of each expert e.
//
// 4 rows width hidden FLOPs forward, twice that backward. A block of rows (Blocking::row_block, backward kSumRowBlock)
// goes through the whole branch before the next: the layer norm happens while the rows are packed for fc1, GELU on
// fc1's finished tiles, and the scale and the residual on fc2's, so only the block's hidden activations are written in
// between, in the order in which fc2 reads them. Float32 accumulators, one chain per element (gemm.h).
#include "core/ops/expert_ffn.h"
#include "cpu/vector/gemm.h"
#include "cpu/vector/gemm_branch.h"
#include "cpu/vector/kernels.h"
#include "cpu/vector/math.h"

namespace mome::MOME_ISA {
namespace {

// ---- Forward ----------------------------------------------------------------------------------------------------------------

// gelu(acc + bias), packed as an operand of the next product; acc + bias itself goes to `pre_activation` unless that is
// null.
template <typename Panel>
struct GeluEpilogue {
  float* packed;
  float* pre_activation;
  int64_t stride;
  const float* bias;
  void operator()(int64_t row, int64_t rows, int64_t column, int64_t columns, const float* tile) const {
    alignas(64) float finished[kMaxTileRows * kPanel];
    for_each_vector(0, rows, 0, columns, tile, [&](int64_t r, int64_t c, int64_t count, Vec value) {
      value = value + load_part(bias + column + c, count);
      if (pre_activation != nullptr) store_part(pre_activation + (row + r) * stride + column + c, value, count);
      store(finished + r * kPanel + c, gelu(value));
    });
    pack_finished<Panel>(finished, rows, columns,
                         packed + row * steps_of<Panel>(stride) + column / Panel::kStepDepth * rows);
  }
};

struct ExpertFfnForwardWorkspace : Carver {
  float* hidden;         // [block rows, hidden], packed; with 8-bit weights the quantised words
  float* hidden_scales;  // [block rows, quant blocks]
  Moments* moments;      // [block rows]
  size_t shared;
  GemmWorkspace fc1, fc2;
  ExpertFfnForwardWorkspace(const ExpertFfnForward& args, int threads, std::byte* base)
      : Carver{base},
        hidden(take<float>(smaller(args.rows, blocking().row_block) * packed_row_floats(args.hidden))),
        hidden_scales(take<float>(smaller(args.rows, blocking().row_block) * quant_blocks(args.hidden))),
        moments(take<Moments>(smaller(args.rows, blocking().row_block))),
        shared(used),
        fc1(*this, smaller(args.rows, blocking().row_block), args.hidden, args.width, threads),
        fc2(at(shared), smaller(args.rows, blocking().row_block), args.width, args.hidden, threads, false) {}
};

inline size_t expert_ffn_forward_workspace(const ExpertFfnForward& args, int threads) {
  return ExpertFfnForwardWorkspace(args, threads, nullptr).bytes;
}

// The finished tiles of one block of hidden columns: bias and GELU in place, then quantised straight into fc2's
// operand.
inline void gelu_quantise(int64_t row, int64_t rows, int64_t first_column, int64_t columns, float* tiles,
                          const float* bias, const QuantisedRows& hidden) {
  Word* words = hidden.tile_words(row) + first_column / kDotDepth * rows;
  float* scales = hidden.tile_scales(row) + first_column / kQuantBlock * rows;
  for (int64_t r = 0; r < rows; ++r) {
    Vec most = zero();
    for (int64_t c = 0; c < columns; c += kLanes) {
      float* at = tiles + (c / kPanel * rows + r) * kPanel + c % kPanel;
      const int64_t count = smaller(kLanes, columns - c);
      Vec value = gelu(load(at) + load_part(bias + first_column + c, count));
      if (count < kLanes) value = select(first_lanes_mask(count), value, zero());
      store(at, value);
      most = max_magnitude(most, value);
    }
    const RowScale scale(largest_bits(most));
    scales[r] = scale.scale;
    for (int64_t c = 0; c < columns; c += kLanes) {
      const Vec value = load(tiles + (c / kPanel * rows + r) * kPanel + c % kPanel);
      quantise_part(value * set1(scale.inverse), columns - c, rows, r, c, words);
    }
  }
}

// With 8-bit weights: the layer norm is quantised while rows are packed for fc1, the hidden activations in its
// epilogue, a block of columns under one scale.
inline void expert_ffn_forward_i8(ThreadPool& pool, int64_t rows, const ExpertFfnForward& args,
                                  const ExpertForward& expert, const NormSource& normed,
                                  const ResidualEpilogue& residual, const ExpertFfnForwardWorkspace& workspace) {
  const int64_t width = args.width, hidden = args.hidden;
  const QuantisedRows input{reinterpret_cast<Word*>(workspace.fc1.packed_a), workspace.fc1.row_scales, width,
                            larger(1, width)};
  const QuantisedRows activations{reinterpret_cast<Word*>(workspace.hidden), workspace.hidden_scales, hidden,
                                  kQuantBlock};
  quantise_rows(pool, normed, 0, rows, input, workspace.fc1);
  // Whole blocks of columns under one scale.
  const PanelGroups blocks(panels_of(hidden), kBlockPanels, kBlockPanels, 1, blocking().items_per_thread,
                           pool.threads());
  multiply_i8_groups(pool, rows, blocks, input, static_cast<const std::byte*>(expert.fc1.packed), workspace.fc1.scratch,
                     workspace.fc1.scratch_stride,
                     [&](int64_t row, int64_t tile_rows, int64_t first_panel, int64_t last_panel, float* tiles, int) {
                       const int64_t column = first_panel * kPanel;
                       gelu_quantise(row, tile_rows, column, smaller(hidden, last_panel * kPanel) - column, tiles,
                                     expert.fc1_bias, activations);
                     });
  multiply_i8(pool, 0, rows, width, activations, static_cast<const std::byte*>(expert.fc2.packed),
              workspace.fc2.scratch, workspace.fc2.scratch_stride, residual);
}

inline Status expert_ffn_forward(const ExpertFfnForward& args, OpContext& context) {
  const ExpertFfnForwardWorkspace workspace(args, context.pool.threads(), context.workspace);
  const int64_t width = args.width, hidden = args.hidden;
  for (int e = 0; e < args.experts; ++e) {
    const ExpertForward& expert = args.expert[e];
    const int64_t step = even_step(expert.end - expert.begin, most_rows(width));
    for (int64_t begin = expert.begin; begin < expert.end; begin += step) {
      const int64_t rows = smaller(step, expert.end - begin);
      const float* x = args.x + begin * width;
      float* pre_activation = args.pre_activation == nullptr ? nullptr : args.pre_activation + begin * hidden;
      const NormSource normed{x, width, expert.norm_gamma, expert.norm_beta, args.eps, workspace.moments, false};
      const ResidualEpilogue residual{x,          args.out + begin * width,
                                      width,      expert.fc2_bias,
                                      args.gamma, args.row_scale == nullptr ? nullptr : args.row_scale + begin};
      if (expert.fc1.type == WeightType::i8) {
        expert_ffn_forward_i8(context.pool, rows, args, expert, normed, residual, workspace);
        continue;
      }
      if (expert.fc2.type == WeightType::bf16) {
        gemm(context.pool, 0, rows, hidden, width, normed, expert.fc1, workspace.fc1,
             GeluEpilogue<Bf16WeightPanel>{workspace.hidden, pre_activation, hidden, expert.fc1_bias});
      } else {
        gemm(context.pool, 0, rows, hidden, width, normed, expert.fc1, workspace.fc1,
             GeluEpilogue<F32Panel>{workspace.hidden, pre_activation, hidden, expert.fc1_bias});
      }
      multiply_packed(context.pool, 0, rows, width, hidden, workspace.hidden, expert.fc2, workspace.fc2.scratch,
                      residual);
    }
  }
  return {};
}

// ---- Backward ---------------------------------------------------------------------------------------------------------------
//
// With u the saved pre-activation, h = gelu(u), n = layer_norm(x) and g = row_scale * gamma:
//   fc2 and gamma   as derived in gemm_branch.h, with h recomputed while it is packed
//   du = ((g * dout) fc2) * gelu'(u)           on the finished tiles
//   dfc1 += du^T n, dfc1_bias += colsum(du)    n recomputed while it is packed
//   dn = du fc1
// and through the layer norm, with z = (x - mean) / deviation and t = norm_gamma * dn:
//   dnorm_gamma += colsum(dn * z), dnorm_beta += colsum(dn), dx = dout + (t - mean(t) - z mean(t * z)) / deviation.
// Rows go in fixed blocks, one after the other, so sums over rows do not depend on the number of threads.

struct GeluSource {
  const float* u;
  int64_t stride;
  void prepare(int64_t) const {}
  Vec load(int64_t row, int64_t column, int64_t count) const {
    return gelu(load_part(u + row * stride + column, count));
  }
};

// du = acc * gelu'(u).
struct GeluGradientEpilogue {
  const float* u;
  float* du;
  int64_t stride;
  void operator()(int64_t row, int64_t rows, int64_t column, int64_t columns, const float* tile) const {
    for_each_vector(row, rows, column, columns, tile, [&](int64_t r, int64_t c, int64_t count, Vec value) {
      store_part(du + r * stride + c, value * gelu_gradient(load_part(u + r * stride + c, count)), count);
    });
  }
};

struct ExpertFfnBackwardWorkspace : Carver {
  float* du;         // [block rows, hidden]
  float* dn;         // [block rows, width]
  Moments* moments;  // [block rows]
  size_t shared;
  GemmWorkspace fc2_input, fc1_input;
  BranchWorkspace fc2_weight;
  OverRowsWorkspace fc1_weight;
  ExpertFfnBackwardWorkspace(const ExpertFfnBackward& args, int threads, std::byte* base)
      : ExpertFfnBackwardWorkspace(args, smaller(args.rows, kSumRowBlock), threads, base) {}

 private:
  ExpertFfnBackwardWorkspace(const ExpertFfnBackward& args, int64_t rows, int threads, std::byte* base)
      : Carver{base},
        du(take<float>(rows * args.hidden)),
        dn(take<float>(rows * args.width)),
        moments(take<Moments>(rows)),
        shared(used),
        fc2_input(*this, rows, args.hidden, args.width, threads),
        fc1_input(at(shared), rows, args.width, args.hidden, threads),
        fc2_weight(at(shared), rows, args.width, args.hidden, threads),
        fc1_weight(at(shared), rows, args.hidden, args.width, threads) {}
};

inline size_t expert_ffn_backward_workspace(const ExpertFfnBackward& args, int threads) {
  return ExpertFfnBackwardWorkspace(args, threads, nullptr).bytes;
}

// dx of the layer norm plus the residual's gradient; dx may be dout.
inline void norm_input_gradient(const float* x, Moments moments, const float* gamma, const float* dn, const float* dout,
                                float* dx, int64_t width) {
  const Vec mean = set1(moments.mean), scale = set1(moments.inverse_deviation);
  Vec sum = zero(), product = zero();
  for (int64_t j = 0; j < width; j += kLanes) {
    const int64_t count = smaller(kLanes, width - j);
    const Vec t = load_part(gamma + j, count) * load_part(dn + j, count);
    sum = sum + t;
    product = fma(t, (load_part(x + j, count) - mean) * scale, product);
  }
  const Vec mean_t = set1(reduce_add(sum) / static_cast<float>(width));
  const Vec mean_tz = set1(reduce_add(product) / static_cast<float>(width));
  for (int64_t j = 0; j < width; j += kLanes) {
    const int64_t count = smaller(kLanes, width - j);
    const Vec t = load_part(gamma + j, count) * load_part(dn + j, count);
    const Vec z = (load_part(x + j, count) - mean) * scale;
    store_part(dx + j, fma(fnma(z, mean_tz, t - mean_t), scale, load_part(dout + j, count)), count);
  }
}

// dgamma += colsum(dn * z), dbeta += colsum(dn) for the `count` <= kLanes columns from `column` on.
inline void norm_parameter_gradient(const float* x, const Moments* moments, const float* dn, int64_t rows,
                                    int64_t width, int64_t column, int64_t count, float* dgamma, float* dbeta) {
  Vec gamma_sum = zero(), beta_sum = zero();
  for (int64_t r = 0; r < rows; ++r) {
    const Vec d = load_part(dn + r * width + column, count);
    const Vec z =
        (load_part(x + r * width + column, count) - set1(moments[r].mean)) * set1(moments[r].inverse_deviation);
    gamma_sum = fma(d, z, gamma_sum);
    beta_sum = beta_sum + d;
  }
  if (dgamma != nullptr) store_part(dgamma + column, load_part(dgamma + column, count) + gamma_sum, count);
  if (dbeta != nullptr) store_part(dbeta + column, load_part(dbeta + column, count) + beta_sum, count);
}

inline void expert_ffn_backward_block(const ExpertFfnBackward& args, int e, int64_t begin, int64_t rows,
                                      ThreadPool& pool, const ExpertFfnBackwardWorkspace& workspace) {
  const ExpertForward& expert = args.expert[e];
  const ExpertGradient& gradient = args.gradient[e];
  const int64_t width = args.width, hidden = args.hidden;
  const float* x = args.x + begin * width;
  const float* u = args.pre_activation + begin * hidden;
  const float* dout = args.dout + begin * width;
  const float* row_scale = args.row_scale == nullptr ? nullptr : args.row_scale + begin;
  float* dx = args.dx + begin * width;
  const int64_t row_items = ceil_div(rows, kMaxTileRows);

  // fc2.
  branch_weight_gradient(
      pool, 0, rows, dout, row_scale, GeluSource{u, hidden},
      BranchGradient{expert.fc2, expert.fc2_bias, args.gamma, gradient.fc2, gradient.fc2_bias, args.dgamma},
      workspace.fc2_weight);
  gemm(pool, 0, rows, hidden, width, ScaledSource{dout, width, row_scale, args.gamma}, transposed(expert.fc2),
       workspace.fc2_input, GeluGradientEpilogue{u, workspace.du, hidden});

  // fc1.
  pool.parallel_for(row_items, [&](int64_t item, int) {
    for (int64_t r = item * kMaxTileRows; r < smaller(rows, (item + 1) * kMaxTileRows); ++r) {
      workspace.moments[r] = row_moments(x + r * width, width, args.eps);
    }
  });
  if (gradient.fc1 != nullptr || gradient.fc1_bias != nullptr) {
    gemm_over_rows(pool, expert.fc1.type, 0, rows, hidden, gradient.fc1 == nullptr ? 0 : width,
                   PlainSource{workspace.du, hidden},
                   NormSource{x, width, expert.norm_gamma, expert.norm_beta, args.eps, workspace.moments, true},
                   gradient.fc1_bias, workspace.fc1_weight, AddEpilogue{gradient.fc1, width});
  }
  gemm(pool, 0, rows, width, hidden, PlainSource{workspace.du, hidden}, transposed(expert.fc1), workspace.fc1_input,
       StoreEpilogue{workspace.dn, width, nullptr});

  // The layer norm and the residual.
  if (gradient.norm_gamma != nullptr || gradient.norm_beta != nullptr) {
    pool.parallel_for(ceil_div(width, kLanes), [&](int64_t item, int) {
      const int64_t column = item * kLanes;
      norm_parameter_gradient(x, workspace.moments, workspace.dn, rows, width, column, smaller(kLanes, width - column),
                              gradient.norm_gamma, gradient.norm_beta);
    });
  }
  pool.parallel_for(row_items, [&](int64_t item, int) {
    for (int64_t r = item * kMaxTileRows; r < smaller(rows, (item + 1) * kMaxTileRows); ++r) {
      const int64_t at = r * width;
      norm_input_gradient(x + at, workspace.moments[r], expert.norm_gamma, workspace.dn + at, dout + at, dx + at,
                          width);
    }
  });
}

inline Status expert_ffn_backward(const ExpertFfnBackward& args, OpContext& context) {
  const ExpertFfnBackwardWorkspace workspace(args, context.pool.threads(), context.workspace);
  for (int e = 0; e < args.experts; ++e) {
    const int64_t end = args.expert[e].end;
    const int64_t step = even_step(end - args.expert[e].begin, kSumRowBlock);
    for (int64_t begin = args.expert[e].begin; begin < end; begin += step) {
      expert_ffn_backward_block(args, e, begin, smaller(step, end - begin), context.pool, workspace);
    }
  }
  return {};
}

constexpr Kernel kKernels[] = {
    kernel<ExpertFfnForward, expert_ffn_forward, expert_ffn_forward_workspace>(),
    kernel<ExpertFfnBackward, expert_ffn_backward, expert_ffn_backward_workspace>(),
};

}  // namespace

constinit const KernelList expert_ffn_kernels = {kKernels, sizeof kKernels / sizeof *kKernels};

}  // namespace mome::MOME_ISA
