// The grid Potts energy of labelings that are constant on blocks of pixels: a cheap problem to start from.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "potts/framed_grid.hpp"
#include "potts/integer_potts.hpp"
#include "support/wide_vectors.hpp"

namespace weakseg {

constexpr int kBlockSide = 4;  // in pixels; the sums below are written out for four

// Each block becomes a pixel of a smaller image: unaries add up, and so do edges between blocks, so that a labeling of
// blocks costs what it costs the pixels. A block takes the first of its seeds, so that it may contradict others, and is
// valid if any of its pixels is.
template <int D>
class CoarsePotts {
 public:
  // Copies what it needs of the problem.
  explicit CoarsePotts(const PottsProblem& fine)
      : height_(blocks(fine.height)), width_(blocks(fine.width)), num_labels_(fine.num_labels), slope_(fine.slope) {
    mark(fine);
    vectorized([&]() WEAKSEG_INLINED { add_scores(fine); });
    vectorized([&]() WEAKSEG_INLINED { add_edges(fine); });
  }

  // Valid as long as this object.
  PottsProblem problem() const {
    PottsProblem coarse;
    coarse.height = height_;
    coarse.width = width_;
    coarse.num_labels = num_labels_;
    coarse.planes = planes_.data();
    coarse.zero = zero_.data();
    coarse.slope = slope_;
    coarse.edges = edges_.data();
    coarse.seeds = seeds_.data();
    coarse.valid = valid_.data();
    return coarse;
  }

  std::size_t pixels() const { return static_cast<std::size_t>(height_) * static_cast<std::size_t>(width_); }

 private:
  static constexpr int E = D / 2;
  static constexpr std::uint8_t kNoSeeds[kBlockSide] = {kVoid, kVoid, kVoid, kVoid};

  static int blocks(int pixels) { return (pixels + kBlockSide - 1) / kBlockSide; }
  std::size_t block(int row, int column) const {
    return static_cast<std::size_t>(row / kBlockSide) * static_cast<std::size_t>(width_) +
           static_cast<std::size_t>(column / kBlockSide);
  }

  void mark(const PottsProblem& fine) {
    const auto width = static_cast<std::size_t>(fine.width), size = width * static_cast<std::size_t>(fine.height);
    padded_ = std::memchr(fine.valid, 0, size) != nullptr;
    seeds_.assign(pixels(), kVoid);
    valid_.assign(pixels(), padded_ ? 0 : 1);
    for (int row = 0; row < fine.height; ++row) {
      const std::size_t first = static_cast<std::size_t>(row) * width;
      for (std::size_t x = 0; x < width; x += kBlockSide) {
        const std::uint8_t *seeds = fine.seeds + first + x, *valid = fine.valid + first + x;
        const std::size_t count = std::min<std::size_t>(kBlockSide, width - x), here = block(row, static_cast<int>(x));
        if (!padded_ && count == kBlockSide && std::memcmp(seeds, kNoSeeds, kBlockSide) == 0) continue;  // most are
        for (std::size_t i = 0; i < count; ++i) {
          if (valid[i] == 0) continue;
          valid_[here] = 1;
          if (seeds_[here] == kVoid) seeds_[here] = seeds[i];
        }
      }
    }
  }

  WEAKSEG_INLINED void add_scores(const PottsProblem& fine) {
    zero_.assign(pixels(), 0.0F);
    scores_.assign(static_cast<std::size_t>(num_labels_) * pixels(), 0.0F);
    const auto width = static_cast<std::size_t>(fine.width);
    std::vector<float> line(static_cast<std::size_t>(width_) * kBlockSide, 0.0F);
    for (int k = 0; k < num_labels_; ++k) {
      float* sums = scores_.data() + static_cast<std::size_t>(k) * pixels();
      planes_.push_back(sums);
      for (int row = 0; row < fine.height; ++row) {
        const std::size_t first = static_cast<std::size_t>(row) * width;
        const float *scores = fine.planes[k] + first, *zero = fine.zero + first;
        for (std::size_t x = 0; x < width; ++x) line[x] = fine.valid[first + x] != 0 ? scores[x] - zero[x] : 0.0F;
        float* sum = sums + block(row, 0);
        for (std::size_t x = 0; x < static_cast<std::size_t>(width_); ++x) {
          const float* four = line.data() + kBlockSide * x;
          sum[x] += (four[0] + four[1]) + (four[2] + four[3]);
        }
      }
    }
  }

  WEAKSEG_INLINED void add_edges(const PottsProblem& fine) {
    edges_.assign(static_cast<std::size_t>(E) * pixels(), 0.0F);
    std::vector<float> line((static_cast<std::size_t>(width_) + 1) * kBlockSide, 0.0F);
    for (int row = 0; row < fine.height; ++row) {
      for (int e = 0; e < E; ++e) {
        const int down = kDeltaRow[2 * e], right = kDeltaColumn[2 * e];
        if (row + down >= fine.height) continue;
        // Along the lower side of blocks all edges lead to other blocks; elsewhere only those at the right and left
        // sides.
        if (down == 1 && (row + 1) % kBlockSide == 0) {
          read_row(fine, e, row, 1, line.data());
          add_row_below(right, block(row, 0), line.data());
        } else if (right != 0) {
          read_row(fine, e, row, kBlockSide, line.data());
          add_row_aside(right, block(row, 0), line.data());
        }
      }
    }
  }

  // The edges of a row in one direction, or (step kBlockSide) those that leave a block sideways; 0 where there is none.
  WEAKSEG_INLINED void read_row(const PottsProblem& fine, int e, int row, int step, float* line) const {
    const int right = kDeltaColumn[2 * e], last = fine.width - std::max(right, 0);
    const auto width = static_cast<std::size_t>(fine.width), size = width * static_cast<std::size_t>(fine.height);
    const std::size_t first = static_cast<std::size_t>(row) * width;
    const float* weights = fine.edges + static_cast<std::size_t>(e) * size + first;
    const std::uint8_t* here = fine.valid + first;
    const std::uint8_t* there = here + (kDeltaRow[2 * e] * fine.width + right);
    line[0] = line[fine.width - 1] = 0.0F;
    for (int x = step == 1 ? std::max(-right, 0) : right > 0 ? kBlockSide - 1 : kBlockSide; x < last; x += step) {
      line[x] = !padded_ || ((here[x] != 0) & (there[x] != 0)) ? weights[x] : 0.0F;
    }
  }

  // Adds the edges along the lower side of blocks: of diagonals, all but one per block lead to the block right below,
  // and the last to the one next to that. Sums run from left to right, as if pixels were added one by one.
  WEAKSEG_INLINED void add_row_below(int right, std::size_t first, const float* line) {
    float* below = edges_.data() + pixels() + first;
    float* aside = right == 0 ? nullptr : below + pixels() * (right > 0 ? 1 : 2);
    for (std::size_t x = 0; x < static_cast<std::size_t>(width_); ++x) {
      const float* four = line + kBlockSide * x;
      if (right == 0) below[x] = (((below[x] + four[0]) + four[1]) + four[2]) + four[3];
      else if (right > 0) below[x] = ((below[x] + four[0]) + four[1]) + four[2];
      else below[x] = ((below[x] + four[1]) + four[2]) + four[3];
      if (right != 0) aside[x] += right > 0 ? four[3] : four[0];
    }
  }

  WEAKSEG_INLINED void add_row_aside(int right, std::size_t first, const float* line) {
    float* aside = edges_.data() + first;
    for (std::size_t x = 0; x + 1 < static_cast<std::size_t>(width_); ++x) {
      aside[x] += right > 0 ? line[kBlockSide * x + kBlockSide - 1] : line[kBlockSide * (x + 1)];
    }
  }

  int height_, width_, num_labels_;
  double slope_;
  bool padded_ = true;  // whether the image is
  std::vector<std::uint8_t> seeds_, valid_;
  std::vector<float> zero_, scores_, edges_;
  std::vector<const float*> planes_;
};

}  // namespace weakseg
