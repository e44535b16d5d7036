// The parts of a softmax over the planes of an image.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>

#include "support/exponential.hpp"
#include "support/wide_vectors.hpp"

namespace weakseg {

struct Softmax {
  std::size_t pixels = 0, classes = 0;  // 1 to 255
  const float* scores = nullptr;        // one plane per class
  const std::uint8_t* valid = nullptr;  // 0 on padding
};

// Splits -log softmax_k = best - score_k + log(sum_j exp(score_j - best)) into what depends on the label and what does
// not: writes the best score of every pixel, NaN where a score is, and returns the sum of the logarithms over the valid
// pixels.
class SplitSoftmax {
 public:
  explicit SplitSoftmax(const Softmax& problem) : problem_(problem) {}

  double run(float* best) {
    for (std::size_t first = 0; first < problem_.pixels; first += kChunk) {
      const std::size_t count = std::min(kChunk, problem_.pixels - first);
      vectorized([&]() WEAKSEG_INLINED {
        find_best(first, count, best + first);
        add_exponentials(first, count, best + first);
        multiply(count);
      });
      for (const double product : products_) logarithms_ += std::log(product);
    }
    return logarithms_;
  }

 private:
  // A sum of up to 255 exponentials, the greatest of them 1, is at most 255. Products of kChunk / kPartialProducts of
  // them stay below 255^64 = 1e154, so that one logarithm, which is expensive, serves 64 pixels.
  static constexpr std::size_t kChunk = 512, kPartialProducts = 8;

  const float* plane(std::size_t k, std::size_t first) const { return problem_.scores + k * problem_.pixels + first; }

  WEAKSEG_INLINED void find_best(std::size_t first, std::size_t count, float* best) const {
    std::copy_n(plane(0, first), count, best);
    for (std::size_t k = 1; k < problem_.classes; ++k) {
      const float* scores = plane(k, first);
      for (std::size_t x = 0; x < count; ++x) {
        const bool takes = (scores[x] > best[x]) | (scores[x] != scores[x]);  // once NaN, always NaN
        best[x] = takes ? scores[x] : best[x];
      }
    }
  }

  WEAKSEG_INLINED void add_exponentials(std::size_t first, std::size_t count, const float* best) {
    sums_.fill(0.0F);
    for (std::size_t k = 0; k < problem_.classes; ++k) {
      const float* scores = plane(k, first);
      for (std::size_t x = 0; x < count; ++x) sums_[x] += exp_of_negative(scores[x] - best[x]);
    }
    const std::uint8_t* valid = problem_.valid + first;
    for (std::size_t x = 0; x < count; ++x) sums_[x] = valid[x] != 0 ? sums_[x] : 1.0F;
    std::fill(sums_.begin() + static_cast<std::ptrdiff_t>(count), sums_.end(), 1.0F);
  }

  WEAKSEG_INLINED void multiply(std::size_t count) {
    products_.fill(1.0);
    for (std::size_t x = 0; x < count; x += kPartialProducts) {
      for (std::size_t i = 0; i < kPartialProducts; ++i) products_[i] *= sums_[x + i];
    }
  }

  const Softmax& problem_;
  double logarithms_ = 0;
  std::array<float, kChunk> sums_;
  std::array<double, kPartialProducts> products_;
};

}  // namespace weakseg
