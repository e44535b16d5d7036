// alpha-expansion for grid Potts energies.
//
//   Y. Boykov, O. Veksler, R. Zabih, "Fast Approximate Energy Minimization via Graph Cuts", PAMI 23(11), 2001, section 5.
//   V. Kolmogorov, R. Zabih, "What Energy Functions Can Be Minimized via Graph Cuts?", PAMI 26(2), 2004, section 4:
//   the terms of a move are reduced to arcs directly, without auxiliary nodes.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "grid_maxflow.hpp"

namespace weakseg {

constexpr std::uint8_t kVoid = 255;

// One image: planes are row-major height x width. Labels are 0..num_labels - 1; `seeds` and `initial` hold kVoid where
// there is none.
struct ExpansionProblem {
  int height = 0, width = 0, num_labels = 0, connectivity = 8;
  const float* unary = nullptr;         // num_labels planes
  const float* edges = nullptr;         // connectivity / 2 planes, in the order of the forward directions
  const std::uint8_t* seeds = nullptr;  // hard constraints
  const std::uint8_t* valid = nullptr;  // 0 on padding
  const std::uint8_t* initial = nullptr;
  int max_sweeps = 5;
};

struct ExpansionResult {
  double unary = 0, pairwise = 0, lower_bound = 0;
  int sweeps = 0;
  bool converged = false, has_bound = false;
};

template <int D>
class AlphaExpansion {
 public:
  // Writes a label per pixel, kVoid on padding.
  ExpansionResult run(const ExpansionProblem& problem, std::uint8_t* labels) {
    problem_ = problem;
    labels_ = labels;
    pixels_ = static_cast<std::size_t>(problem.height) * static_cast<std::size_t>(problem.width);
    quantize();
    start();
    energy_ = energy();
    ExpansionResult result;
    if (problem.num_labels == 1) result.converged = true;
    else if (problem.num_labels == 2) binary(result);
    else sweep(result);
    measure(result);
    return result;
  }

 private:
  static constexpr int E = D / 2;
  // 8 edges of this size, a unary of the same size and one unit stay below 2^31.
  static constexpr double kLargestEdge = 67108864.0;  // 2^26

  bool inside(std::size_t pixel) const { return problem_.valid[pixel] != 0; }

  // Calls visit(pixel, other, plane, plane * pixels + pixel) for every edge between two valid pixels.
  template <class Visit>
  void for_each_edge(Visit visit) const {
    const int height = problem_.height, width = problem_.width;
    for (int y = 0; y < height; ++y) {
      for (int x = 0; x < width; ++x) {
        const auto pixel = static_cast<std::size_t>(y) * static_cast<std::size_t>(width) + static_cast<std::size_t>(x);
        if (!inside(pixel)) continue;
        for (int e = 0; e < E; ++e) {
          const int row = y + kDeltaRow[2 * e], column = x + kDeltaColumn[2 * e];
          if (row >= height || column < 0 || column >= width) continue;
          const auto other =
              static_cast<std::size_t>(row) * static_cast<std::size_t>(width) + static_cast<std::size_t>(column);
          if (inside(other)) visit(pixel, other, e, static_cast<std::size_t>(e) * pixels_ + pixel);
        }
      }
    }
  }

  // Integers for the cut. All terms are rounded down, so that the integer optimum divided by the scale bounds the float
  // energy from below. The scale maps the largest edge to 2^26. A label that costs a pixel more than its best label and
  // all its edges together can never pay off: its unary is clamped just above that sum, which changes no optimum, keeps
  // every number inside int32, and leaves the scale to the edges alone.
  void quantize() {
    double largest = 0;
    for_each_edge([&](std::size_t, std::size_t, int, std::size_t i) {
      largest = std::max(largest, static_cast<double>(problem_.edges[i]));
    });
    scale_ = largest > 0 ? kLargestEdge / largest : 1e30;  // without edges any difference between labels decides
    weight_.assign(static_cast<std::size_t>(E) * pixels_, 0);
    std::vector<std::int32_t> limit(pixels_, 1);
    for_each_edge([&](std::size_t pixel, std::size_t other, int, std::size_t i) {
      weight_[i] = static_cast<std::int32_t>(static_cast<double>(problem_.edges[i]) * scale_);
      limit[pixel] += weight_[i];
      limit[other] += weight_[i];
    });
    best_.assign(pixels_, kVoid);
    cost_.assign(static_cast<std::size_t>(problem_.num_labels) * pixels_, 0);
    offset_ = 0;
    for (std::size_t pixel = 0; pixel < pixels_; ++pixel) {
      if (inside(pixel)) quantize_pixel(pixel, limit[pixel]);
    }
  }

  void quantize_pixel(std::size_t pixel, std::int32_t limit) {
    const auto labels = static_cast<std::size_t>(problem_.num_labels);
    std::size_t best = 0;
    for (std::size_t k = 1; k < labels; ++k) {
      if (problem_.unary[k * pixels_ + pixel] < problem_.unary[best * pixels_ + pixel]) best = k;
    }
    const std::uint8_t seed = problem_.seeds[pixel];
    best_[pixel] = seed != kVoid ? seed : static_cast<std::uint8_t>(best);
    // A seed's unary is a constant; the other labels of a seed are never looked at.
    const double base = problem_.unary[best_[pixel] * pixels_ + pixel];
    offset_ += base;
    if (seed != kVoid) return;
    for (std::size_t k = 0; k < labels; ++k) {
      const double more = (static_cast<double>(problem_.unary[k * pixels_ + pixel]) - base) * scale_;
      cost_[k * pixels_ + pixel] = more < limit ? static_cast<std::int32_t>(more) : limit;
    }
  }

  void start() {
    for (std::size_t pixel = 0; pixel < pixels_; ++pixel) {
      const std::uint8_t given = problem_.initial[pixel];
      const bool keep_best = given == kVoid || !inside(pixel) || problem_.seeds[pixel] != kVoid;
      labels_[pixel] = keep_best ? best_[pixel] : given;
    }
  }

  // Two labels: label 1 expands over a labelling of zeros, which reaches every labelling, so one cut is exact.
  void binary(ExpansionResult& result) {
    for (std::size_t pixel = 0; pixel < pixels_; ++pixel) {
      if (inside(pixel) && problem_.seeds[pixel] == kVoid) labels_[pixel] = 0;
    }
    const std::int64_t before = energy_ = energy();
    expand(1);
    result.lower_bound = offset_ + static_cast<double>(before - gain_bound_) / scale_;
    result.has_bound = true;
    result.converged = true;
    result.sweeps = 1;
  }

  void sweep(ExpansionResult& result) {
    std::vector<int> seen(static_cast<std::size_t>(problem_.num_labels), -1);  // labelling after a label's last move
    int version = 0;
    const auto stale = [&](int label) { return seen[static_cast<std::size_t>(label)] != version; };
    while (result.sweeps < problem_.max_sweeps && !result.converged) {
      ++result.sweeps;
      for (int label = 0; label < problem_.num_labels; ++label) {
        if (!stale(label)) continue;
        if (expand(static_cast<std::uint8_t>(label))) ++version;
        seen[static_cast<std::size_t>(label)] = version;
      }
      result.converged = std::all_of(seen.begin(), seen.end(), [&](int v) { return v == version; });
    }
  }

  // Divisions are slow: the node of each pixel is looked up.
  void number() {
    nodes_.clear();
    numbered_height_ = problem_.height;
    numbered_width_ = problem_.width;
    for (int y = 0; y < problem_.height; ++y) {
      for (int x = 0; x < problem_.width; ++x) nodes_.push_back(graph_.index(y, x));
    }
  }

  bool movable(std::size_t pixel, std::uint8_t alpha) const {
    return inside(pixel) && problem_.seeds[pixel] == kVoid && labels_[pixel] != alpha;
  }

  // Lets `alpha` take any set of pixels if that lowers the energy; ties keep the labels. Source side = take.
  bool expand(std::uint8_t alpha) {
    gain_bound_ = 0;
    if (!build(alpha)) return false;
    gain_bound_ = supply_ - graph_.solve();
    previous_.assign(labels_, labels_ + pixels_);
    bool changed = false;
    for (std::size_t pixel = 0; pixel < pixels_; ++pixel) {
      if (!graph_.in_source(node(pixel))) continue;
      labels_[pixel] = alpha;
      changed = true;
    }
    if (!changed) return false;
    const std::int64_t after = energy();
    if (after < energy_) {
      energy_ = after;
      return true;
    }
    std::copy(previous_.begin(), previous_.end(), labels_);  // not reached while the cut is right
    return false;
  }

  // The graph of one move. Pixels that hold alpha, and seeds, are constants and no nodes. Returns false when no pixel
  // could gain, so that no cut is needed.
  bool build(std::uint8_t alpha) {
    graph_.reset(problem_.height, problem_.width);
    if (numbered_height_ != problem_.height || numbered_width_ != problem_.width) number();
    terminal_.assign(pixels_, 0);
    for (std::size_t pixel = 0; pixel < pixels_; ++pixel) {
      if (movable(pixel, alpha)) terminal_[pixel] = cost_[labels_[pixel] * pixels_ + pixel] - cost_[alpha * pixels_ + pixel];
    }
    for_each_edge([&](std::size_t pixel, std::size_t other, int e, std::size_t i) {
      if (weight_[i] > 0) add_edge(pixel, other, e, weight_[i], alpha);
    });
    supply_ = 0;
    for (std::size_t pixel = 0; pixel < pixels_; ++pixel) {
      if (terminal_[pixel] == 0) continue;
      supply_ += std::max(terminal_[pixel], 0);
      graph_.add_terminal(node(pixel), terminal_[pixel]);
    }
    return supply_ > 0;
  }

  typename GridMaxflow<D>::Index node(std::size_t pixel) const { return nodes_[pixel]; }

  void add_edge(std::size_t pixel, std::size_t other, int plane, std::int32_t weight, std::uint8_t alpha) {
    const bool first = movable(pixel, alpha), second = movable(other, alpha);
    const std::uint8_t a = labels_[pixel], b = labels_[other];
    if (first && second) {
      if (a == b) {
        graph_.set_arc(node(pixel), 2 * plane, weight, weight);
      } else {
        // w (1 - x_p x_q) = w - w x_q + w (1 - x_p) x_q: the cut arc leads from q to p.
        terminal_[other] += weight;
        graph_.set_arc(node(pixel), 2 * plane, 0, weight);
      }
    } else if (first) {
      terminal_[pixel] += weight * ((a != b) - (alpha != b));
    } else if (second) {
      terminal_[other] += weight * ((a != b) - (alpha != a));
    }
  }

  // Integer energy of the labelling, without the sum of the best unaries.
  std::int64_t energy() const {
    std::int64_t sum = 0;
    for (std::size_t pixel = 0; pixel < pixels_; ++pixel) {
      if (inside(pixel)) sum += cost_[labels_[pixel] * pixels_ + pixel];
    }
    for_each_edge([&](std::size_t pixel, std::size_t other, int, std::size_t i) {
      if (labels_[pixel] != labels_[other]) sum += weight_[i];
    });
    return sum;
  }

  // Energy in double precision from the float inputs.
  void measure(ExpansionResult& result) const {
    for (std::size_t pixel = 0; pixel < pixels_; ++pixel) {
      if (inside(pixel)) result.unary += problem_.unary[labels_[pixel] * pixels_ + pixel];
    }
    for_each_edge([&](std::size_t pixel, std::size_t other, int, std::size_t i) {
      if (labels_[pixel] != labels_[other]) result.pairwise += problem_.edges[i];
    });
    const double total = result.unary + result.pairwise;
    if (problem_.num_labels == 1) {
      result.lower_bound = total;
      result.has_bound = true;
    }
    result.lower_bound = std::min(result.lower_bound, total);  // both are sums of many doubles
  }

  ExpansionProblem problem_;
  std::uint8_t* labels_ = nullptr;
  std::size_t pixels_ = 0;
  double scale_ = 1, offset_ = 0;
  std::vector<std::int32_t> weight_, cost_, terminal_;
  std::vector<std::uint8_t> best_, previous_;
  std::vector<typename GridMaxflow<D>::Index> nodes_;
  int numbered_height_ = 0, numbered_width_ = 0;
  std::int64_t supply_ = 0, gain_bound_ = 0;  // of the last move
  std::int64_t energy_ = 0;                   // of the labelling
  GridMaxflow<D> graph_;
};

}  // namespace weakseg
