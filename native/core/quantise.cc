#include "core/quantise.h"

#include <bit>
#include <cmath>

namespace mome {
namespace {

// NaN when an element is not finite.
float largest_magnitude(const float* x, int64_t count) {
  float largest = 0;
  for (int64_t i = 0; i < count; i++) {
    if (!std::isfinite(x[i])) return std::nanf("");
    largest = std::fmax(largest, std::fabs(x[i]));
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

void quantise_weights(const float* row, int64_t count, float scale, int8_t* q) {
  for (int64_t i = 0; i < count; i++) q[i] = static_cast<int8_t>(scale > 0 ? std::nearbyint(row[i] / scale) : 0);
}

void quantise_activation_row(const float* row, int64_t count, int64_t block, float* dequantised) {
  for (int64_t first = 0; first < count; first += block) {
    const int64_t columns = count - first < block ? count - first : block;
    const float largest = largest_magnitude(row + first, columns);
    const float scale = largest / kQuantLimit;
    const float inverse = kQuantLimit / largest;
    for (int64_t i = first; i < first + columns; i++)
      dequantised[i] = largest == 0 ? 0 : scale * std::nearbyint(row[i] * inverse);
  }
}

}  // namespace mome
