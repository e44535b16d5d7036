// The logarithm of positive numbers, without a branch or a call, so that loops over it vectorize.
//
// x = 2^n m with m between sqrt(1/2) and sqrt(2); ln m = 2 artanh(t) with t = (m - 1) / (m + 1), of which |t| < 0.172:
// five terms of the series leave 7e-10. The error is that of rounding, below 2e-7 of the result.
#pragma once

#include <cstdint>
#include <cstring>

#include "support/intrinsics.hpp"

namespace weakseg {

// Of x >= 1.2e-38: not of denormal numbers, nor of 0.
WEAKSEG_INLINED inline float log_of_positive(float x) {
  std::int32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  const std::int32_t above = bits - 0x3f3504f3;  // the bits of sqrt(1/2)
  const std::int32_t power = above >> 23;        // rounded towards minus infinity
  bits = (above & 0x7fffff) + 0x3f3504f3;
  float m;
  std::memcpy(&m, &bits, sizeof m);
  const float t = (m - 1) / (m + 1), square = t * t;
  const float series = (((square * (1.0F / 9) + 1.0F / 7) * square + 1.0F / 5) * square + 1.0F / 3) * square;
  return static_cast<float>(power) * 0.693147181F + 2 * (t + t * series);
}

}  // namespace weakseg
