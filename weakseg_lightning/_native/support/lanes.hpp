// Vectors of single-precision numbers, in whatever registers the calling code is compiled for.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "support/intrinsics.hpp"

namespace weakseg {

constexpr std::size_t kLanes = 8;  // numbers in a vector: one register of AVX, two of SSE or NEON

#if defined(__GNUC__) || defined(__clang__)

// Always passed by reference: by value, the calling convention depends on the target that a function is compiled for.
using Lanes = float __attribute__((vector_size(kLanes * sizeof(float))));
using IntegerLanes = std::int32_t __attribute__((vector_size(kLanes * sizeof(std::int32_t))));

WEAKSEG_INLINED inline void keep_greater(Lanes& lanes, const Lanes& other) { lanes = other > lanes ? other : lanes; }
WEAKSEG_INLINED inline void drop_below(Lanes& lanes, float least) { lanes = lanes < least ? Lanes{} : lanes; }
WEAKSEG_INLINED inline void to_integers(const Lanes& lanes, IntegerLanes& integers) {
  integers = __builtin_convertvector(lanes, IntegerLanes);  // towards zero
}
WEAKSEG_INLINED inline void to_floats(const IntegerLanes& integers, Lanes& lanes) {
  lanes = __builtin_convertvector(integers, Lanes);
}

#else

template <class T>
struct EightOf {
  std::array<T, kLanes> values;
  T operator[](std::size_t i) const { return values[i]; }
  T& operator[](std::size_t i) { return values[i]; }
};
template <class T>
EightOf<T> operator+(EightOf<T> a, const EightOf<T>& b) {
  for (std::size_t i = 0; i < kLanes; ++i) a[i] += b[i];
  return a;
}
template <class T>
EightOf<T> operator+(EightOf<T> a, T b) {
  for (std::size_t i = 0; i < kLanes; ++i) a[i] += b;
  return a;
}
template <class T>
EightOf<T> operator-(EightOf<T> a, T b) {
  return a + -b;
}
template <class T>
EightOf<T> operator-(EightOf<T> a, const EightOf<T>& b) {
  for (std::size_t i = 0; i < kLanes; ++i) a[i] -= b[i];
  return a;
}
template <class T>
EightOf<T> operator*(EightOf<T> a, T factor) {
  for (std::size_t i = 0; i < kLanes; ++i) a[i] *= factor;
  return a;
}
template <class T>
EightOf<T> operator*(EightOf<T> a, const EightOf<T>& b) {
  for (std::size_t i = 0; i < kLanes; ++i) a[i] *= b[i];
  return a;
}
template <class T, class Other>
EightOf<T>& operator+=(EightOf<T>& a, const Other& b) {
  return a = a + b;
}
using Lanes = EightOf<float>;
using IntegerLanes = EightOf<std::int32_t>;

inline void keep_greater(Lanes& lanes, const Lanes& other) {
  for (std::size_t i = 0; i < kLanes; ++i) lanes[i] = other[i] > lanes[i] ? other[i] : lanes[i];
}
inline void drop_below(Lanes& lanes, float least) {
  for (std::size_t i = 0; i < kLanes; ++i) lanes[i] = lanes[i] < least ? 0.0F : lanes[i];
}
inline void to_integers(const Lanes& lanes, IntegerLanes& integers) {
  for (std::size_t i = 0; i < kLanes; ++i) integers[i] = static_cast<std::int32_t>(lanes[i]);
}
inline void to_floats(const IntegerLanes& integers, Lanes& lanes) {
  for (std::size_t i = 0; i < kLanes; ++i) lanes[i] = static_cast<float>(integers[i]);
}

#endif

// Storage for vectors, aligned, since one that straddles two cache lines is slow to store and load again.
class AlignedFloats {
 public:
  void resize(std::size_t vectors) { vectors_.resize(vectors); }
  void assign(std::size_t vectors, float value) {
    Vector vector;
    vector.values.fill(value);
    vectors_.assign(vectors, vector);
  }
  std::size_t vectors() const { return vectors_.size(); }
  float* data() { return vectors_.empty() ? nullptr : vectors_.front().values.data(); }
  const float* data() const { return vectors_.empty() ? nullptr : vectors_.front().values.data(); }
  void swap(AlignedFloats& other) { vectors_.swap(other.vectors_); }

 private:
  struct alignas(kLanes * sizeof(float)) Vector {
    std::array<float, kLanes> values;
  };
  std::vector<Vector> vectors_;
};

WEAKSEG_INLINED inline void load(Lanes& lanes, const float* from) { std::memcpy(&lanes, from, sizeof lanes); }
WEAKSEG_INLINED inline void store(const Lanes& lanes, float* to) { std::memcpy(to, &lanes, sizeof lanes); }

// Sum and maximum of the lanes, in an order that does not depend on the processor.
WEAKSEG_INLINED inline float sum_of(const Lanes& x) {
  return ((x[0] + x[4]) + (x[1] + x[5])) + ((x[2] + x[6]) + (x[3] + x[7]));
}
WEAKSEG_INLINED inline float greatest_of(const Lanes& x) {
  const auto greater = [](float a, float b) { return a > b ? a : b; };
  return greater(greater(greater(x[0], x[4]), greater(x[1], x[5])), greater(greater(x[2], x[6]), greater(x[3], x[7])));
}

}  // namespace weakseg
