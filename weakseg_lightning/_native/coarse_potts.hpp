// A grid Potts energy for labellings that are constant on blocks of pixels: where to start from, at little cost.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "grid_maxflow.hpp"
#include "integer_potts.hpp"
#include "wide_vectors.hpp"

namespace weakseg {

constexpr int kBlock = 4;  // pixels on a side; sums below are written out for four

// The energy of an image's blocks, each a pixel of a smaller image: unaries and edges between blocks add up. A block takes
// the first of its seeds, so that a labelling of blocks may contradict a seed of the image, and is valid if a pixel is.
template <int D>
class CoarsePotts {
 public:
  // Copies what it needs of a problem.
  explicit CoarsePotts(const PottsProblem& fine)
      : height_(blocks(fine.height)), width_(blocks(fine.width)), num_labels_(fine.num_labels), slope_(fine.slope) {
    mark(fine);
    vectorised([&]() WEAKSEG_INLINED { add_scores(fine); });
    add_edges(fine);
  }

  // Points into this object.
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
  static constexpr std::uint8_t kNoSeeds[kBlock] = {kVoid, kVoid, kVoid, kVoid};

  static int blocks(int pixels) { return (pixels + kBlock - 1) / kBlock; }
  std::size_t block(int row, int column) const {
    return static_cast<std::size_t>(row / kBlock) * static_cast<std::size_t>(width_) +
           static_cast<std::size_t>(column / kBlock);
  }

  void mark(const PottsProblem& fine) {
    const auto width = static_cast<std::size_t>(fine.width), size = width * static_cast<std::size_t>(fine.height);
    padded_ = std::memchr(fine.valid, 0, size) != nullptr;
    seeds_.assign(pixels(), kVoid);
    valid_.assign(pixels(), padded_ ? 0 : 1);
    for (int row = 0; row < fine.height; ++row) {
      const std::size_t first = static_cast<std::size_t>(row) * width;
      for (std::size_t x = 0; x < width; x += kBlock) {
        const std::uint8_t *seeds = fine.seeds + first + x, *valid = fine.valid + first + x;
        const std::size_t count = std::min<std::size_t>(kBlock, width - x), here = block(row, static_cast<int>(x));
        if (!padded_ && count == kBlock && std::memcmp(seeds, kNoSeeds, kBlock) == 0) continue;  // most are
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
    std::vector<float> line(static_cast<std::size_t>(width_) * kBlock, 0.0F);
    for (int k = 0; k < num_labels_; ++k) {
      float* sums = scores_.data() + static_cast<std::size_t>(k) * pixels();
      planes_.push_back(sums);
      for (int row = 0; row < fine.height; ++row) {
        const std::size_t first = static_cast<std::size_t>(row) * width;
        const float *scores = fine.planes[k] + first, *zero = fine.zero + first;
        for (std::size_t x = 0; x < width; ++x) line[x] = fine.valid[first + x] != 0 ? scores[x] - zero[x] : 0.0F;
        float* sum = sums + block(row, 0);
        for (std::size_t x = 0; x < static_cast<std::size_t>(width_); ++x) {
          const float* four = line.data() + kBlock * x;
          sum[x] += (four[0] + four[1]) + (four[2] + four[3]);
        }
      }
    }
  }

  void add_edges(const PottsProblem& fine) {
    edges_.assign(static_cast<std::size_t>(E) * pixels(), 0.0F);
    for (int row = 0; row < fine.height; ++row) {
      for (int e = 0; e < E; ++e) {
        const int down = kDeltaRow[2 * e], right = kDeltaColumn[2 * e];
        if (row + down >= fine.height) continue;
        // Edges to other rows of blocks, or those at the sides of the blocks alone.
        const bool leaves = down == 1 && (row + 1) % kBlock == 0;
        if (!leaves && right == 0) continue;
        const int step = leaves ? 1 : kBlock, last = fine.width - std::max(right, 0);
        for (int column = leaves ? std::max(-right, 0) : right > 0 ? kBlock - 1 : kBlock; column < last; column += step) {
          add_edge(fine, e, row, column, row + down, column + right);
        }
      }
    }
  }

  void add_edge(const PottsProblem& fine, int e, int row, int column, int other_row, int other_column) {
    const auto pixel = [&](int r, int c) {
      return static_cast<std::size_t>(r) * static_cast<std::size_t>(fine.width) + static_cast<std::size_t>(c);
    };
    if (padded_ && (fine.valid[pixel(row, column)] == 0 || fine.valid[pixel(other_row, other_column)] == 0)) return;
    const int down = other_row / kBlock - row / kBlock, right = other_column / kBlock - column / kBlock;
    // Planes: to the right, down, down right, down left; what leads to the left is the other block's.
    const int plane = down == 0 ? 0 : right == 0 ? 1 : right > 0 ? 2 : 3;
    const std::size_t here = right < 0 && down == 0 ? block(other_row, other_column) : block(row, column);
    edges_[static_cast<std::size_t>(plane) * pixels() + here] +=
        fine.edges[static_cast<std::size_t>(e) * pixel(fine.height, 0) + pixel(row, column)];
  }

  int height_, width_, num_labels_;
  double slope_;
  bool padded_ = true;  // whether the image is
  std::vector<std::uint8_t> seeds_, valid_;
  std::vector<float> zero_, scores_, edges_;
  std::vector<const float*> planes_;
};

}  // namespace weakseg
