// NumPy arrays as arguments and results of bound functions.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <memory>
#include <stdexcept>
#include <utility>
#include <vector>

namespace nb = nanobind;

template <class T, int N>
using In = nb::ndarray<const T, nb::ndim<N>, nb::c_contig, nb::device::cpu>;
template <class T, int N>
using Out = nb::ndarray<T, nb::ndim<N>, nb::c_contig, nb::device::cpu>;
template <class T, int N>
using New = nb::ndarray<nb::numpy, T, nb::ndim<N>>;

inline void require(bool condition, const char* message) {
  if (!condition) throw std::invalid_argument(message);
}

inline std::size_t at_least_one(int num_threads) { return static_cast<std::size_t>(std::max(num_threads, 1)); }

// An array that owns the numbers of a vector.
template <int N, class T>
New<T, N> to_numpy(std::vector<T>&& values, const std::array<std::size_t, N>& shape) {
  auto owned = std::make_unique<std::vector<T>>(std::move(values));
  T* data = owned->data();
  const nb::capsule owner(owned.release(), [](void* p) noexcept { delete static_cast<std::vector<T>*>(p); });
  return New<T, N>(data, N, shape.data(), owner);
}
