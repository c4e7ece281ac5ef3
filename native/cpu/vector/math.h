// exp, the normal distribution function, GELU and tanh on vectors.
//
// exp: x = n ln 2 + r with |r| <= ln 2 / 2, the Taylor polynomial of degree 7 in r, then 2^n.
// Phi(-z) e^(z^2 / 2) for z >= 0 is a smooth function of t = 1 / (1 + z / 4); a degree-9 polynomial without constant
// term fits it to 6e-8 relative on z <= 14, so that Phi has 2e-7 absolute error everywhere and good relative error far
// out.
#pragma once

#include "cpu/vector/simd.h"

namespace mome::MOME_ISA {
namespace {

// e^x; 0 below -104, infinity above 88.8, NaN for NaN. At most 2 units in the last place.
inline Vec exp(Vec x) {
  const Vec clamped = max(set1(-104.0f), min(set1(89.0f), x));  // NaN passes both
  const Vec n = round(clamped * set1(1.44269504088896341f));
  Vec r = fnma(n, set1(0.693359375f), clamped);
  r = fnma(n, set1(-2.12194440e-4f), r);
  Vec p = set1(1.0f / 5040);
  p = fma(p, r, set1(1.0f / 720));
  p = fma(p, r, set1(1.0f / 120));
  p = fma(p, r, set1(1.0f / 24));
  p = fma(p, r, set1(1.0f / 6));
  p = fma(p, r, set1(0.5f));
  p = fma(p, r, set1(1.0f));
  p = fma(p, r, set1(1.0f));
  return scale_by_power(p, n);
}

// Phi(x) from e = exp(-x^2 / 2).
inline Vec normal_cdf(Vec x, Vec e) {
  const Vec t = set1(1.0f) / fma(abs(x), set1(0.25f), set1(1.0f));
  Vec q = set1(0.025725604966282845f);
  q = fma(q, t, set1(-0.15281924605369568f));
  q = fma(q, t, set1(0.29614153504371643f));
  q = fma(q, t, set1(-0.20580492913722992f));
  q = fma(q, t, set1(0.20177271962165833f));
  q = fma(q, t, set1(0.032921966165304184f));
  q = fma(q, t, set1(0.10374815762042999f));
  q = fma(q, t, set1(0.09851664304733276f));
  q = fma(q, t, set1(0.09979749470949173f));
  const Vec tail = q * t * e;
  return select(less(x, zero()), tail, set1(1.0f) - tail);
}

// x Phi(x).
inline Vec gelu(Vec x) {
  const Vec limited = min(set1(20.0f), max(set1(-20.0f), x));  // keeps infinities out of 0 * inf
  return x * normal_cdf(limited, exp(limited * limited * set1(-0.5f)));
}

// Phi(x) + x phi(x).
inline Vec gelu_gradient(Vec x) {
  const Vec limited = min(set1(20.0f), max(set1(-20.0f), x));
  const Vec e = exp(limited * limited * set1(-0.5f));
  return fma(limited * set1(0.3989422804014327f), e, normal_cdf(limited, e));
}

// (1 - e^(-2|x|)) / (1 + e^(-2|x|)) with the sign of x; a polynomial near 0, where the difference would cancel.
inline Vec tanh(Vec x) {
  const Vec a = abs(x);
  const Vec e = exp(a * set1(-2.0f));
  const Vec wide = (set1(1.0f) - e) / (set1(1.0f) + e);
  const Vec s = x * x;
  Vec p = set1(-0.0088632355f);  // 1382 / 155925 and lower terms of the Taylor series
  p = fma(p, s, set1(0.021869488f));
  p = fma(p, s, set1(-0.053968254f));
  p = fma(p, s, set1(0.13333333f));
  p = fma(p, s, set1(-0.33333333f));
  const Vec narrow = fma(p * s, a, a);
  return copy_sign(select(less(a, set1(0.35f)), narrow, wide), x);
}

}  // namespace
}  // namespace mome::MOME_ISA
