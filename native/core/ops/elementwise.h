// tanh, gelu (exact, erf) and add over flat arrays; l2_normalize over rows.
#pragma once

#include "core/ops/common.h"

namespace mome {

struct TanhForward {
  static constexpr const char* kOp = "tanh";
  static constexpr Direction kDirection = Direction::forward;
  int64_t count;
  const float* x;
  float* y;
};
struct TanhBackward {  // dx = dy * (1 - y^2)
  static constexpr const char* kOp = TanhForward::kOp;
  static constexpr Direction kDirection = Direction::backward;
  int64_t count;
  const float* y;
  const float* dy;
  float* dx;
};

struct GeluForward {  // y = x * Phi(x)
  static constexpr const char* kOp = "gelu";
  static constexpr Direction kDirection = Direction::forward;
  int64_t count;
  const float* x;
  float* y;
};
struct GeluBackward {  // dx = dy * (Phi(x) + x * phi(x))
  static constexpr const char* kOp = GeluForward::kOp;
  static constexpr Direction kDirection = Direction::backward;
  int64_t count;
  const float* x;
  const float* dy;
  float* dx;
};

struct AddForward {  // y = a + b; y may be a or b. Its gradient is dy for both, so there is no backward kernel.
  static constexpr const char* kOp = "add";
  static constexpr Direction kDirection = Direction::forward;
  int64_t count;
  const float* a;
  const float* b;
  float* y;
};

struct L2NormalizeForward {  // y = x / ||x||; a zero row gives NaN, as in the original
  static constexpr const char* kOp = "l2_normalize";
  static constexpr Direction kDirection = Direction::forward;
  int64_t rows, width;
  const float* x;
  float* y;
};
struct L2NormalizeBackward {  // dx = (dy - y (y . dy)) / ||x||
  static constexpr const char* kOp = L2NormalizeForward::kOp;
  static constexpr Direction kDirection = Direction::backward;
  int64_t rows, width;
  const float* x;
  const float* dy;
  float* dx;
};

extern const OpSpec tanh_op;
extern const OpSpec gelu_op;
extern const OpSpec add_op;
extern const OpSpec l2_normalize_op;

}  // namespace mome
