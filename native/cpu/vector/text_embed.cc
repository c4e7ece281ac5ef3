// text_embed: a table look-up, a normalisation and an addition per row: bound by memory. Backward gives each thread a
// range of columns or word rows to own, and walks the tokens in ascending order, so sums do not depend on the thread
// count.
#include <cstring>

#include "core/ops/text_embed.h"
#include "core/random.h"
#include "cpu/vector/kernels.h"
#include "cpu/vector/moments.h"
#include "cpu/vector/row_parts.h"

namespace mome::MOME_ISA {
namespace {

// e = word + segment (+ position).
template <typename Args>
inline void embed_token(const Args& a, int64_t row, float* e) {
  const float* word = a.word + int64_t{a.ids[row]} * a.width;
  const float* position = a.position == nullptr ? nullptr : a.position + int64_t{a.index[row]} * a.width;
  for (int64_t i = 0; i < a.width; i += kLanes) {
    const int64_t n = a.width - i < kLanes ? a.width - i : kLanes;
    Vec sum = load(word + i, n) + load(a.segment + i, n);
    if (position) sum = sum + load(position + i, n);
    store(e + i, sum, n);
  }
}

inline float keep_scale(float dropout, uint64_t seed, int64_t row, int64_t column) {
  return uniform(seed, static_cast<uint64_t>(row), static_cast<uint64_t>(column)) >= dropout ? 1.0f / (1.0f - dropout)
                                                                                             : 0.0f;
}

inline Status text_embed_forward(const TextEmbedForward& a, OpContext& context) {
  context.pool.parallel_for((a.rows + kRowsPerItem - 1) / kRowsPerItem, [&](int64_t item, int) {
    for (int64_t row = item * kRowsPerItem; row < a.rows && row < (item + 1) * kRowsPerItem; row++) {
      float* out = a.out + row * a.width;
      embed_token(a, row, out);
      const Moments m = row_moments(out, a.width, a.eps);
      for (int64_t i = 0; i < a.width; i += kLanes) {
        const int64_t n = a.width - i < kLanes ? a.width - i : kLanes;
        const Vec normed = (load(out + i, n) - set1(m.mean)) * set1(m.inverse_deviation);
        store(out + i, fma(normed, load(a.gamma + i, n), load(a.beta + i, n)), n);
      }
      if (a.dropout > 0) {
        for (int64_t i = 0; i < a.width; i++) out[i] *= keep_scale(a.dropout, a.seed, row, i);
      }
      for (int64_t i = 0; i < a.width; i += kLanes) {
        const int64_t n = a.width - i < kLanes ? a.width - i : kLanes;
        store(out + i, load(out + i, n) + load(a.type + i, n), n);
      }
    }
  });
  return {};
}

// First pass: de per row (as in layer_norm's backward) and partial sums of the shared vectors. Second pass: words and
// positions.
inline size_t text_embed_backward_workspace(const TextEmbedBackward& a, int threads) {
  return static_cast<size_t>(a.rows * a.width + row_partials(a.rows) * 4 * a.width + threads * 2 * a.width) *
         sizeof(float);
}

inline Status text_embed_backward(const TextEmbedBackward& a, OpContext& context) {
  const int64_t partials = row_partials(a.rows);
  float* de = reinterpret_cast<float*>(context.workspace);
  float* sums = de + a.rows * a.width;  // per partial: gamma, beta, type, segment
  float* scratch = sums + partials * 4 * a.width;
  const size_t row_bytes = static_cast<size_t>(a.width) * sizeof(float);
  context.pool.parallel_for(partials, [&](int64_t part, int worker) {
    float* dgamma = sums + part * 4 * a.width;
    float* dbeta = dgamma + a.width;
    float* dtype = dbeta + a.width;
    float* dsegment = dtype + a.width;
    std::memset(dgamma, 0, 4 * row_bytes);
    float* e = scratch + worker * 2 * a.width;
    float* dropped = e + a.width;
    for (int64_t row = a.rows * part / partials; row < a.rows * (part + 1) / partials; row++) {
      const float* dout = a.dout + row * a.width;
      float* out = de + row * a.width;
      embed_token(a, row, e);
      const Moments m = row_moments(e, a.width, a.eps);
      for (int64_t i = 0; i < a.width; i++)
        dropped[i] = a.dropout > 0 ? dout[i] * keep_scale(a.dropout, a.seed, row, i) : dout[i];
      Vec sum_g = zero(), sum_gx = zero();
      for (int64_t i = 0; i < a.width; i += kLanes) {
        const int64_t n = a.width - i < kLanes ? a.width - i : kLanes;
        const Vec xh = (load(e + i, n) - set1(m.mean)) * set1(m.inverse_deviation);
        const Vec d = load(dropped + i, n);
        const Vec g = d * load(a.gamma + i, n);
        sum_g = sum_g + g;
        sum_gx = fma(g, xh, sum_gx);
        store(dgamma + i, fma(d, xh, load(dgamma + i, n)), n);
        store(dbeta + i, load(dbeta + i, n) + d, n);
        store(dtype + i, load(dtype + i, n) + load(dout + i, n), n);
      }
      const Vec mean_g = set1(reduce_add(sum_g) / static_cast<float>(a.width));
      const Vec mean_gx = set1(reduce_add(sum_gx) / static_cast<float>(a.width));
      for (int64_t i = 0; i < a.width; i += kLanes) {
        const int64_t n = a.width - i < kLanes ? a.width - i : kLanes;
        const Vec xh = (load(e + i, n) - set1(m.mean)) * set1(m.inverse_deviation);
        const Vec g = load(dropped + i, n) * load(a.gamma + i, n);
        const Vec result = fnma(xh, mean_gx, g - mean_g) * set1(m.inverse_deviation);
        store(out + i, result, n);
        store(dsegment + i, load(dsegment + i, n) + result, n);
      }
    }
  });
  float* const targets[4] = {a.dgamma, a.dbeta, a.dtype, a.dsegment};
  for (int vector = 0; vector < 4; vector++) {
    if (targets[vector] == nullptr) continue;
    for (int64_t part = 0; part < partials; part++) {
      const float* from = sums + (part * 4 + vector) * a.width;
      for (int64_t i = 0; i < a.width; i++) targets[vector][i] += from[i];
    }
  }
  // Words and positions: each item owns a range of columns.
  const int64_t items = (a.width + 2 * kLanes - 1) / (2 * kLanes);
  context.pool.parallel_for(items, [&](int64_t item, int) {
    const int64_t first = item * 2 * kLanes;
    const int64_t count = a.width - first < 2 * kLanes ? a.width - first : 2 * kLanes;
    for (int64_t row = 0; row < a.rows; row++) {
      const float* from = de + row * a.width + first;
      float* word = a.dword == nullptr || a.ids[row] == 0 ? nullptr : a.dword + int64_t{a.ids[row]} * a.width + first;
      float* position = a.dposition == nullptr ? nullptr : a.dposition + int64_t{a.index[row]} * a.width + first;
      for (int64_t i = 0; i < count; i++) {
        if (word) word[i] += from[i];
        if (position) position[i] += from[i];
      }
    }
  });
  return {};
}

constexpr Kernel kKernels[] = {
    kernel<TextEmbedForward, text_embed_forward>(),
    kernel<TextEmbedBackward, text_embed_backward, text_embed_backward_workspace>(),
};

}  // namespace

constinit const KernelList text_embed_kernels = {kKernels, sizeof kKernels / sizeof *kKernels};

}  // namespace mome::MOME_ISA
