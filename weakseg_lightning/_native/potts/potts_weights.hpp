// Contrast-sensitive Potts weights on the pixel grid, as `GridPotts.edge_weights` defines them.
//   Y. Boykov, M.-P. Jolly, "Interactive Graph Cuts for Optimal Boundary and Region Segmentation of Objects in N-D
//   Images", ICCV 2001.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <numeric>

#include "potts/pixel_edges.hpp"
#include "support/exponential.hpp"
#include "support/wide_vectors.hpp"

namespace weakseg {

struct PottsWeights {
  int height = 0, width = 0, channels = 0;
  const float* image = nullptr;         // one plane per channel
  const std::uint8_t* valid = nullptr;  // 0 on padding
  double weight = 1;
  bool normalize = false;  // whether to multiply by pixels / edges
};

// Two passes over the edges of an image, row by row: the weights need the mean contrast.
template <int D>
class PottsWeightsOfImage {
 public:
  explicit PottsWeightsOfImage(const PottsWeights& problem)
      : problem_(problem),
        width_(static_cast<std::size_t>(problem.width)),
        pixels_(width_ * static_cast<std::size_t>(problem.height)),
        padding_(count_zeros(problem.valid, pixels_)) {}

  // Writes D / 2 planes of weights, 0 where there is no edge, NaN where the image is not finite.
  void write(float* planes) {
    vectorized([&]() WEAKSEG_INLINED { padding_ == 0 ? add_contrasts<false>(planes) : add_contrasts<true>(planes); });
    const double sigma2 = sum_ > 0 ? sum_ / edges_ : 1.0;
    const auto slope = static_cast<float>(std::max(-0.5 / sigma2, -1e38));
    double factor = problem_.weight;
    if (problem_.normalize && edges_ > 0) factor *= static_cast<double>(pixels_ - padding_) / edges_;
    vectorized([&]() WEAKSEG_INLINED {
      padding_ == 0 ? weigh<false>(planes, slope, factor) : weigh<true>(planes, slope, factor);
    });
  }

 private:
  static std::size_t count_zeros(const std::uint8_t* bytes, std::size_t count) {
    if (std::memchr(bytes, 0, count) == nullptr) return 0;  // much faster, and true of most images
    return static_cast<std::size_t>(std::count(bytes, bytes + count, 0));
  }

  static constexpr std::size_t kPartialSums = 8;  // see BestLabels

  EdgeRow row_of_edges(int row, int e) const { return edge_row(problem_.height, problem_.width, row, e); }

  // Writes the squared color differences, -1 where there is no edge, and adds up those of the edges.
  template <bool Padded>
  WEAKSEG_INLINED void add_contrasts(float* planes) {
    std::array<double, kPartialSums> sums{};
    std::size_t edges = 0;
    for (int row = 0; row < problem_.height; ++row) {
      for (int e = 0; e < D / 2; ++e) {
        const EdgeRow edge = row_of_edges(row, e);
        float* contrast = planes + static_cast<std::size_t>(e) * pixels_ + edge.first;
        square_differences(edge, contrast);
        edges += Padded ? mask(edge, contrast) : edge.count;
        std::size_t x = 0;
        for (; x + kPartialSums <= edge.count; x += kPartialSums) {
          for (std::size_t i = 0; i < kPartialSums; ++i) sums[i] += value_of<Padded>(contrast[x + i]);
        }
        for (; x < edge.count; ++x) sums[0] += value_of<Padded>(contrast[x]);
      }
    }
    sum_ = std::accumulate(sums.begin(), sums.end(), 0.0);
    edges_ = static_cast<double>(edges);
  }

  template <bool Padded>
  WEAKSEG_INLINED static double value_of(float contrast) {
    return Padded && contrast == -1.0F ? 0.0F : contrast;
  }

  WEAKSEG_INLINED void square_differences(const EdgeRow& edge, float* contrast) const {
    if (problem_.channels == 3) {  // in one pass
      const float *red = problem_.image, *green = red + pixels_, *blue = green + pixels_;
      for (std::size_t x = 0; x < edge.count; ++x) {
        const float r = red[edge.first + x] - red[edge.second + x], g = green[edge.first + x] - green[edge.second + x],
                    b = blue[edge.first + x] - blue[edge.second + x];
        contrast[x] = r * r + g * g + b * b;
      }
      return;
    }
    std::fill_n(contrast, edge.count, 0.0F);
    for (int c = 0; c < problem_.channels; ++c) {
      const float* color = problem_.image + static_cast<std::size_t>(c) * pixels_;
      for (std::size_t x = 0; x < edge.count; ++x) {
        const float difference = color[edge.first + x] - color[edge.second + x];
        contrast[x] += difference * difference;
      }
    }
  }

  // Replaces the contrast of missing edges, which may be NaN, by -1. Returns the number of edges.
  WEAKSEG_INLINED std::size_t mask(const EdgeRow& edge, float* contrast) const {
    std::int32_t count = 0;
    for (std::size_t x = 0; x < edge.count; ++x) {
      const bool exists = (problem_.valid[edge.first + x] != 0) & (problem_.valid[edge.second + x] != 0);
      contrast[x] = exists ? contrast[x] : -1.0F;
      count += exists;
    }
    return static_cast<std::size_t>(count);
  }

  // Turns the contrasts into weights.
  template <bool Padded>
  WEAKSEG_INLINED void weigh(float* planes, float slope, double factor) const {
    for (int e = 0; e < D / 2; ++e) {
      const auto scale = static_cast<float>(e < 2 ? factor : factor * std::sqrt(0.5));  // the diagonals are longer
      for (int row = 0; row < problem_.height; ++row) {
        float* line = planes + static_cast<std::size_t>(e) * pixels_ + static_cast<std::size_t>(row) * width_;
        const EdgeRow edge = row_of_edges(row, e);
        if (edge.count == 0) {
          std::fill_n(line, width_, 0.0F);
          continue;
        }
        if (edge.count < width_) line[kDeltaColumn[2 * e] > 0 ? width_ - 1 : 0] = 0.0F;
        float* weight = planes + static_cast<std::size_t>(e) * pixels_ + edge.first;
        for (std::size_t x = 0; x < edge.count; ++x) {
          const float contrast = weight[x];
          const float value = scale * exp_of_negative(slope * contrast) + 0.0F * contrast;  // keeps NaN
          weight[x] = Padded && contrast == -1.0F ? 0.0F : value;
        }
      }
    }
  }

  const PottsWeights& problem_;
  std::size_t width_, pixels_, padding_;
  double sum_ = 0, edges_ = 0;
};

}  // namespace weakseg
