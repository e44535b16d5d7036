// The exponential of what is not positive, in a form that compilers vectorise.
#pragma once

#include <cstdint>
#include <cstring>

#include "support/intrinsics.hpp"
#include "support/lanes.hpp"

namespace weakseg {

// exp(x) for x <= 0 to 2e-7, in a form that compilers vectorise; 1e-38 below -87. What is not a number counts as -87.
WEAKSEG_INLINED inline float exp_of_negative(float x) {
  x = x > -87.0F ? x : -87.0F;
  const auto power = static_cast<std::int32_t>(x * 1.44269504F - 0.5F);  // rounds: x is not positive
  const float n = static_cast<float>(power);
  const float r = (x - n * 0.693359375F) + n * 2.12194440e-4F;  // ln 2 in two parts
  const float high = ((r * (1.0F / 5040) + 1.0F / 720) * r + 1.0F / 120) * r + 1.0F / 24;
  const float sum = (((high * r + 1.0F / 6) * r + 0.5F) * r + 1.0F) * r + 1.0F;
  const std::int32_t bits = (power + 127) * (1 << 23);
  float scale;
  std::memcpy(&scale, &bits, sizeof scale);
  return sum * scale;
}

// Replaces x <= 0 by exp(x) to 2e-7; 1e-38 below -87.
WEAKSEG_INLINED inline void exp_of_negative(Lanes& x) {
  keep_greater(x, Lanes{} - 87.0F);
  IntegerLanes power;
  to_integers(x * 1.44269504F - 0.5F, power);  // rounds: x is not positive
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
