// First and second moments of label distributions, summed over the pixels.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <vector>

namespace weakseg {

// The distributions of one image: at each pixel odds times weights, divided by their sum over the classes.
struct WeightedOdds {
  std::size_t classes = 0, pixels = 0;
  const float* odds = nullptr;  // one plane per class
  const double* weights = nullptr;
};

class LabelMoments {
 public:
  // Writes for each class the sums of its products with all classes and, in the last column, its own sum.
  void sum(const WeightedOdds& image, double* sums) {
    const std::size_t classes = image.classes, stride = classes + 1;
    probabilities_.assign(classes * kChunk, 0.0F);
    std::fill(sums, sums + classes * stride, 0.0);
    for (std::size_t first = 0; first < image.pixels; first += kChunk) {
      compute_probabilities(image, first);
      for (std::size_t k = 0; k < classes; ++k) {
        for (std::size_t l = k; l < classes; ++l) sums[k * stride + l] += product(probabilities(k), probabilities(l));
        sums[k * stride + classes] += total(probabilities(k));
      }
    }
    for (std::size_t k = 0; k < classes; ++k) {
      for (std::size_t l = k + 1; l < classes; ++l) sums[l * stride + k] = sums[k * stride + l];
    }
  }

 private:
  static constexpr std::size_t kChunk = 128, kPartialSums = 16;
  static constexpr float kFaint = 1e-18F;  // its square is still a normal number
  using PartialSums = std::array<float, kPartialSums>;

  float* probabilities(std::size_t k) { return probabilities_.data() + k * kChunk; }

  // Computes a chunk of pixels for all classes. Probabilities below kFaint become 0: products that underflow into
  // denormal numbers are many times slower.
  void compute_probabilities(const WeightedOdds& image, std::size_t first) {
    const std::size_t count = std::min(kChunk, image.pixels - first);
    std::array<float, kChunk> normalizer{};
    for (std::size_t k = 0; k < image.classes; ++k) {
      const float* odds = image.odds + k * image.pixels + first;
      const auto weight = static_cast<float>(image.weights[k]);
      float* probability = probabilities(k);
      for (std::size_t i = 0; i < count; ++i) normalizer[i] += probability[i] = weight * odds[i];
      std::fill(probability + count, probability + kChunk, 0.0F);
    }
    for (std::size_t i = 0; i < count; ++i) normalizer[i] = 1 / normalizer[i];
    for (std::size_t k = 0; k < image.classes; ++k) {
      float* probability = probabilities(k);
      for (std::size_t i = 0; i < count; ++i) {
        const float value = probability[i] * normalizer[i];
        probability[i] = value > kFaint ? value : 0.0F;
      }
    }
  }

  // Floating-point addition is not associative, so that a compiler may not spread one sum over the lanes of a register.
  // Sums of a chunk are in single precision, for speed; those of all chunks are not.
  static double product(const float* a, const float* b) {
    PartialSums sums{};
    for (std::size_t i = 0; i < kChunk; i += kPartialSums) {
      for (std::size_t j = 0; j < kPartialSums; ++j) sums[j] += a[i + j] * b[i + j];
    }
    return add_up(sums);
  }

  static double total(const float* a) {
    PartialSums sums{};
    for (std::size_t i = 0; i < kChunk; i += kPartialSums) {
      for (std::size_t j = 0; j < kPartialSums; ++j) sums[j] += a[i + j];
    }
    return add_up(sums);
  }

  static double add_up(PartialSums& sums) {
    for (std::size_t half = kPartialSums / 2; half > 0; half /= 2) {
      for (std::size_t j = 0; j < half; ++j) sums[j] += sums[j + half];
    }
    return static_cast<double>(sums[0]);
  }

  std::vector<float> probabilities_;
};

}  // namespace weakseg
