#include "core/quantise.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <vector>

namespace mome {
namespace {

// Of `count` elements, `stride` apart. NaN when one is not finite.
float largest_magnitude(const float* x, int64_t count, int64_t stride = 1) {
  float largest = 0;
  for (int64_t i = 0; i < count; i++) {
    if (!std::isfinite(x[i * stride])) return std::nanf("");
    largest = std::fmax(largest, std::fabs(x[i * stride]));
  }
  return largest;
}

}  // namespace

void round_to_bf16(const float* from, int64_t count, float* to) {
  for (int64_t i = 0; i < count; i++) {
    const uint32_t bits = std::bit_cast<uint32_t>(from[i]);
    const bool nan = (bits & 0x7fffffffu) > 0x7f800000u;
    to[i] = std::bit_cast<float>(nan ? bits | 0x00400000u : (bits + 0x7fffu + ((bits >> 16) & 1u)) & 0xffff0000u);
  }
}

float weight_row_scale(const float* row, int64_t count) {
  const float largest = largest_magnitude(row, count);
  if (std::isnan(largest)) return largest;
  return std::bit_cast<float>((std::bit_cast<uint32_t>(largest / kQuantLimit) + 0xffu) & 0xffffff00u);
}

void quantise_weights(const float* row, int64_t count, float scale, double factor, int8_t* q) {
  for (int64_t i = 0; i < count; i++) {
    const float rounded = scale > 0 ? std::nearbyint(row[i] / scale) : 0;
    q[i] = static_cast<int8_t>(factor == 1 ? rounded : std::nearbyint(rounded * factor));
  }
}

double weight_row_factor(const float* row, int64_t count, float scale, int sum_limit) {
  if (sum_limit >= kNoSumLimit) return 1;
  int most = 0;
  for (int64_t first = 0; first < count; first += 8) {
    int8_t q[8];
    const int64_t columns = std::min<int64_t>(8, count - first);
    quantise_weights(row + first, columns, scale, 1, q);
    int above[2] = {}, below[2] = {};
    for (int64_t i = 0; i < columns; i++) (q[i] > 0 ? above : below)[i % 4 / 2] += std::abs(q[i]);
    most = std::max({most, above[0], above[1], below[0], below[1]});
  }
  // Rounding adds at most a half to each of four.
  return most <= sum_limit ? 1 : static_cast<double>(sum_limit - 2) / most;
}

float narrowed_scale(float scale, double factor) { return static_cast<float>(scale / factor); }

void round_weights(int64_t rows, int64_t columns, int sum_limit, float* values) {
  std::vector<int8_t> q(static_cast<size_t>(columns));
  for (int64_t row = 0; row < rows; row++) {
    float* at = values + row * columns;
    const float scale = weight_row_scale(at, columns);
    const double factor = weight_row_factor(at, columns, scale, sum_limit);
    quantise_weights(at, columns, scale, factor, q.data());
    const float step = narrowed_scale(scale, factor);
    for (int64_t i = 0; i < columns; i++) at[i] = step * q[static_cast<size_t>(i)];
  }
}

void quantise_activation_row(const float* row, int64_t count, int64_t block, float* dequantised) {
  for (int64_t first = 0; first < count; first += block) {
    const int64_t columns = count - first < block ? count - first : block;
    const float largest = largest_magnitude(row + first, columns);
    const float scale = largest / kQuantLimit;
    const float inverse = kQuantLimit / largest;
    for (int64_t i = first; i < first + columns; i++)
      dequantised[i] = largest < kQuantNegligible ? 0 : scale * std::nearbyint(row[i] * inverse);
  }
}

bool fits_int16(int64_t head_width, int64_t tokens) {
  return head_width <= kInt16HeadWidth && tokens >= kInt16LeastTokens && tokens <= kInt16Tokens;
}

int int16_score_limit(int64_t head_width) {
  // limit^2 <= most where limit <= sqrt(most): the root of a whole number below 2^31 is rounded to no whole one above
  // it.
  const auto most = static_cast<double>(INT32_MAX / std::max<int64_t>(1, head_width));
  return std::min(INT16_MAX, static_cast<int>(std::sqrt(most)));
}

float quantise_int16(const float* x, int64_t count, int64_t stride, int limit, float* q) {
  const float largest = largest_magnitude(x, count, stride);
  const bool counts = largest >= kInt16Negligible;
  const auto most = static_cast<float>(limit);
  for (int64_t i = 0; i < count; i++) q[i * stride] = counts ? std::nearbyint(x[i * stride] * (most / largest)) : 0;
  return counts ? largest / most : largest * 0;
}

}  // namespace mome
