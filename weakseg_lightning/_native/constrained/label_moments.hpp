// Sums over the pixels of label distributions, and of the products of their classes.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <vector>

namespace weakseg {

// The distributions of one image: at each pixel odds times weights, divided by their sum.
struct WeightedOdds {
  std::size_t classes = 0, pixels = 0;
  const float* odds = nullptr;  // a plane a class
  const double* weights = nullptr;
};

class LabelMoments {
 public:
  // Writes, for each class, the sums of its products with all classes, and its own sum in the last column.
  void sum(const WeightedOdds& image, double* sums) {
    const std::size_t classes = image.classes, stride = classes + 1;
    shares_.assign(classes * kBlock, 0.0F);
    std::fill(sums, sums + classes * stride, 0.0);
    for (std::size_t first = 0; first < image.pixels; first += kBlock) {
      share_out(image, first);
      for (std::size_t k = 0; k < classes; ++k) {
        for (std::size_t l = k; l < classes; ++l) sums[k * stride + l] += product(shares(k), shares(l));
        sums[k * stride + classes] += total(shares(k));
      }
    }
    for (std::size_t k = 0; k < classes; ++k) {
      for (std::size_t l = k + 1; l < classes; ++l) sums[l * stride + k] = sums[k * stride + l];
    }
  }

 private:
  static constexpr std::size_t kBlock = 128, kLanes = 16;
  static constexpr float kFaint = 1e-18F;
  using Lanes = std::array<float, kLanes>;

  float* shares(std::size_t k) { return shares_.data() + k * kBlock; }

  // The probabilities of a block of pixels; those below kFaint count as 0, since products that underflow are slow.
  void share_out(const WeightedOdds& image, std::size_t first) {
    const std::size_t count = std::min(kBlock, image.pixels - first);
    std::array<float, kBlock> part{};
    for (std::size_t k = 0; k < image.classes; ++k) {
      const float* odds = image.odds + k * image.pixels + first;
      const auto weight = static_cast<float>(image.weights[k]);
      float* share = shares(k);
      for (std::size_t i = 0; i < count; ++i) part[i] += share[i] = weight * odds[i];
      std::fill(share + count, share + kBlock, 0.0F);
    }
    for (std::size_t i = 0; i < count; ++i) part[i] = 1 / part[i];
    for (std::size_t k = 0; k < image.classes; ++k) {
      float* share = shares(k);
      for (std::size_t i = 0; i < count; ++i) {
        const float value = share[i] * part[i];
        share[i] = value > kFaint ? value : 0.0F;
      }
    }
  }

  // Sums in lanes, which compilers may keep in vector registers as they may not reorder a single sum.
  static double product(const float* a, const float* b) {
    Lanes lanes{};
    for (std::size_t i = 0; i < kBlock; i += kLanes) {
      for (std::size_t j = 0; j < kLanes; ++j) lanes[j] += a[i + j] * b[i + j];
    }
    return add_up(lanes);
  }

  static double total(const float* a) {
    Lanes lanes{};
    for (std::size_t i = 0; i < kBlock; i += kLanes) {
      for (std::size_t j = 0; j < kLanes; ++j) lanes[j] += a[i + j];
    }
    return add_up(lanes);
  }

  static double add_up(Lanes& lanes) {
    for (std::size_t half = kLanes / 2; half > 0; half /= 2) {
      for (std::size_t j = 0; j < half; ++j) lanes[j] += lanes[j + half];
    }
    return static_cast<double>(lanes[0]);
  }

  std::vector<float> shares_;
};

}  // namespace weakseg
