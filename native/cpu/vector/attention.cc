// attention: one work item per (sequence, head), sequences outside, so that a sequence's rows are read again while in
// cache. Forward of n tokens of head width K: 4 n^2 K FLOPs. K^T (padded) and V of the item lie in the thread's
// scratch; for each tile of query rows the scores start from their biases, are made over d ascending, turned into
// unnormalised probabilities, and multiplied with V over keys ascending. Every score row is its own chain of
// operations: nothing depends on neighbours or threads. In bfloat16 and in 16-bit integers K^T, V, the queries and the
// probabilities lie as pairs (pairs.h, words.h), and half the steps do the same work.
#include <cstring>

#include "cpu/vector/attention_int16.h"
#include "cpu/vector/attention_tile.h"
#include "cpu/vector/carver.h"
#include "cpu/vector/kernels.h"
#include "cpu/vector/math.h"

namespace mome::MOME_ISA {
namespace {

// Partial sums of the table's gradient: fixed, so results do not depend on the thread count.
inline constexpr int64_t kTableChunks = 8;

struct AttentionSizes {
  int64_t head_width, padded_width;  // K and K rounded up to whole vectors
  int64_t tokens, padded_tokens;     // of the longest sequence
  bool bias;
  int64_t longest_text;  // 0 without texts
  bool images;           // whether any sequence has a picture
  int64_t bias_floats;
};

template <typename Args>
inline AttentionSizes attention_sizes(const Args& a) {
  AttentionSizes s{};
  s.head_width = a.width / a.heads;
  s.padded_width = round_up(s.head_width, kLanes);
  for (int64_t i = 0; i < a.sequence_count; i++) {
    const int64_t tokens = int64_t{a.sequences[i].text_length} + a.sequences[i].image_length;
    if (tokens > s.tokens) s.tokens = tokens;
    if (a.sequences[i].text_length > s.longest_text) s.longest_text = a.sequences[i].text_length;
    s.images = s.images || a.sequences[i].image_length > 0;
  }
  s.padded_tokens = round_up(s.tokens, kLanes);
  s.bias = a.table != nullptr;
  s.bias_floats = s.bias ? head_bias_floats(a.position) : 0;
  return s;
}

// Zeroes the rows of `out` that belong to no sequence, when there are any.
template <typename Args>
inline void clear_uncovered(const Args& a, float* out, int64_t width) {
  int64_t covered = 0;
  for (int64_t i = 0; i < a.sequence_count; i++)
    covered += int64_t{a.sequences[i].text_length} + a.sequences[i].image_length;
  if (covered < a.rows) std::memset(out, 0, static_cast<size_t>(a.rows * width) * sizeof(float));
}

// What one thread needs for an item.
struct ForwardScratch : Carver {
  float* keys;     // [K, padded tokens], transposed
  float* values;   // [tokens, padded K]
  float* queries;  // [tile rows, padded K], scaled
  float* result;   // [tile rows, padded K]
  float* scores;   // [tile rows, padded tokens]
  // In 16-bit integers: a row's biases, and steps (attention_int16.h).
  float* bias;         // [padded tokens]
  float* key_steps;    // [padded tokens]
  float* value_steps;  // [padded K]
  ForwardScratch(const AttentionSizes& s, std::byte* base)
      : Carver{base},
        keys(take<float>(s.head_width * s.padded_tokens)),
        values(take<float>(s.tokens * s.padded_width)),
        queries(take<float>(kTileRows * s.padded_width)),
        result(take<float>(kTileRows * s.padded_width)),
        scores(take<float>(kTileRows * s.padded_tokens)),
        bias(take<float>(s.padded_tokens)),
        key_steps(take<float>(s.padded_tokens)),
        value_steps(take<float>(s.padded_width)) {}
};

struct AttentionForwardWorkspace : Carver {
  float* biases;        // [heads, bias floats]
  size_t thread_bytes;  // of a ForwardScratch
  std::byte* scratch;   // [threads, thread bytes]
  AttentionForwardWorkspace(const AttentionForward& a, const AttentionSizes& s, int threads, std::byte* base)
      : Carver{base},
        biases(take<float>(a.heads * s.bias_floats)),
        thread_bytes(ForwardScratch(s, nullptr).bytes),
        scratch(take<std::byte>(threads * static_cast<int64_t>(thread_bytes))) {}
};

inline size_t attention_forward_workspace(const AttentionForward& a, int threads) {
  return AttentionForwardWorkspace(a, attention_sizes(a), threads, nullptr).bytes;
}

// Turns a score row into e^(score - max), in bfloat16 in its first half where a step is a pair.
template <int64_t kStepDepth>
inline RowSoftmax exponentiate(float* scores, int64_t padded) {
  Vec top = set1(-__builtin_inff());
  for (int64_t i = 0; i < padded; i += kLanes) top = max(load(scores + i), top);
  const float highest = reduce_max(top);
  Vec sum = zero();
  const auto next = [&](int64_t i) {
    const Vec e = exp(load(scores + i) - set1(highest));
    sum = sum + e;
    return e;
  };
#if MOME_HAS_PAIRS
  if constexpr (kStepDepth == 2) {
    for (int64_t i = 0; i < padded; i += 2 * kLanes) {
      const Vec first = next(i);
      const Vec second = i + kLanes < padded ? next(i + kLanes) : zero();
      store_pairs(scores + i / 2, consecutive_pairs(first, second));
    }
    const float total = reduce_add(sum);
    return {total, highest, 1.0f / total};
  }
#endif
  for (int64_t i = 0; i < padded; i += kLanes) store(scores + i, next(i));
  const float total = reduce_add(sum);
  return {total, highest, 1.0f / total};
}

// One head's keys and values as the products read them: [steps of K, padded] and [steps of tokens, padded K].
template <typename Panel>
inline void gather_operands(const HeadSource& key, const HeadSource& value, const AttentionSizes& s, int64_t padded,
                            const ForwardScratch& to) {
  if constexpr (kInt16<Panel>) {
    gather_int16_keys(key, s.head_width, padded, to.keys, to.key_steps);
    gather_int16_values(value, s.head_width, s.padded_width, to.values, to.value_steps);
  } else {
    gather_head_transposed<Panel::kStepDepth>(key, s.head_width, padded, to.keys);
#if MOME_HAS_PAIRS
    if constexpr (Panel::kStepDepth == 2) return gather_head_pairs(value, s.head_width, s.padded_width, to.values);
#endif
    gather_head(value, {nullptr, value.unit.tokens()}, s.head_width, s.padded_width, to.values);
  }
}

// The probabilities of the `rows` queries from `first` on, not yet divided by their sums, as steps in `to.scores`.
template <typename Panel>
inline void make_probabilities(const ThreadPool& pool, const AttentionForward& a, const AttentionSizes& s,
                               const HeadBias* bias, const HeadSource& query, int64_t first, int64_t rows,
                               int64_t padded, const ForwardScratch& to, RowSoftmax* softmax) {
  const int64_t steps = steps_of<Panel>(s.head_width);
  const auto multiply = [&](bool add) {
    product<Panel>(pool, to.queries, s.padded_width, 1, to.keys, padded, steps, to.scores, padded, rows, padded, add);
  };
  if constexpr (kInt16<Panel>) {
    float query_steps[kLanes];
    gather_int16_queries(query, first, rows, s.head_width, s.padded_width, a.scale, to.queries, query_steps);
    multiply(false);
    for (int64_t r = 0; r < rows; r++) {
      bias_row(bias, a.position, query.unit, first + r, padded, to.bias);
      softmax[r] = int16_softmax(to.scores + r * padded, query_steps[r], to.key_steps, to.bias, padded);
    }
  } else {
    for (int64_t r = 0; r < rows; r++) {
      for (int64_t step = 0; step < steps; step += kLanes) {
        const Vec words = words_of<Panel::kStepDepth>(query, first + r, step, s.head_width);
        store(to.queries + r * s.padded_width + step, words);
      }
      bias_row(bias, a.position, query.unit, first + r, padded, to.scores + r * padded);
    }
    multiply(true);
    for (int64_t r = 0; r < rows; r++) softmax[r] = exponentiate<Panel::kStepDepth>(to.scores + r * padded, padded);
  }
}

// What is asked for while an item is worked on: the item that this thread is likely to take next.
struct AheadItem {
  Unit unit;
  int64_t head;
};

template <typename Panel>
inline void attend(const ThreadPool& pool, const AttentionForward& a, const AttentionSizes& s, const HeadBias* bias,
                   int64_t head, const Unit& unit, const AheadItem* ahead, std::byte* scratch) {
  const int64_t tokens = unit.tokens();
  const int64_t padded = round_up(tokens, kLanes);
  const ForwardScratch memory(s, scratch);
  float* const result = memory.result;
  const int64_t column = head * s.head_width;
  const HeadSource query{unit, a.qkv + column, 3 * a.width, kInt16<Panel> ? 1.0f : a.scale};
  const HeadSource key{unit, a.qkv + a.width + column, 3 * a.width, 1.0f};
  const HeadSource value{unit, a.qkv + 2 * a.width + column, 3 * a.width, 1.0f};
  gather_operands<Panel>(key, value, s, padded, memory);

  for (int64_t first = 0; first < tokens && !pool.stopped(); first += kTileRows) {
    const int64_t rows = tokens - first < kTileRows ? tokens - first : kTileRows;
    if (ahead != nullptr) {
      const int64_t others = ahead->unit.tokens();
      prefetch_head(ahead->unit, a.qkv, a.width, ahead->head * s.head_width, s.head_width, others * first / tokens,
                    others * (first + rows) / tokens);
    }
    RowSoftmax softmax[kTileRows];
    make_probabilities<Panel>(pool, a, s, bias, query, first, rows, padded, memory, softmax);
    product<Panel>(pool, memory.scores, padded, 1, memory.values, s.padded_width, steps_of<Panel>(tokens), result,
                   s.padded_width, rows, s.padded_width, false);
    for (int64_t r = 0; r < rows; r++) {
      const int64_t row = unit.row(first + r);
      const Vec scale = set1(softmax[r].inverse);
      float* out = a.out + row * a.width + column;
      for (int64_t d = 0; d < s.head_width; d += kLanes) {
        Vec sum = load(result + r * s.padded_width + d);
        if constexpr (kInt16<Panel>) sum = to_float(as_ints(sum)) * load(memory.value_steps + d);
        store(out + d, sum * scale, smaller(kLanes, s.head_width - d));
      }
      if (a.lse) a.lse[row * a.heads + head] = softmax[r].max + __builtin_logf(softmax[r].sum);
    }
  }
}

template <typename Panel>
inline Status attend_all(const AttentionForward& a, OpContext& context) {
  const AttentionSizes s = attention_sizes(a);
  const AttentionForwardWorkspace workspace(a, s, context.pool.threads(), context.workspace);
  clear_uncovered(a, a.out, a.width);
  if (a.lse) clear_uncovered(a, a.lse, a.heads);
  if (s.bias) {
    context.pool.parallel_for(a.heads, [&](int64_t head, int) {
      read_head_bias(a, head, s.longest_text, s.images, workspace.biases + head * s.bias_floats);
    });
  }
  const int64_t items = a.heads * a.sequence_count;
  context.pool.parallel_for(items, [&](int64_t item, int worker) {
    const int64_t head = item % a.heads;
    const Unit unit{a.sequences[item / a.heads]};
    HeadBias bias;
    if (s.bias) bias = head_bias_view(a, head, workspace.biases + head * s.bias_floats);
    const int64_t next = item + context.pool.threads();
    AheadItem ahead{};
    if (next < items) ahead = {Unit{a.sequences[next / a.heads]}, next % a.heads};
    const bool fits = !kInt16<Panel> || fits_int16(s.head_width, unit.tokens());
    (fits ? attend<Panel> : attend<F32Panel>)(context.pool, a, s, s.bias ? &bias : nullptr, head, unit,
                                              next < items ? &ahead : nullptr,
                                              workspace.scratch + worker * workspace.thread_bytes);
  });
  return {};
}

inline Status attention_forward(const AttentionForward& a, OpContext& context) {
#if MOME_HAS_PAIRS
  if (a.type == ProductType::bf16) return attend_all<Bf16Panel>(a, context);
#endif
  if constexpr (multiplies_int16(Target::MOME_ISA)) {
    if (a.type == ProductType::int16) return attend_all<Int16Panel>(a, context);
  }
  return attend_all<F32Panel>(a, context);
}

// With P the probabilities, S = scale q k^T + bias:
//   dV = P^T dO,  dP = dO V^T,  dS = P (dP - rowsum(dO O)),  dQ = scale dS K,  dK = scale dS^T Q,  dbias = dS.
// P is made again from the saved log-sum-exp. A query whose row of dO is all zeros adds nothing to any of them and is
// left out: after the last block few rows are read.
struct BackwardScratch : Carver {
  float* keys_transposed;    // [K, padded tokens]
  float* values_transposed;  // [K, padded tokens]
  float* queries;            // [queries, padded K], scaled
  float* keys;               // [tokens, padded K]
  float* dout;               // [queries, padded K]
  float* result;             // [tokens, padded K]: dQ, dK, dV in turn
  float* p;                  // [queries, padded tokens]
  float* ds;                 // [queries, padded tokens]
  int32_t* chosen;           // [tokens] queries that count
  BackwardScratch(const AttentionSizes& s, std::byte* base)
      : Carver{base},
        keys_transposed(take<float>(s.head_width * s.padded_tokens)),
        values_transposed(take<float>(s.head_width * s.padded_tokens)),
        queries(take<float>(s.tokens * s.padded_width)),
        keys(take<float>(s.tokens * s.padded_width)),
        dout(take<float>(s.tokens * s.padded_width)),
        result(take<float>(s.tokens * s.padded_width)),
        p(take<float>(s.tokens * s.padded_tokens)),
        ds(take<float>(s.tokens * s.padded_tokens)),
        chosen(take<int32_t>(s.tokens)) {}
};

inline int64_t table_partial_floats(const AttentionBackward& a) {
  return a.dtable == nullptr ? 0 : round_up(a.position.rows(), 16);
}

struct AttentionBackwardWorkspace : Carver {
  float* biases;        // [heads, bias floats]
  float* partials;      // [heads, table chunks, partial floats]
  size_t thread_bytes;  // of a BackwardScratch
  std::byte* scratch;   // [threads, thread bytes]
  AttentionBackwardWorkspace(const AttentionBackward& a, const AttentionSizes& s, int threads, std::byte* base)
      : Carver{base},
        biases(take<float>(a.heads * s.bias_floats)),
        partials(take<float>(a.heads * kTableChunks * table_partial_floats(a))),
        thread_bytes(BackwardScratch(s, nullptr).bytes),
        scratch(take<std::byte>(threads * static_cast<int64_t>(thread_bytes))) {}
};

inline size_t attention_backward_workspace(const AttentionBackward& a, int threads) {
  return AttentionBackwardWorkspace(a, attention_sizes(a), threads, nullptr).bytes;
}

inline void scatter_head(const Unit& unit, const Tokens& tokens, const float* values, int64_t padded, float scale,
                         float* rows, int64_t row_width, int64_t column, int64_t head_width) {
  for (int64_t i = 0; i < tokens.count; i++) {
    float* to = rows + unit.row(tokens[i]) * row_width + column;
    for (int64_t d = 0; d < head_width; d += kLanes) {
      store_part(to + d, load(values + i * padded + d) * set1(scale), smaller(kLanes, head_width - d));
    }
  }
}

// Whether any value of the row is other than 0; NaN is.
inline bool any_nonzero(const float* row, int64_t count) {
  for (int64_t d = 0; d < count; d++) {
    if (!(row[d] == 0)) return true;
  }
  return false;
}

inline void attend_backward(const ThreadPool& pool, const AttentionBackward& a, const AttentionSizes& s,
                            const HeadBias* bias, int64_t head, const Unit& unit, std::byte* scratch,
                            float* table_partial) {
  const int64_t tokens = unit.tokens();
  const int64_t padded = round_up(tokens, kLanes);
  const int64_t width = s.padded_width;
  const BackwardScratch memory(s, scratch);
  float* const keys_transposed = memory.keys_transposed;
  float* const values_transposed = memory.values_transposed;
  float* const queries = memory.queries;
  float* const keys = memory.keys;
  float* const dout = memory.dout;
  float* const result = memory.result;
  float* const p = memory.p;
  float* const ds = memory.ds;
  int32_t* const chosen = memory.chosen;
  const int64_t column = head * s.head_width;
  const int64_t stride = 3 * a.width;
  Tokens query{chosen, 0};
  for (int64_t token = 0; token < tokens; token++) {
    if (any_nonzero(a.dout + unit.row(token) * a.width + column, s.head_width))
      chosen[query.count++] = static_cast<int32_t>(token);
  }
  const Tokens all{nullptr, tokens};
  if (query.count < tokens) {
    for (int64_t token = 0; token < tokens; token++) {
      std::memset(a.dqkv + unit.row(token) * stride + column, 0, static_cast<size_t>(s.head_width) * sizeof(float));
    }
  }
  const HeadSource q{unit, a.qkv + column, stride, a.scale};
  const HeadSource k{unit, a.qkv + a.width + column, stride, 1.0f};
  const HeadSource v{unit, a.qkv + 2 * a.width + column, stride, 1.0f};
  gather_head_transposed<1>(k, s.head_width, padded, keys_transposed);
  gather_head_transposed<1>(v, s.head_width, padded, values_transposed);
  gather_head(q, query, s.head_width, width, queries);
  gather_head(k, all, s.head_width, width, keys);
  gather_head({unit, a.dout + column, a.width, 1.0f}, query, s.head_width, width, dout);

  // Probabilities again, and dP.
  for (int64_t i = 0; i < query.count; i++) bias_row(bias, a.position, unit, query[i], padded, p + i * padded);
  product<F32Panel>(pool, queries, width, 1, keys_transposed, padded, s.head_width, p, padded, query.count, padded,
                    true);
  product<F32Panel>(pool, dout, width, 1, values_transposed, padded, s.head_width, ds, padded, query.count, padded,
                    false);
  for (int64_t i = 0; i < query.count && !pool.stopped(); i++) {
    const int64_t row = unit.row(query[i]);
    const Vec lse = set1(a.lse[row * a.heads + head]);
    const float* out = a.out + row * a.width + column;
    Vec products = zero();
    for (int64_t d = 0; d < s.head_width; d += kLanes) {
      products = fma(load_part(out + d, smaller(kLanes, s.head_width - d)), load(dout + i * width + d), products);
    }
    const Vec dot = set1(reduce_add(products));
    for (int64_t at = i * padded; at < (i + 1) * padded; at += kLanes) {
      const Vec probability = exp(load(p + at) - lse);
      store(p + at, probability);
      store(ds + at, probability * (load(ds + at) - dot));
    }
    if (table_partial) add_bias_gradient(a.position, unit, query[i], ds + i * padded, table_partial);
  }

  // The three gradients.
  product<F32Panel>(pool, ds, padded, 1, keys, width, tokens, result, width, query.count, width, false);
  scatter_head(unit, query, result, width, a.scale, a.dqkv, stride, column, s.head_width);
  product<F32Panel>(pool, ds, 1, padded, queries, width, query.count, result, width, tokens, width,
                    false);  // queries carry the scale already
  scatter_head(unit, all, result, width, 1.0f, a.dqkv, stride, a.width + column, s.head_width);
  product<F32Panel>(pool, p, 1, padded, dout, width, query.count, result, width, tokens, width, false);
  scatter_head(unit, all, result, width, 1.0f, a.dqkv, stride, 2 * a.width + column, s.head_width);
}

inline Status attention_backward(const AttentionBackward& a, OpContext& context) {
  const AttentionSizes s = attention_sizes(a);
  const int64_t partial_floats = table_partial_floats(a);
  const AttentionBackwardWorkspace workspace(a, s, context.pool.threads(), context.workspace);
  float* const biases = workspace.biases;
  float* const partials = workspace.partials;
  clear_uncovered(a, a.dqkv, 3 * a.width);
  if (s.bias) {
    context.pool.parallel_for(a.heads, [&](int64_t head, int) {
      read_head_bias(a, head, s.longest_text, s.images, biases + head * s.bias_floats);
    });
  }
  context.pool.parallel_for(a.heads * kTableChunks, [&](int64_t item, int worker) {
    const int64_t head = item / kTableChunks;
    const int64_t chunk = item % kTableChunks;
    HeadBias bias;
    if (s.bias) bias = head_bias_view(a, head, biases + head * s.bias_floats);
    float* partial = partial_floats == 0 ? nullptr : partials + item * partial_floats;
    if (partial) std::memset(partial, 0, static_cast<size_t>(partial_floats) * sizeof(float));
    for (int64_t i = a.sequence_count * chunk / kTableChunks; i < a.sequence_count * (chunk + 1) / kTableChunks; i++) {
      attend_backward(context.pool, a, s, s.bias ? &bias : nullptr, head, Unit{a.sequences[i]},
                      workspace.scratch + worker * workspace.thread_bytes, partial);
    }
  });
  if (partial_floats == 0) return {};
  const int64_t offsets = a.position.image_offsets();
  context.pool.parallel_for(a.heads, [&](int64_t head, int) {
    for (int64_t row = 0; row < a.position.rows(); row++) {
      const int64_t from = row < offsets ? offsets - 1 - row : row;  // the image part is summed in reverse
      float sum = 0;
      for (int64_t chunk = 0; chunk < kTableChunks; chunk++)
        sum += partials[(head * kTableChunks + chunk) * partial_floats + from];
      a.dtable[row * a.table_columns + a.table_column + head] += sum;
    }
  });
  return {};
}

constexpr Kernel kKernels[] = {
    kernel<AttentionForward, attention_forward, attention_forward_workspace>(),
    kernel<AttentionBackward, attention_backward, attention_backward_workspace>(),
};

}  // namespace

constinit const KernelList attention_kernels = {kKernels, sizeof kKernels / sizeof *kKernels};

}  // namespace mome::MOME_ISA
