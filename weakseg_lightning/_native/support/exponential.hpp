// The exponential of numbers that are not positive, without a branch or a call, so that loops over it vectorize.
//
// exp(x) = 2^n exp(r), where n is the nearest integer to x / ln 2 and |r| <= ln(2) / 2. ln 2 is subtracted in two
// parts, the first of which has few digits, so that n times it is exact. A polynomial gives exp(r), and n is added to
// the exponent by arithmetic on the bits of a float. The relative error is below 2e-7. Below -87, where 2^n would be
// denormal, x is raised to it: exp(-87) is 1e-38.
#pragma once

#include <cstdint>
#include <cstring>

#include "support/intrinsics.hpp"
#include "support/lanes.hpp"

namespace weakseg {

// NaN counts as -87.
WEAKSEG_INLINED inline float exp_of_negative(float x) {
  x = x > -87.0F ? x : -87.0F;
  const auto power = static_cast<std::int32_t>(x * 1.44269504F - 0.5F);  // truncation rounds to nearest, as x <= 0
  const float n = static_cast<float>(power);
  const float r = (x - n * 0.693359375F) + n * 2.12194440e-4F;  // ln 2 in two parts
  const float high = ((r * (1.0F / 5040) + 1.0F / 720) * r + 1.0F / 120) * r + 1.0F / 24;
  const float sum = (((high * r + 1.0F / 6) * r + 0.5F) * r + 1.0F) * r + 1.0F;
  const std::int32_t bits = (power + 127) * (1 << 23);
  float scale;
  std::memcpy(&scale, &bits, sizeof scale);
  return sum * scale;
}

// In place. NaN stays NaN.
WEAKSEG_INLINED inline void exp_of_negative(Lanes& x) {
  keep_greater(x, Lanes{} - 87.0F);
  IntegerLanes power;
  to_integers(x * 1.44269504F - 0.5F, power);  // truncation rounds to nearest, as x <= 0
  Lanes n;
  to_floats(power, n);
  const Lanes r = (x - n * 0.693359375F) + n * 2.12194440e-4F;  // ln 2 in two parts
  const Lanes high = ((r * (1.0F / 5040) + 1.0F / 720) * r + 1.0F / 120) * r + 1.0F / 24;
  const Lanes sum = (((high * r + 1.0F / 6) * r + 0.5F) * r + 1.0F) * r + 1.0F;
  const IntegerLanes bits = (power + 127) * (1 << 23);
  Lanes scale;
  std::memcpy(&scale, &bits, sizeof scale);
  x = sum * scale;
}

}  // namespace weakseg
