// Grid Potts energies in integers: with rounding errors, moves that gain nothing could seem to, and go on for ever.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <utility>
#include <vector>

#include "potts/best_labels.hpp"
#include "potts/framed_grid.hpp"
#include "potts/pixel_edges.hpp"
#include "potts/potts_problem.hpp"
#include "support/labels.hpp"
#include "support/wide_vectors.hpp"

namespace weakseg {

// Unaries are relative to each pixel's best label. All terms are scaled so that the largest edge is 2^26, and rounded
// down: the least integer energy, divided by the scale, then bounds the least energy in floating point from below.
template <int D>
class IntegerPotts {
 public:
  using Index = FramedGrid::Index;
  using Capacity = std::int32_t;
  // The arcs of a node, its edges to pixels that are not nodes, and its unary: three times D edges stay below 2^31.
  static constexpr Capacity kLargestEdge = 1 << 26;

  // Reads a problem, whose arrays must outlive the calls below.
  Failure read(const PottsProblem& problem) {
    problem_ = problem;
    grid_ = FramedGrid(problem.height, problem.width, D, problem.slice);
    if (!best_.find(problem, grid_)) return Failure::kScores;
    bool finite = false;
    vectorized([&]() WEAKSEG_INLINED { finite = quantize_edges(); });
    return finite ? Failure::kNone : Failure::kEdges;
  }

  // Allocates for an image at once where smaller ones come first.
  void reserve(const FramedGrid& grid) {
    best_.reserve(grid.size);
    weight_.reserve(static_cast<std::size_t>(E) * grid.size);
  }

  const FramedGrid& grid() const { return grid_; }
  const BestLabels& best() const { return best_; }
  std::size_t pixels() const { return problem_.pixels(); }
  double scale() const { return scale_; }

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
  std::int64_t saving(std::uint8_t from, std::uint8_t to, Index node) const {
    return cost(from, node) - cost(to, node);
  }

  // Whether one label costs a pixel more than another, even if by less than one integer.
  bool is_dearer(std::uint8_t label, std::uint8_t than, Index node) const {
    const std::size_t pixel = grid_.pixel(node);
    const float a = problem_.planes[label][pixel], b = problem_.planes[than][pixel];
    return problem_.slope < 0 ? a < b : problem_.slope > 0 && a > b;
  }

  // Marks the pixels of a row whose best label is `than`, and to which `label` costs no more in integers.
  WEAKSEG_INLINED void mark_ties(int row, std::uint8_t label, std::uint8_t than, std::uint8_t* marks) const {
    const auto width = static_cast<std::size_t>(problem_.width);
    const std::size_t first = static_cast<std::size_t>(row) * width;
    const float *scores = problem_.planes[label] + first, *rivals = problem_.planes[than] + first;
    const std::uint8_t* best = best_.data() + grid_.node(row, 0);
    for (std::size_t x = 0; x < width; ++x) {
      const double difference = static_cast<double>(scores[x]) - rivals[x];
      const bool costs_nothing = difference * problem_.slope * scale_ < 1;  // see `cost`
      marks[x] |= static_cast<std::uint8_t>((best[x] == than) & costs_nothing);
    }
  }

  // Integer energy of a labeling (by node), relative to the sum of the best unaries. A pixel costs at most one more
  // than all its edges, as in the cut: a difference greater than that decides alone, however great it is.
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

  // Unary and pairwise energy, in double precision from the unrounded terms.
  std::pair<double, double> measure(const std::vector<std::uint8_t>& labels) const {
    double unaries = best_.unary(), pairwise = 0;
    for_each_difference(labels, [&](std::size_t pixel, Index node) {
      unaries += problem_.unary(labels[node], pixel) - problem_.unary(best_[node], pixel);
    });
    for_each_cut(labels, [&](Index, int, float weight) { pairwise += weight; });
    return {unaries, pairwise};
  }

 private:
  static constexpr int E = D / 2;
  static constexpr std::size_t kChunk = 32;                   // labels compared at once
  static constexpr std::int32_t kExponent = 0x7f800000;       // of a float: all its bits are set where it is not finite
  static constexpr double kLargestCost = 4503599627370496.0;  // 2^52

  // What a label costs a pixel more than its best label.
  std::int64_t cost(std::uint8_t label, Index node) const {
    const std::uint8_t best = best_[node];
    if (label == best) return 0;
    const std::size_t pixel = grid_.pixel(node);
    const double difference = static_cast<double>(problem_.planes[label][pixel]) - problem_.planes[best][pixel];
    return static_cast<std::int64_t>(std::min(difference * problem_.slope * scale_, kLargestCost));
  }

  // False if an edge between valid pixels is not finite.
  WEAKSEG_INLINED bool quantize_edges() {
    // Floats that are not negative are ordered as their bits are. Maxima of integers vectorize; those of floats do not,
    // since a compiler has to honour what is not a number.
    std::int32_t largest = 0, largest_size = 0;
    for_each_edge_row([&](const Edges& edges) WEAKSEG_INLINED {
      const std::uint8_t *from = best_.data() + edges.first, *to = best_.data() + edges.second;
      std::int32_t most = 0, size = 0;
      for (std::size_t x = 0; x < edges.count; ++x) {
        std::int32_t bits;
        std::memcpy(&bits, edges.weights + x, sizeof bits);
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
      for_each_edge_row_of(row, [&](const Edges& edges) WEAKSEG_INLINED {
        const std::uint8_t *from = best_.data() + edges.first, *to = best_.data() + edges.second;
        Capacity* out = rounded.data() + static_cast<std::size_t>(edges.plane) * width;
        out += edges.first - grid_.node(row, 0);
        for (std::size_t x = 0; x < edges.count; ++x) {
          const float value = (from[x] != kVoid) & (to[x] != kVoid) ? edges.weights[x] : 0.0F;
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
      for (std::size_t x = 0; x < width; x += kChunk) {
        const std::size_t end = std::min(width, x + kChunk);
        if (std::memcmp(own + x, best + x, end - x) == 0) continue;  // most are alike
        for (std::size_t i = x; i < end; ++i) {
          if (own[i] != best[i]) visit(static_cast<std::size_t>(row) * width + i, first + static_cast<Index>(i));
        }
      }
    }
  }

  // Calls visit(first node, plane, weight) for the edges between different labels; only padding is kVoid.
  template <class Visit>
  void for_each_cut(const std::vector<std::uint8_t>& labels, Visit visit) const {
    for_each_edge_row([&](const Edges& edges) {
      const std::uint8_t *from = labels.data() + edges.first, *to = labels.data() + edges.second;
      for (std::size_t x = 0; x < edges.count; x += kChunk) {
        const std::size_t end = std::min(edges.count, x + kChunk);
        if (std::memcmp(from + x, to + x, end - x) == 0) continue;  // most are alike
        for (std::size_t i = x; i < end; ++i) {
          if (from[i] == to[i] || from[i] == kVoid || to[i] == kVoid) continue;
          visit(edges.first + static_cast<Index>(i), edges.plane, edges.weights[i]);
        }
      }
    });
  }

  // A row of edges of one plane: edge x joins the nodes first + x and second + x, one of which may be padding.
  struct Edges {
    int plane;
    Index first, second;
    const float* weights;
    std::size_t count;
  };

  template <class Visit>
  WEAKSEG_INLINED void for_each_edge_row(Visit visit) const {
    for (int row = 0; row < problem_.height; ++row) for_each_edge_row_of(row, visit);
  }

  // The rows of all planes whose first pixels are in a row of the image.
  template <class Visit>
  WEAKSEG_INLINED void for_each_edge_row_of(int row, Visit visit) const {
    for (int e = 0; e < E; ++e) {
      const bool deeper = is_volume(D) && e == E - 1;
      const int down = deeper ? problem_.slice : kDeltaRow[2 * e], right = deeper ? 0 : kDeltaColumn[2 * e];
      const EdgeRow edges = edge_row_to(problem_.height, problem_.width, row, down, right);
      if (edges.count == 0) continue;
      const Index node = grid_.node(row, right < 0 ? 1 : 0);
      const float* weights = problem_.edges + static_cast<std::size_t>(e) * pixels() + edges.first;
      visit(Edges{e, node, node + grid_.offset[2 * e], weights, edges.count});
    }
  }

  PottsProblem problem_;
  FramedGrid grid_;
  BestLabels best_;
  double scale_ = 1;
  std::vector<Capacity> weight_;  // E edges of each node
};

}  // namespace weakseg
