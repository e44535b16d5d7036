// Grid Potts energies in integers: what a labelling of an image costs, for minimisers that need exact arithmetic.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <numeric>
#include <utility>
#include <vector>

#include "potts/grid_maxflow.hpp"
#include "support/labels.hpp"
#include "support/wide_vectors.hpp"

namespace weakseg {

// One image: planes are row-major height x width. Labels are 0..num_labels - 1; `seeds` holds kVoid where there is none.
// Label k costs slope * (planes[k][pixel] - zero[pixel]).
struct PottsProblem {
  int height = 0, width = 0, num_labels = 0;
  const float* const* planes = nullptr;
  const float* zero = nullptr;          // one plane
  double slope = 1;
  const float* edges = nullptr;         // a plane for each forward direction, in their order
  const std::uint8_t* seeds = nullptr;  // hard constraints
  const std::uint8_t* valid = nullptr;  // 0 on padding
};

enum class Failure : std::int32_t { kNone = 0, kScores = 1, kEdges = 2 };  // what is not finite

template <int D>
class IntegerPotts {
 public:
  using Index = FramedGrid::Index;
  using Capacity = typename GridMaxflow<D>::Capacity;
  // The arcs of a node, its edges to pixels that are no nodes, and its unary: three times D edges stay below 2^31.
  static constexpr Capacity kLargestEdge = 1 << 26;

  // Reads a problem, whose arrays must outlive the calls below.
  Failure read(const PottsProblem& problem) {
    problem_ = problem;
    grid_ = FramedGrid(problem.height, problem.width);
    bool scores_are_finite = false, edges_are_finite = false;
    vectorised([&]() WEAKSEG_INLINED { scores_are_finite = read_pixels(); });
    if (!scores_are_finite) return Failure::kScores;
    vectorised([&]() WEAKSEG_INLINED { edges_are_finite = quantize_edges(); });
    return edges_are_finite ? Failure::kNone : Failure::kEdges;
  }

  // Takes the memory for an image at once, where smaller ones come first.
  void reserve(const FramedGrid& grid) {
    best_.reserve(grid.size);
    weight_.reserve(static_cast<std::size_t>(E) * grid.size);
  }

  const FramedGrid& grid() const { return grid_; }
  std::size_t pixels() const {
    return static_cast<std::size_t>(problem_.height) * static_cast<std::size_t>(problem_.width);
  }
  double scale() const { return scale_; }  // of the integers

  // The label that costs a pixel least, the seed's at a seed; kVoid on padding and in the frame.
  std::uint8_t best(Index node) const { return best_[node]; }
  const std::uint8_t* best() const { return best_.data(); }  // of all nodes

  // On how many pixels each label is the best; most are in runs of one label.
  std::array<std::size_t, 256> best_areas() const {
    std::array<std::size_t, 256> areas{};
    std::size_t i = 0;
    for (; i + 8 <= best_.size(); i += 8) {
      std::uint64_t eight;
      std::memcpy(&eight, best_.data() + i, sizeof eight);
      if (eight == 0x0101010101010101U * best_[i]) areas[best_[i]] += 8;
      else for (std::size_t j = i; j < i + 8; ++j) ++areas[best_[j]];
    }
    for (; i < best_.size(); ++i) ++areas[best_[i]];
    return areas;
  }

  template <class Visit>
  void for_each_pixel(Visit visit) const {
    std::size_t pixel = 0;
    for (int row = 0; row < problem_.height; ++row) {
      Index node = grid_.node(row, 0);
      for (int column = 0; column < problem_.width; ++column) visit(pixel++, node++);
    }
  }

  // The edge from a pixel in a direction; 0 where there is none.
  Capacity edge(Index node, int d) const {
    const Index first = d % 2 == 0 ? node : node + grid_.offset[d];
    return weight_[static_cast<std::size_t>(first) * E + static_cast<std::size_t>(d / 2)];
  }

  // How much less one label costs a free pixel than another.
  std::int64_t saving(std::uint8_t from, std::uint8_t to, Index node) const { return cost(from, node) - cost(to, node); }

  // Whether one label costs a pixel more than another, be it too little for a saving.
  bool is_dearer(std::uint8_t label, std::uint8_t than, Index node) const {
    const std::size_t pixel = grid_.pixel(node);
    const float a = problem_.planes[label][pixel], b = problem_.planes[than][pixel];
    return problem_.slope < 0 ? a < b : problem_.slope > 0 && a > b;
  }

  // Marks the pixels of a row that would as soon hold a label as their best one, if that is another.
  WEAKSEG_INLINED void mark_ties(int row, std::uint8_t label, std::uint8_t than, std::uint8_t* marks) const {
    const auto width = static_cast<std::size_t>(problem_.width);
    const std::size_t first = static_cast<std::size_t>(row) * width;
    const float *scores = problem_.planes[label] + first, *rivals = problem_.planes[than] + first;
    const std::uint8_t* best = best_.data() + grid_.node(row, 0);
    for (std::size_t x = 0; x < width; ++x) {
      const bool costs_nothing = (static_cast<double>(scores[x]) - rivals[x]) * problem_.slope * scale_ < 1;  // see `cost`
      marks[x] |= static_cast<std::uint8_t>((best[x] == than) & costs_nothing);
    }
  }

  // Integer energy of a labelling (by node), without the sum of the best unaries; a pixel costs one more than all its
  // edges at most, as in the cut.
  std::int64_t of(const std::vector<std::uint8_t>& labels) const {
    std::int64_t sum = 0;
    for_each_difference(labels, [&](std::size_t, Index node) {
      std::int64_t all = 1;
      for (int d = 0; d < D; ++d) all += edge(node, d);
      sum += std::min(cost(labels[node], node), all);
    });
    for_each_cut(labels, [&](Index node, int e, float) { sum += edge(node, 2 * e); });
    return sum;
  }

  // The sum of the best unaries.
  double best_unary() const { return problem_.slope * best_sum_; }

  // Unary and pairwise energy in double precision from the float inputs.
  std::pair<double, double> measure(const std::vector<std::uint8_t>& labels) const {
    double unaries = best_unary(), pairwise = 0;
    for_each_difference(labels, [&](std::size_t pixel, Index node) {
      unaries += unary(labels[node], pixel) - unary(best_[node], pixel);
    });
    for_each_cut(labels, [&](Index, int, float weight) { pairwise += weight; });
    return {unaries, pairwise};
  }

 private:
  static constexpr int E = D / 2;
  static constexpr std::size_t kRun = 32;                // labels compared at once
  static constexpr std::size_t kLanes = 8;               // sums that do not wait for each other
  static constexpr std::int32_t kExponent = 0x7f800000;  // of a float: all bits set where it is not finite
  static constexpr double kLargestCost = 4503599627370496.0;  // 2^52

  double above_zero(std::uint8_t label, std::size_t pixel) const {
    return static_cast<double>(problem_.planes[label][pixel]) - problem_.zero[pixel];
  }

  double unary(std::uint8_t label, std::size_t pixel) const { return problem_.slope * above_zero(label, pixel); }

  // Finds the best label of every pixel; at a seed, the seed's. False if a score is not finite.
  WEAKSEG_INLINED bool read_pixels() {
    best_.assign(grid_.size, kVoid);
    const auto width = static_cast<std::size_t>(problem_.width);
    std::vector<float> least(width), poison(width);
    std::vector<std::uint8_t> label(width);
    std::array<double, kLanes> sums{};
    double sum_of_seeds = 0;
    for (int row = 0; row < problem_.height; ++row) {
      const std::size_t first = static_cast<std::size_t>(row) * width;
      find_best(first, least.data(), poison.data(), label.data());
      const std::uint8_t *valid = problem_.valid + first, *seeds = problem_.seeds + first;
      std::uint8_t* best = best_.data() + grid_.node(row, 0);
      std::uint8_t seeded = 0;
      std::int32_t bad = 0;
      for (std::size_t x = 0; x < width; ++x) bad |= static_cast<std::int32_t>((valid[x] != 0) & (poison[x] != 0));
      if (bad != 0) return false;
      for (std::size_t x = 0; x < width; ++x) {
        const std::uint8_t own = seeds[x] == kVoid ? label[x] : seeds[x];
        best[x] = valid[x] != 0 ? own : kVoid;
        seeded |= static_cast<std::uint8_t>((valid[x] != 0) & (seeds[x] != kVoid));
      }
      add_best(first, least.data(), sums);
      for (std::size_t x = 0; x < width && seeded != 0; ++x) {
        if (valid[x] != 0 && seeds[x] != kVoid) sum_of_seeds += above_zero(seeds[x], first + x);
      }
    }
    best_sum_ = std::accumulate(sums.begin(), sums.end(), sum_of_seeds);
    return true;
  }

  // Adds up the best scores of the pixels of a row that are no seeds.
  WEAKSEG_INLINED void add_best(std::size_t first, float* least, std::array<double, kLanes>& sums) const {
    const auto width = static_cast<std::size_t>(problem_.width);
    const std::uint8_t *valid = problem_.valid + first, *seeds = problem_.seeds + first;
    const float* zero = problem_.zero + first;
    const float sign = problem_.slope < 0 ? -1.0F : 1.0F;
    const auto term = [&](std::size_t x) WEAKSEG_INLINED {
      const double value = static_cast<double>(sign * least[x]) - zero[x];
      return (valid[x] != 0) & (seeds[x] == kVoid) ? value : 0.0;
    };
    std::size_t x = 0;
    for (; x + kLanes <= width; x += kLanes) {
      for (std::size_t i = 0; i < kLanes; ++i) sums[i] += term(x + i);
    }
    for (; x < width; ++x) sums[0] += term(x);
  }

  // Best label of each pixel of one row, the first among equals; `poison` is 0 where all scores are finite.
  WEAKSEG_INLINED void find_best(std::size_t first, float* least, float* poison, std::uint8_t* label) const {
    const auto width = static_cast<std::size_t>(problem_.width);
    const float sign = problem_.slope < 0 ? -1.0F : problem_.slope > 0 ? 1.0F : 0.0F;
    for (std::size_t x = 0; x < width; ++x) {
      least[x] = sign * problem_.planes[0][first + x];
      poison[x] = 0.0F * problem_.planes[0][first + x] + 0.0F * problem_.zero[first + x];
      label[x] = 0;
    }
    for (int k = 1; k < problem_.num_labels; ++k) {
      const float* plane = problem_.planes[k] + first;
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

  // What a label costs a pixel more than its best label.
  std::int64_t cost(std::uint8_t label, Index node) const {
    const std::uint8_t best = best_[node];
    if (label == best) return 0;
    const std::size_t pixel = grid_.pixel(node);
    const double difference = static_cast<double>(problem_.planes[label][pixel]) - problem_.planes[best][pixel];
    return static_cast<std::int64_t>(std::min(difference * problem_.slope * scale_, kLargestCost));
  }

  // Integers for the cut. All terms are rounded down, so that the integer optimum divided by the scale bounds the float
  // energy from below. The scale maps the largest edge to 2^26; unaries have it as well, however large they are. False
  // if an edge is not finite.
  WEAKSEG_INLINED bool quantize_edges() {
    // As integers, bits of floats that are not negative have their order, and maxima of integers wait for nobody.
    std::int32_t largest = 0, largest_size = 0;
    for_each_row_of_edges([&](int, Index first, Index second, const float* weight, std::size_t count) WEAKSEG_INLINED {
      const std::uint8_t *from = best_.data() + first, *to = best_.data() + second;
      std::int32_t most = 0, size = 0;
      for (std::size_t x = 0; x < count; ++x) {
        std::int32_t bits;
        std::memcpy(&bits, weight + x, sizeof bits);
        bits &= -static_cast<std::int32_t>((from[x] != kVoid) & (to[x] != kVoid));
        most = std::max(most, bits);
        size = std::max(size, bits & std::numeric_limits<std::int32_t>::max());  // without the sign
      }
      largest = std::max(largest, most);
      largest_size = std::max(largest_size, size);
    });
    if (largest_size >= kExponent) return false;
    float largest_weight;
    std::memcpy(&largest_weight, &largest, sizeof largest_weight);
    // Without edges any difference between labels decides.
    scale_ = largest > 0 ? kLargestEdge / static_cast<double>(largest_weight) : 1e30;
    round_edges();
    return true;
  }

  // Fills the weights of all nodes and of the frame.
  WEAKSEG_INLINED void round_edges() {
    const auto width = static_cast<std::size_t>(problem_.width);
    weight_.resize(std::max(weight_.size(), static_cast<std::size_t>(E) * grid_.size));
    const auto node_weights = [&](Index node) { return weight_.begin() + static_cast<std::ptrdiff_t>(E) * node; };
    std::fill(weight_.begin(), node_weights(grid_.node(0, 0)), 0);
    std::fill(node_weights(grid_.node(problem_.height, 0) - 1), node_weights(static_cast<Index>(grid_.size)), 0);
    std::vector<Capacity> rounded(E * width);
    for (int row = 0; row < problem_.height; ++row) {
      std::fill(rounded.begin(), rounded.end(), 0);
      for_each_edge_of_row(row, [&](int e, Index first, Index second, const float* weight, std::size_t count) WEAKSEG_INLINED {
        const std::uint8_t *from = best_.data() + first, *to = best_.data() + second;
        Capacity* out = rounded.data() + static_cast<std::size_t>(e) * width + (first - grid_.node(row, 0));
        for (std::size_t x = 0; x < count; ++x) {
          const float value = (from[x] != kVoid) & (to[x] != kVoid) ? weight[x] : 0.0F;
          out[x] = static_cast<Capacity>(static_cast<double>(value) * scale_);
        }
      });
      Capacity* out = &*node_weights(grid_.node(row, 0));
      for (std::size_t x = 0; x < width; ++x) {
        for (std::size_t e = 0; e < E; ++e) out[E * x + e] = rounded[e * width + x];
      }
      std::fill_n(out + E * width, E, 0);  // the frame
    }
  }

  // Calls visit(pixel, node) where a label is not the best.
  template <class Visit>
  void for_each_difference(const std::vector<std::uint8_t>& labels, Visit visit) const {
    const auto width = static_cast<std::size_t>(problem_.width);
    for (int row = 0; row < problem_.height; ++row) {
      const Index first = grid_.node(row, 0);
      const std::uint8_t *own = labels.data() + first, *best = best_.data() + first;
      for (std::size_t x = 0; x < width; x += kRun) {
        const std::size_t end = std::min(width, x + kRun);
        if (std::memcmp(own + x, best + x, end - x) == 0) continue;  // most are alike
        for (std::size_t i = x; i < end; ++i) {
          if (own[i] != best[i]) visit(static_cast<std::size_t>(row) * width + i, first + static_cast<Index>(i));
        }
      }
    }
  }

  // Calls visit(first node, plane, weight) for the edges between labels; labels are kVoid on padding alone.
  template <class Visit>
  void for_each_cut(const std::vector<std::uint8_t>& labels, Visit visit) const {
    for_each_row_of_edges([&](int e, Index first, Index second, const float* weight, std::size_t count) {
      const std::uint8_t *from = labels.data() + first, *to = labels.data() + second;
      for (std::size_t x = 0; x < count; x += kRun) {
        const std::size_t end = std::min(count, x + kRun);
        if (std::memcmp(from + x, to + x, end - x) == 0) continue;  // most are alike
        for (std::size_t i = x; i < end; ++i) {
          if (from[i] != to[i] && from[i] != kVoid && to[i] != kVoid) visit(first + static_cast<Index>(i), e, weight[i]);
        }
      }
    });
  }

  // Calls visit(plane, first node, second node, weights, count) for each row of the edges in each direction: edge x joins
  // the nodes first + x and second + x, one of which may be padding.
  template <class Visit>
  WEAKSEG_INLINED void for_each_row_of_edges(Visit visit) const {
    for (int row = 0; row < problem_.height; ++row) for_each_edge_of_row(row, visit);
  }

  template <class Visit>
  WEAKSEG_INLINED void for_each_edge_of_row(int row, Visit visit) const {
    const auto width = static_cast<std::size_t>(problem_.width);
    for (int e = 0; e < E; ++e) {
      const int right = kDeltaColumn[2 * e], begin = right < 0 ? 1 : 0;
      if (row + kDeltaRow[2 * e] >= problem_.height) continue;
      const std::size_t pixel = static_cast<std::size_t>(row) * width + static_cast<std::size_t>(begin);
      const Index node = grid_.node(row, begin);
      visit(e, node, node + grid_.offset[2 * e], problem_.edges + static_cast<std::size_t>(e) * pixels() + pixel,
            width - (right != 0 ? 1 : 0));
    }
  }

  PottsProblem problem_;
  FramedGrid grid_;
  double scale_ = 1;
  double best_sum_ = 0;  // of the best scores, less `zero`
  // By node:
  std::vector<std::uint8_t> best_;
  std::vector<Capacity> weight_;  // E edges a node
};

}  // namespace weakseg
