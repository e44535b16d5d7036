// Contrast-sensitive Potts weights on the pixel grid, as `GridPotts.edge_weights` defines them.
//   Y. Boykov, M.-P. Jolly, "Interactive Graph Cuts for Optimal Boundary and Region Segmentation of Objects in N-D
//   Images", ICCV 2001.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <utility>
#include <vector>

#include "grid_maxflow.hpp"

namespace weakseg {

struct PottsWeights {
  int height = 0, width = 0, channels = 0;
  const float* image = nullptr;         // a plane a channel
  const std::uint8_t* valid = nullptr;  // 0 on padding
  double weight = 1;
  bool normalize = false;  // by pixels / edges
};

// exp(x) for x <= 0 to 2e-7, in a form that compilers vectorise; 1e-38 below -87. What is not a number counts as -87.
inline float exp_of_negative(float x) {
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

// Calls visit(plane, first pixel, second pixel, count) for each row of the edges in each direction: edge x of a row joins
// the pixels first + x and second + x.
template <int D, class Visit>
void for_each_row_of_edges(const PottsWeights& problem, Visit visit) {
  const auto width = static_cast<std::size_t>(problem.width);
  for (int e = 0; e < D / 2; ++e) {
    const int dy = kDeltaRow[2 * e], dx = kDeltaColumn[2 * e];
    const std::size_t count = width - (dx != 0 ? 1 : 0);
    for (int row = 0; row + dy < problem.height; ++row) {
      const std::size_t here = static_cast<std::size_t>(row) * width, there = here + static_cast<std::size_t>(dy) * width;
      visit(static_cast<std::size_t>(e), here + (dx < 0 ? 1 : 0), there + (dx > 0 ? 1 : 0), count);
    }
  }
}

// The number of edges, and the sum of the squared differences of color along them, which go to `planes`; -1 where there
// is no edge. `planes` must be zero.
template <int D>
std::pair<double, double> contrasts(const PottsWeights& problem, float* planes) {
  const auto width = static_cast<std::size_t>(problem.width), pixels = width * static_cast<std::size_t>(problem.height);
  std::vector<double> sums(width, 0.0);  // by column: sums that do not wait for each other
  std::vector<std::int32_t> counts(width, 0);
  for_each_row_of_edges<D>(problem, [&](std::size_t e, std::size_t first, std::size_t second, std::size_t count) {
    float* contrast = planes + e * pixels + first;
    for (int c = 0; c < problem.channels; ++c) {
      const float* color = problem.image + static_cast<std::size_t>(c) * pixels;
      for (std::size_t x = 0; x < count; ++x) {
        const float difference = color[first + x] - color[second + x];
        contrast[x] += difference * difference;
      }
    }
    for (std::size_t x = 0; x < count; ++x) {  // what stands on padding, be it not a number, must not come through
      const bool exists = (problem.valid[first + x] != 0) & (problem.valid[second + x] != 0);
      sums[x] += exists ? contrast[x] : 0.0F;
      contrast[x] = exists ? contrast[x] : -1.0F;
      counts[x] += exists;
    }
  });
  return {std::accumulate(counts.begin(), counts.end(), 0.0), std::accumulate(sums.begin(), sums.end(), 0.0)};
}

// Writes D / 2 planes of weights, 0 where there is no edge; not a number where the image is not.
template <int D>
void potts_weights(const PottsWeights& problem, float* planes) {
  const std::size_t pixels = static_cast<std::size_t>(problem.width) * static_cast<std::size_t>(problem.height);
  std::fill_n(planes, pixels * (D / 2), 0.0F);
  const auto [edges, sum] = contrasts<D>(problem, planes);
  const double sigma2 = sum > 0 ? sum / edges : 1.0;
  const auto slope = static_cast<float>(std::max(-0.5 / sigma2, -1e38));
  double factor = problem.weight;
  if (problem.normalize && edges > 0) {
    factor *= static_cast<double>(pixels - static_cast<std::size_t>(std::count(problem.valid, problem.valid + pixels, 0))) / edges;
  }
  for_each_row_of_edges<D>(problem, [&](std::size_t e, std::size_t first, std::size_t, std::size_t count) {
    const auto scale = static_cast<float>(e < 2 ? factor : factor * std::sqrt(0.5));  // the diagonals are longer
    float* weight = planes + e * pixels + first;
    for (std::size_t x = 0; x < count; ++x) {
      const float contrast = weight[x];
      const float value = scale * exp_of_negative(slope * contrast) + 0.0F * contrast;
      weight[x] = contrast == -1.0F ? 0.0F : value;
    }
  });
}

}  // namespace weakseg
