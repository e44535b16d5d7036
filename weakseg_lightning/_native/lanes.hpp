// Eight single-precision numbers at a time, in whatever registers the calling code is compiled for.
#pragma once

#include <array>
#include <cstddef>
#include <cstring>

#include "wide_vectors.hpp"

namespace weakseg {

constexpr std::size_t kLanes = 8;

#if defined(__GNUC__) || defined(__clang__)
using Lanes = float __attribute__((vector_size(kLanes * sizeof(float))));
#else
struct Lanes {
  std::array<float, kLanes> values;
  float operator[](std::size_t i) const { return values[i]; }
  float& operator[](std::size_t i) { return values[i]; }
};
inline Lanes operator+(Lanes a, const Lanes& b) {
  for (std::size_t i = 0; i < kLanes; ++i) a[i] += b[i];
  return a;
}
inline Lanes operator*(Lanes a, float factor) {
  for (std::size_t i = 0; i < kLanes; ++i) a[i] *= factor;
  return a;
}
inline Lanes& operator+=(Lanes& a, const Lanes& b) { return a = a + b; }
#endif

WEAKSEG_INLINED inline void load(Lanes& lanes, const float* from) { std::memcpy(&lanes, from, sizeof lanes); }
WEAKSEG_INLINED inline void store(const Lanes& lanes, float* to) { std::memcpy(to, &lanes, sizeof lanes); }

}  // namespace weakseg
