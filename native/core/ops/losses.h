// The losses: cross_entropy, soft_bce, contrastive. Forward writes the plain loss; backward computes the gradient of
// `weight * loss`. Sums over rows run in double, in ascending row order.
#pragma once

#include "core/ops/common.h"

namespace mome {

// Mean over the rows whose label is not -100 of -log softmax(logits)[label]; 0 when there is no such row.
struct CrossEntropyForward {
  static constexpr const char* kOp = "cross_entropy";
  static constexpr Direction kDirection = Direction::forward;
  int64_t rows, classes;
  const float* logits;    // [rows, classes]
  const int32_t* labels;  // [rows] in [0, classes) or -100
  float* loss;            // [1]
};
struct CrossEntropyBackward {
  static constexpr const char* kOp = CrossEntropyForward::kOp;
  static constexpr Direction kDirection = Direction::backward;
  int64_t rows, classes;
  const float* logits;
  const int32_t* labels;
  float weight;
  float* dlogits;  // [rows, classes]; may be logits itself
};

// Mean over rows and answers of binary cross-entropy with logits against soft targets, times the number of answers.
struct SoftBceForward {
  static constexpr const char* kOp = "soft_bce";
  static constexpr Direction kDirection = Direction::forward;
  int64_t rows, classes;
  const float* logits;   // [rows, classes]
  const float* targets;  // [rows, classes] in [0, 1]
  float* loss;           // [1]
};
struct SoftBceBackward {
  static constexpr const char* kOp = SoftBceForward::kOp;
  static constexpr Direction kDirection = Direction::backward;
  int64_t rows, classes;
  const float* logits;
  const float* targets;
  float weight;
  float* dlogits;
};

// s[i, j] = exp(log_scale) * image[i] . text[j];
// loss = (mean_i CE(s[i, :], t_i) + mean_j CE(s[:, j], t_j)) / 2, where the target of i spreads evenly over all j with
// group[j] == group[i] (with group null: j == i only).
struct ContrastiveForward {
  static constexpr const char* kOp = "contrastive";
  static constexpr Direction kDirection = Direction::forward;
  int64_t rows, width;
  const float* image;      // [rows, width]
  const float* text;       // [rows, width]
  const float* log_scale;  // [1]
  const int32_t* group;    // [rows] or null
  float* similarity;       // [rows, rows] s, saved for backward and read by hard-negative mining
  float* loss;             // [1]
};
struct ContrastiveBackward {
  static constexpr const char* kOp = ContrastiveForward::kOp;
  static constexpr Direction kDirection = Direction::backward;
  int64_t rows, width;
  const float* image;
  const float* text;
  const float* log_scale;
  const int32_t* group;
  const float* similarity;
  float weight;
  float* dimage;      // [rows, width]
  float* dtext;       // [rows, width]
  float* dlog_scale;  // [1] +=, or null
};

extern const OpSpec cross_entropy_op;
extern const OpSpec soft_bce_op;
extern const OpSpec contrastive_op;

}  // namespace mome
