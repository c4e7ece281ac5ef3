// expert_ffn: per row range with its own expert e,
//   out = x + row_scale * gamma * (fc2_e(gelu(fc1_e(layer_norm_e(x)))))
// GELU is exact (erf). The ranges are in ascending order without gaps; a range may be empty. On a processor they cover
// [0, rows). On a device rows may lie before the first and behind the last: they belong to no expert and `out` is left
// as it is there.
#pragma once

#include "core/ops/common.h"

namespace mome {

inline constexpr int kMaxExperts = 3;
// Numbers of one instruction in a device's memory: where the first range begins, then where each ends.
inline constexpr int kExpertBounds = kMaxExperts + 1;

struct ExpertForward {
  int64_t begin, end;       // rows of this expert; devices read `bounds` instead
  const float* norm_gamma;  // [width]
  const float* norm_beta;   // [width]
  Matrix fc1;               // [hidden, width]
  const float* fc1_bias;    // [hidden]
  Matrix fc2;               // [width, hidden]
  const float* fc2_bias;    // [width]
};

struct ExpertFfnForward {
  static constexpr const char* kOp = "expert_ffn";
  static constexpr Direction kDirection = Direction::forward;
  int64_t rows, width, hidden;
  float eps;
  const float* x;  // [rows, width]
  int experts;
  ExpertForward expert[kMaxExperts];
  const int32_t* bounds;   // devices: [experts + 1] in their memory, expert e has rows [bounds[e], bounds[e + 1])
  const float* gamma;      // [width] or null
  const float* row_scale;  // [rows] or null
  float* out;              // [rows, width]; may be x itself
  float*
      pre_activation;  // [rows, hidden]: fc1's output, saved for backward; null in inference and with rounded weights
};

// Gradients of one expert, each += or null.
struct ExpertGradient {
  float* norm_gamma;
  float* norm_beta;
  float* fc1;
  float* fc1_bias;
  float* fc2;
  float* fc2_bias;
};

// With g = row_scale * gamma, G = gelu(u)^T (row_scale * dout) and s = colsum(row_scale * dout):
//   dfc2 += gamma * G, dfc2_bias += gamma * s, dgamma_j += sum_k fc2[j, k] G[k, j] + fc2_bias_j s_j,
//   du = ((g * dout) fc2) * gelu'(u), dfc1 += du^T n, dfc1_bias += colsum(du) with n = layer_norm(x) recomputed,
//   dx = dout + layer_norm backward of (du fc1).
struct ExpertFfnBackward {
  static constexpr const char* kOp = ExpertFfnForward::kOp;
  static constexpr Direction kDirection = Direction::backward;
  int64_t rows, width, hidden;
  float eps;
  const float* x;
  int experts;
  ExpertForward expert[kMaxExperts];  // with `data` of fc2: dgamma reads it
  const float* gamma;
  const float* row_scale;
  const float* pre_activation;  // [rows, hidden] saved by forward
  const float* dout;            // [rows, width]
  float* dx;                    // [rows, width]; may be dout itself
  ExpertGradient gradient[kMaxExperts];
  float* dgamma;  // [width] +=, or null
};

extern const OpSpec expert_ffn_op;

}  // namespace mome
