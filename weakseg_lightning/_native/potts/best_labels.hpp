// The label that costs each pixel of an image least.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <vector>

#include "potts/framed_grid.hpp"
#include "potts/potts_problem.hpp"
#include "support/labels.hpp"
#include "support/wide_vectors.hpp"

namespace weakseg {

// By node: the first among the cheapest labels of a pixel, at a seed the seed's; kVoid on padding and in the frame.
class BestLabels {
 public:
  using Index = FramedGrid::Index;

  void reserve(std::size_t nodes) { labels_.reserve(nodes); }

  // False if a score of a valid pixel is not finite.
  bool find(const PottsProblem& problem, const FramedGrid& grid) {
    bool finite = false;
    vectorized([&]() WEAKSEG_INLINED { finite = read(problem, grid); });
    return finite;
  }

  std::uint8_t operator[](Index node) const { return labels_[node]; }
  const std::uint8_t* data() const { return labels_.data(); }

  // The sum of what they cost.
  double unary() const { return slope_ * sum_; }

  // The number of pixels (or frame) of each label. Labels come in runs, so that eight can mostly be counted at once.
  std::array<std::size_t, 256> areas() const {
    std::array<std::size_t, 256> areas{};
    std::size_t i = 0;
    for (; i + 8 <= labels_.size(); i += 8) {
      std::uint64_t eight;
      std::memcpy(&eight, labels_.data() + i, sizeof eight);
      if (eight == 0x0101010101010101U * labels_[i]) {
        areas[labels_[i]] += 8;
      } else {
        for (std::size_t j = i; j < i + 8; ++j) ++areas[labels_[j]];
      }
    }
    for (; i < labels_.size(); ++i) ++areas[labels_[i]];
    return areas;
  }

 private:
  // Floating-point addition is not associative, so that a compiler may not split one sum into the lanes of a register.
  static constexpr std::size_t kPartialSums = 8;

  WEAKSEG_INLINED bool read(const PottsProblem& problem, const FramedGrid& grid) {
    labels_.assign(grid.size, kVoid);
    const auto width = static_cast<std::size_t>(problem.width);
    std::vector<float> least(width), poison(width);
    std::vector<std::uint8_t> label(width);
    std::array<double, kPartialSums> sums{};
    double sum_of_seeds = 0;
    for (int row = 0; row < problem.height; ++row) {
      const std::size_t first = static_cast<std::size_t>(row) * width;
      find_in_row(problem, first, least.data(), poison.data(), label.data());
      const std::uint8_t *valid = problem.valid + first, *seeds = problem.seeds + first;
      std::uint8_t* best = labels_.data() + grid.node(row, 0);
      std::uint8_t seeded = 0;
      std::int32_t bad = 0;
      for (std::size_t x = 0; x < width; ++x) bad |= static_cast<std::int32_t>((valid[x] != 0) & (poison[x] != 0));
      if (bad != 0) return false;
      for (std::size_t x = 0; x < width; ++x) {
        const std::uint8_t own = seeds[x] == kVoid ? label[x] : seeds[x];
        best[x] = valid[x] != 0 ? own : kVoid;
        seeded |= static_cast<std::uint8_t>((valid[x] != 0) & (seeds[x] != kVoid));
      }
      add_row(problem, first, least.data(), sums);
      for (std::size_t x = 0; x < width && seeded != 0; ++x) {
        if (valid[x] != 0 && seeds[x] != kVoid) sum_of_seeds += problem.above_zero(seeds[x], first + x);
      }
    }
    sum_ = std::accumulate(sums.begin(), sums.end(), sum_of_seeds);
    slope_ = problem.slope;
    return true;
  }

  // Writes the best label of each pixel of a row, and its score with the sign of the slope. `poison` is 0 where all
  // scores are finite, and otherwise not a number: 0 times infinity is not 0, and no branch is needed to find that out.
  WEAKSEG_INLINED void find_in_row(const PottsProblem& problem, std::size_t first, float* least, float* poison,
                                   std::uint8_t* label) const {
    const auto width = static_cast<std::size_t>(problem.width);
    const float sign = problem.slope < 0 ? -1.0F : problem.slope > 0 ? 1.0F : 0.0F;
    for (std::size_t x = 0; x < width; ++x) {
      least[x] = sign * problem.planes[0][first + x];
      poison[x] = 0.0F * problem.planes[0][first + x] + 0.0F * problem.zero[first + x];
      label[x] = 0;
    }
    for (int k = 1; k < problem.num_labels; ++k) {
      const float* plane = problem.planes[k] + first;
      const auto name = static_cast<std::uint8_t>(k);
      for (std::size_t x = 0; x < width; ++x) {
        const float value = sign * plane[x];
        poison[x] += 0.0F * plane[x];
        const bool better = value < least[x];
        least[x] = better ? value : least[x];
        label[x] = better ? name : label[x];
      }
    }
  }

  // Adds up the best scores of the pixels of a row that are no seeds.
  WEAKSEG_INLINED void add_row(const PottsProblem& problem, std::size_t first, const float* least,
                               std::array<double, kPartialSums>& sums) const {
    const auto width = static_cast<std::size_t>(problem.width);
    const std::uint8_t *valid = problem.valid + first, *seeds = problem.seeds + first;
    const float* zero = problem.zero + first;
    const float sign = problem.slope < 0 ? -1.0F : 1.0F;
    const auto term = [&](std::size_t x) WEAKSEG_INLINED {
      const double value = static_cast<double>(sign * least[x]) - zero[x];
      return (valid[x] != 0) & (seeds[x] == kVoid) ? value : 0.0;
    };
    std::size_t x = 0;
    for (; x + kPartialSums <= width; x += kPartialSums) {
      for (std::size_t i = 0; i < kPartialSums; ++i) sums[i] += term(x + i);
    }
    for (; x < width; ++x) sums[0] += term(x);
  }

  std::vector<std::uint8_t> labels_;
  double sum_ = 0, slope_ = 1;  // of the best scores, less `zero`
};

}  // namespace weakseg
