// Checks of resize_bicubic_rgb against a plain reading of the rule: no split weights, no ring, 64-bit sums.
// Exit status 0 only if every check held, the planted errors included.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <vector>

#include "image/resize_bicubic.h"

namespace {

using Bytes = std::vector<uint8_t>;

constexpr int kFractionBits = 22;
constexpr uint8_t kGuard = 0xA5;
constexpr size_t kGuardBytes = 64;

double cubic(double x) {
  x = std::fabs(x);
  if (x < 1.0) return (1.5 * x - 2.5) * x * x + 1.0;
  if (x < 2.0) return (((x - 5.0) * x + 8.0) * x - 4.0) * -0.5;
  return 0.0;
}

// Resamples `lines` independent lines: sample s of line l, channel c stands at l * line_step + s * sample_step + c.
Bytes resample(const Bytes& source, int64_t lines, int64_t length, int64_t target_length, bool along_rows) {
  Bytes target(static_cast<size_t>(lines * target_length * 3));
  const double scale = static_cast<double>(length) / static_cast<double>(target_length);
  const double widening = std::max(scale, 1.0);
  for (int64_t t = 0; t < target_length; ++t) {
    const double center = (static_cast<double>(t) + 0.5) * scale;
    const auto begin = std::max<int64_t>(static_cast<int64_t>(center - 2.0 * widening + 0.5), 0);
    const auto end = std::min<int64_t>(static_cast<int64_t>(center + 2.0 * widening + 0.5), length);
    std::vector<double> weights;
    double total = 0.0;
    for (int64_t s = begin; s < end; ++s) {
      weights.push_back(cubic((static_cast<double>(s) - center + 0.5) * (1.0 / widening)));
      total += weights.back();
    }
    for (int64_t line = 0; line < lines; ++line) {
      for (int64_t c = 0; c < 3; ++c) {
        int64_t sum = int64_t{1} << (kFractionBits - 1);
        for (int64_t s = begin; s < end; ++s) {
          const double fixed = weights[static_cast<size_t>(s - begin)] / total * (1 << kFractionBits);
          const auto weight = static_cast<int64_t>(fixed + (fixed < 0.0 ? -0.5 : 0.5));
          const int64_t at = along_rows ? (line * length + s) * 3 + c : (s * lines + line) * 3 + c;
          sum += weight * source[static_cast<size_t>(at)];
        }
        const int64_t at = along_rows ? (line * target_length + t) * 3 + c : (t * lines + line) * 3 + c;
        target[static_cast<size_t>(at)] = static_cast<uint8_t>(std::clamp<int64_t>(sum >> kFractionBits, 0, 255));
      }
    }
  }
  return target;
}

Bytes plain_resize(const Bytes& source, int64_t width, int64_t height, int64_t target_width, int64_t target_height) {
  const Bytes across = resample(source, height, width, target_width, true);
  return resample(across, target_width, height, target_height, false);
}

Bytes noise(int64_t width, int64_t height, uint32_t seed) {
  Bytes image(static_cast<size_t>(width * height * 3));
  uint32_t state = seed * 2654435761u + 1u;
  for (uint8_t& sample : image) {
    state = state * 1664525u + 1013904223u;
    const uint32_t draw = state >> 24;
    sample = static_cast<uint8_t>(draw < 64 ? 0 : draw > 192 ? 255 : draw);  // extremes exercise the clamp
  }
  return image;
}

// Index of the first byte that differs, -1 if none.
int64_t first_difference(const Bytes& got, const Bytes& expected) {
  if (got.size() != expected.size()) return 0;
  const auto at = std::mismatch(got.begin(), got.end(), expected.begin());
  return at.first == got.end() ? -1 : at.first - got.begin();
}

bool check_case(int64_t width, int64_t height, int64_t target_width, int64_t target_height, uint32_t seed) {
  const Bytes image = noise(width, height, seed);
  const auto size = static_cast<size_t>(target_width * target_height * 3);
  Bytes guarded(size + 2 * kGuardBytes, kGuard);
  if (!mome::resize_bicubic_rgb(image.data(), width, height, guarded.data() + kGuardBytes, target_width,
                                target_height)) {
    std::printf("FAIL %ldx%ld -> %ldx%ld: refused\n", long(width), long(height), long(target_width),
                long(target_height));
    return false;
  }
  for (size_t i = 0; i < kGuardBytes; ++i) {
    if (guarded[i] != kGuard || guarded[kGuardBytes + size + i] != kGuard) {
      std::printf("FAIL %ldx%ld -> %ldx%ld: wrote outside the target\n", long(width), long(height), long(target_width),
                  long(target_height));
      return false;
    }
  }
  const Bytes got(guarded.begin() + kGuardBytes, guarded.begin() + kGuardBytes + static_cast<int64_t>(size));
  const Bytes expected = plain_resize(image, width, height, target_width, target_height);
  const int64_t at = first_difference(got, expected);
  if (at < 0) return true;
  std::printf("FAIL %ldx%ld -> %ldx%ld seed %u: byte %ld: expected %d, got %d\n", long(width), long(height),
              long(target_width), long(target_height), seed, long(at), expected[static_cast<size_t>(at)],
              got[static_cast<size_t>(at)]);
  return false;
}

bool check_refusals() {
  uint8_t pixel[3] = {1, 2, 3};
  uint8_t out[3] = {0, 0, 0};
  const int64_t huge = int64_t{1} << 40;
  bool ok = true;
  const auto refused = [&](const char* what, bool result) {
    if (result) {
      std::printf("FAIL %s: accepted\n", what);
      ok = false;
    }
  };
  refused("null source", mome::resize_bicubic_rgb(nullptr, 1, 1, out, 1, 1));
  refused("null target", mome::resize_bicubic_rgb(pixel, 1, 1, nullptr, 1, 1));
  refused("zero width", mome::resize_bicubic_rgb(pixel, 0, 1, out, 1, 1));
  refused("negative height", mome::resize_bicubic_rgb(pixel, 1, -1, out, 1, 1));
  refused("zero target", mome::resize_bicubic_rgb(pixel, 1, 1, out, 1, 0));
  refused("huge width", mome::resize_bicubic_rgb(pixel, huge, 1, out, 1, 1));
  refused("huge target", mome::resize_bicubic_rgb(pixel, 1, 1, out, huge, huge));
  refused("too many coefficients", mome::resize_bicubic_rgb(pixel, 1 << 24, 1, out, 1 << 23, 1));
  return ok;
}

// The comparison itself must notice one changed byte and another size.
bool check_planted_errors() {
  const Bytes image = noise(37, 21, 5);
  const Bytes expected = plain_resize(image, 37, 21, 16, 16);
  Bytes changed = expected;
  changed[401] ^= 1;
  Bytes shorter = expected;
  shorter.pop_back();
  const bool noticed = first_difference(changed, expected) == 401 && first_difference(shorter, expected) >= 0 &&
                       first_difference(expected, expected) == -1;
  if (!noticed) std::printf("FAIL planted error: not noticed\n");
  return noticed;
}

}  // namespace

int main() {
  int checks = 0;
  int failures = 0;
  const auto count = [&](bool ok) {
    ++checks;
    if (!ok) ++failures;
  };
  const int64_t sides[] = {1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 33, 61, 224};
  uint32_t seed = 1;
  for (const int64_t width : sides) {
    for (const int64_t target : sides) {
      count(check_case(width, 19, target, 19, seed++));
      count(check_case(19, width, 19, target, seed++));
      count(check_case(width, target, target, width, seed++));
    }
  }
  count(check_case(640, 480, 224, 224, seed++));
  count(check_case(301, 499, 384, 384, seed++));
  count(check_case(5000, 3, 7, 5, seed++));
  count(check_case(3, 5000, 5, 7, seed++));
  count(check_refusals());
  count(check_planted_errors());
  std::printf("image_test: %d checks, %d failed\n", checks, failures);
  return failures == 0 ? 0 : 1;
}
