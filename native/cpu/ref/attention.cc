#include "core/ops/attention.h"

#include "cpu/ref/scalar.h"

namespace mome::ref {
namespace {

// One sequence's tokens: text, then image.
struct Tokens {
  Sequence sequence;
  int64_t count() const { return int64_t{sequence.text_length} + sequence.image_length; }
  bool is_text(int64_t token) const { return token < sequence.text_length; }
  int64_t row(int64_t token) const {
    return is_text(token) ? sequence.text_begin + token : sequence.image_begin + token - sequence.text_length;
  }
  // Row of the bias table for a pair of tokens.
  int64_t bias_row(const RelativePosition& position, int64_t query, int64_t key) const {
    const int64_t texts = sequence.text_length;
    if (is_text(query)) return is_text(key) ? position.text_text(query, key) : position.text_image();
    return is_text(key) ? position.image_text() : position.image_image(query - texts, key - texts);
  }
};

// qkv as bfloat16, q times the scale.
std::vector<float> rounded_qkv(const AttentionForward& a) {
  std::vector<float> values(a.qkv, a.qkv + a.rows * 3 * a.width);
  for (int64_t row = 0; row < a.rows; row++) {
    for (int64_t j = 0; j < a.width; j++) values[row * 3 * a.width + j] *= a.scale;
  }
  round_to_bf16(values.data(), a.rows * 3 * a.width, values.data());
  return values;
}

template <typename Args>
std::vector<double> scores_of(const Args& a, const float* qkv, double scale, const Tokens& tokens, int64_t head,
                              int64_t query) {
  const int64_t head_width = a.width / a.heads, stride = 3 * a.width;
  std::vector<double> scores(tokens.count());
  for (int64_t key = 0; key < tokens.count(); key++) {
    scores[key] = scale * dot(qkv + tokens.row(query) * stride + head * head_width,
                              qkv + tokens.row(key) * stride + a.width + head * head_width, head_width);
    if (a.table != nullptr) {
      scores[key] += a.table[tokens.bias_row(a.position, query, key) * a.table_columns + a.table_column + head];
    }
  }
  return scores;
}

struct Softmax {
  double highest, sum;
};

// Turns scores into e^(score - highest).
Softmax exponentiate(std::vector<double>& scores) {
  double highest = -INFINITY, sum = 0;
  for (const double score : scores) highest = score > highest ? score : highest;
  for (double& score : scores) sum += score = std::exp(score - highest);
  return {highest, sum};
}

void save_lse(const AttentionForward& a, const Tokens& tokens, int64_t head, int64_t query, const Softmax& softmax) {
  if (a.lse == nullptr) return;
  const double lse = softmax.highest + std::log(softmax.sum);
  a.lse[tokens.row(query) * a.heads + head] = static_cast<float>(lse);
}

// One head of a sequence in 16-bit integers (core/quantise.h).
void forward_in_int16(const ThreadPool& pool, const AttentionForward& a, const Tokens& tokens, int64_t head) {
  const int64_t head_width = a.width / a.heads, count = tokens.count();
  std::vector<float> rows[3];  // q, k and v of the head, [tokens, head width]
  for (int64_t part = 0; part < 3; part++) {
    for (int64_t token = 0; token < count; token++) {
      const float* row = a.qkv + (tokens.row(token) * 3 + part) * a.width + head * head_width;
      rows[part].insert(rows[part].end(), row, row + head_width);
    }
  }
  auto& [q, k, v] = rows;
  std::vector<double> query_steps(count), key_steps(count), value_steps(head_width), scores(count);
  const int limit = int16_score_limit(head_width);
  for (int64_t token = 0; token < count; token++) {
    float* const query = q.data() + token * head_width;
    float* const key = k.data() + token * head_width;
    query_steps[token] = quantise_int16(query, head_width, 1, limit, query) * a.scale;
    key_steps[token] = quantise_int16(key, head_width, 1, limit, key);
  }
  for (int64_t d = 0; d < head_width; d++)
    value_steps[d] = quantise_int16(v.data() + d, count, head_width, kInt16ValueLimit, v.data() + d);
  for (int64_t query = 0; query < count && !pool.stopped(); query++) {
    for (int64_t key = 0; key < count; key++) {
      scores[key] = dot(q.data() + query * head_width, k.data() + key * head_width, head_width) * query_steps[query] *
                    key_steps[key];
      if (a.table != nullptr)
        scores[key] += a.table[tokens.bias_row(a.position, query, key) * a.table_columns + a.table_column + head];
    }
    const Softmax softmax = exponentiate(scores);
    save_lse(a, tokens, head, query, softmax);
    const double factor = std::fmin(kInt16ProbabilityLimit, kInt16ProbabilitySum / softmax.sum);
    double weight = 0;
    for (double& each : scores) weight += each = std::nearbyint(each * factor);
    for (int64_t d = 0; d < head_width; d++) {
      double sum = 0;
      for (int64_t key = 0; key < count; key++) sum += scores[key] * v[key * head_width + d];
      a.out[tokens.row(query) * a.width + head * head_width + d] = static_cast<float>(sum * value_steps[d] / weight);
    }
  }
}

Status forward(const AttentionForward& a, OpContext& context) {
  const int64_t head_width = a.width / a.heads;
  for (int64_t i = 0; i < a.rows * a.width; i++) a.out[i] = 0;
  const bool rounds = a.type == ProductType::bf16;
  const std::vector<float> rounded = rounds ? rounded_qkv(a) : std::vector<float>();
  const float* qkv = rounds ? rounded.data() : a.qkv;
  context.pool.parallel_for(a.sequence_count * a.heads, [&](int64_t item, int) {
    const Tokens tokens{a.sequences[item / a.heads]};
    const int64_t head = item % a.heads;
    if (a.type == ProductType::int16 && fits_int16(head_width, tokens.count()))
      return forward_in_int16(context.pool, a, tokens, head);
    for (int64_t query = 0; query < tokens.count() && !context.pool.stopped(); query++) {
      std::vector<double> p = scores_of(a, qkv, rounds ? 1.0 : a.scale, tokens, head, query);
      const Softmax softmax = exponentiate(p);
      save_lse(a, tokens, head, query, softmax);
      for (double& each : p) {
        float probability = static_cast<float>(each);
        if (rounds) round_to_bf16(&probability, 1, &probability);
        each = (rounds ? probability : each) / softmax.sum;
      }
      for (int64_t d = 0; d < head_width; d++) {
        double sum = 0;
        for (int64_t key = 0; key < tokens.count(); key++) {
          sum += p[key] * qkv[tokens.row(key) * 3 * a.width + 2 * a.width + head * head_width + d];
        }
        a.out[tokens.row(query) * a.width + head * head_width + d] = static_cast<float>(sum);
      }
    }
  });
  return {};
}

// Per query: dv += p dout, dp = dout v, ds = p (dp - sum p dp), dq = scale ds k, dk += scale ds q, dbias += ds.
void backward_head(const ThreadPool& pool, const AttentionBackward& a, int64_t head, std::vector<double>& dtable) {
  const int64_t head_width = a.width / a.heads, stride = 3 * a.width;
  for (int64_t s = 0; s < a.sequence_count; s++) {
    const Tokens tokens{a.sequences[s]};
    const int64_t count = tokens.count();
    std::vector<double> dk(count * head_width), dv(count * head_width);
    for (int64_t query = 0; query < count && !pool.stopped(); query++) {
      std::vector<double> p = scores_of(a, a.qkv, a.scale, tokens, head, query);
      const double sum = exponentiate(p).sum;
      for (double& probability : p) probability /= sum;
      const int64_t row = tokens.row(query);
      const float* dout = a.dout + row * a.width + head * head_width;
      std::vector<double> dp(count), dq(head_width);
      double along = 0;
      for (int64_t key = 0; key < count; key++) {
        dp[key] = dot(dout, a.qkv + tokens.row(key) * stride + 2 * a.width + head * head_width, head_width);
        along += p[key] * dp[key];
      }
      for (int64_t key = 0; key < count; key++) {
        const double ds = p[key] * (dp[key] - along);
        if (!dtable.empty()) dtable[tokens.bias_row(a.position, query, key)] += ds;
        for (int64_t d = 0; d < head_width; d++) {
          dq[d] += ds * a.scale * a.qkv[tokens.row(key) * stride + a.width + head * head_width + d];
          dk[key * head_width + d] += ds * a.scale * a.qkv[row * stride + head * head_width + d];
          dv[key * head_width + d] += p[key] * dout[d];
        }
      }
      for (int64_t d = 0; d < head_width; d++) a.dqkv[row * stride + head * head_width + d] = static_cast<float>(dq[d]);
    }
    for (int64_t key = 0; key < count; key++) {
      float* to = a.dqkv + tokens.row(key) * stride + head * head_width;
      for (int64_t d = 0; d < head_width; d++) {
        to[a.width + d] = static_cast<float>(dk[key * head_width + d]);
        to[2 * a.width + d] = static_cast<float>(dv[key * head_width + d]);
      }
    }
  }
}

Status backward(const AttentionBackward& a, OpContext& context) {
  for (int64_t i = 0; i < a.rows * 3 * a.width; i++) a.dqkv[i] = 0;
  context.pool.parallel_for(a.heads, [&](int64_t head, int) {
    std::vector<double> dtable(a.table != nullptr && a.dtable != nullptr ? a.position.rows() : 0);
    backward_head(context.pool, a, head, dtable);
    for (size_t row = 0; row < dtable.size(); row++) {
      float& to = a.dtable[static_cast<int64_t>(row) * a.table_columns + a.table_column + head];
      to = static_cast<float>(to + dtable[row]);
    }
  });
  return {};
}

}  // namespace

void register_attention(KernelTable& table) {
  table.add<AttentionForward, forward>(Target::ref);
  table.add<AttentionBackward, backward>(Target::ref);
}

}  // namespace mome::ref
