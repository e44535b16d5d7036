// alpha-expansion for grid Potts energies.
//
//   Y. Boykov, O. Veksler, R. Zabih, "Fast Approximate Energy Minimization via Graph Cuts", PAMI 23(11), 2001, section 5.
//   V. Kolmogorov, R. Zabih, "What Energy Functions Can Be Minimized via Graph Cuts?", PAMI 26(2), 2004, section 4:
//   the terms of a move are reduced to arcs directly, without auxiliary nodes.
// Beyond the papers, none of which changes a move:
//  - Only a pixel next to another label, or one that does not hold its best label, can gain from a move on its own; the
//    sources of a cut are looked for among these alone.
//  - Where nothing has changed since a label's last move, the flow of that move still stands. Connected pixels that it
//    passed are left out, unless a change, or flow from elsewhere, meets them.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "grid_maxflow.hpp"

namespace weakseg {

constexpr std::uint8_t kVoid = 255;

// One image: planes are row-major height x width. Labels are 0..num_labels - 1; `seeds` and `initial` hold kVoid where
// there is none. Label k costs slope * (planes[k][pixel] - zero[pixel]).
struct ExpansionProblem {
  int height = 0, width = 0, num_labels = 0;
  const float* const* planes = nullptr;
  const float* zero = nullptr;          // one plane
  double slope = 1;
  const float* edges = nullptr;         // a plane for each forward direction, in their order
  const std::uint8_t* seeds = nullptr;  // hard constraints
  const std::uint8_t* valid = nullptr;  // 0 on padding
  const std::uint8_t* initial = nullptr;
  int max_sweeps = 5;
};

enum class Failure : std::int32_t { kNone = 0, kScores = 1, kEdges = 2 };  // what is not finite

struct ExpansionResult {
  Failure failure = Failure::kNone;
  double unary = 0, pairwise = 0, lower_bound = 0;
  int sweeps = 0;
  bool converged = false, has_bound = false;
};

template <int D>
class AlphaExpansion {
 public:
  using Index = FramedGrid::Index;
  using Capacity = typename GridMaxflow<D>::Capacity;
  using Arcs = typename GridMaxflow<D>::Arcs;

  // Writes a label per pixel, kVoid on padding; nothing where it fails.
  ExpansionResult run(const ExpansionProblem& problem, std::uint8_t* labels) {
    problem_ = problem;
    grid_ = FramedGrid(problem.height, problem.width);
    pixels_ = static_cast<std::size_t>(problem.height) * static_cast<std::size_t>(problem.width);
    ExpansionResult result;
    if (!read_pixels()) result.failure = Failure::kScores;
    else if (!quantize_edges()) result.failure = Failure::kEdges;
    if (result.failure != Failure::kNone) return result;
    start();
    if (problem.num_labels == 1) result.converged = true;
    else if (problem.num_labels == 2) binary(result);
    else sweep(result);
    measure(result);
    for_each_pixel([&](std::size_t pixel, Index node) { labels[pixel] = label_[node]; });
    return result;
  }

  // ---- the graph of a move, for GridMaxflow: source side = take alpha -----------------------------------------------
  // Pixels that hold alpha, and seeds, are constants and no nodes.

  bool is_node(Index node) const { return is_free(node) && label_[node] != alpha_; }

  Capacity describe(Index node, Arcs& arcs) const {
    const std::uint8_t own = label_[node];
    Capacity terminal = cost(own, node) - cost(alpha_, node);
    for (int d = 0; d < D; ++d) {
      const Index other = node + grid_.offset[d];
      const Capacity weight = edge(node, d);
      const std::uint8_t there = label_[other];
      arcs[d] = 0;
      if (weight == 0) continue;
      if (!is_node(other)) {
        terminal += weight * ((own != there) - (alpha_ != there));
      } else if (own == there) {
        arcs[d] = weight;
      } else if (d % 2 != 0) {
        // Of two labels a, b: w (1 - x_p x_q) = w - w x_q + w (1 - x_p) x_q: the cut arc leads from q to p.
        terminal += weight;
        arcs[d] = weight;
      }
    }
    return terminal;
  }

  const std::vector<Index>& more_sources() {
    sources_.clear();
    if (held_.empty()) return sources_;
    for (const Index node : graph_.touched()) forget(node);
    return sources_;
  }

 private:
  static constexpr int E = D / 2;
  static constexpr std::uint8_t kFree = 1, kListed = 2, kHeld = 4;  // flags of a node
  // 8 edges of this size, a unary of the same size and one unit stay below 2^31.
  static constexpr double kLargestEdge = 67108864.0;  // 2^26

  bool is_free(Index node) const { return (flags_[node] & kFree) != 0; }

  template <class Visit>
  void for_each_pixel(Visit visit) const {
    std::size_t pixel = 0;
    for (int row = 0; row < problem_.height; ++row) {
      Index node = grid_.node(row, 0);
      for (int column = 0; column < problem_.width; ++column) visit(pixel++, node++);
    }
  }

  // Finds the best label of every pixel, and which pixels are padding, seeds, or free. False if a score is not finite.
  bool read_pixels() {
    label_.assign(grid_.size, kVoid);
    best_.assign(grid_.size, kVoid);
    flags_.assign(grid_.size, 0);
    const auto width = static_cast<std::size_t>(problem_.width);
    std::vector<float> least(width), poison(width);
    std::vector<std::uint8_t> label(width);
    for (int row = 0; row < problem_.height; ++row) {
      const std::size_t first = static_cast<std::size_t>(row) * width;
      find_best(first, least.data(), poison.data(), label.data());
      const Index node = grid_.node(row, 0);
      for (std::size_t x = 0; x < width; ++x) {
        if (problem_.valid[first + x] == 0) continue;
        if (poison[x] != 0) return false;
        const std::uint8_t seed = problem_.seeds[first + x];
        const Index here = node + static_cast<Index>(x);
        if (seed == kVoid) flags_[here] = kFree;
        label_[here] = best_[here] = seed == kVoid ? label[x] : seed;
      }
    }
    return true;
  }

  // Best label of each pixel of one row, the first among equals; `poison` is 0 where all scores are finite.
  void find_best(std::size_t first, float* least, float* poison, std::uint8_t* label) const {
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

  // Integers for the cut. All terms are rounded down, so that the integer optimum divided by the scale bounds the float
  // energy from below. The scale maps the largest edge to 2^26. A label that costs a pixel more than its best label and
  // all its edges together can never pay off: `limit_` clamps it just above that sum, which changes no optimum, keeps
  // every number inside int32, and leaves the scale to the edges alone. False if an edge is not finite.
  bool quantize_edges() {
    double largest = 0;
    float poison = 0;
    for_each_edge([&](Index, Index, int, float weight) {
      largest = std::max(largest, static_cast<double>(weight));
      poison += 0.0F * weight;
    });
    if (poison != 0) return false;
    scale_ = largest > 0 ? kLargestEdge / largest : 1e30;  // without edges any difference between labels decides
    weight_.assign(static_cast<std::size_t>(E) * grid_.size, 0);
    limit_.assign(grid_.size, 1);
    for_each_edge([&](Index node, Index other, int e, float weight) {
      const auto rounded = static_cast<Capacity>(static_cast<double>(weight) * scale_);
      weight_[static_cast<std::size_t>(node) * E + static_cast<std::size_t>(e)] = rounded;
      limit_[node] += rounded;
      limit_[other] += rounded;
    });
    return true;
  }

  // Calls visit(node, other, plane, weight) for every edge between two valid pixels.
  template <class Visit>
  void for_each_edge(Visit visit) const {
    for_each_pixel([&](std::size_t pixel, Index node) {
      if (label_[node] == kVoid) return;
      for (int e = 0; e < E; ++e) {
        const Index other = node + grid_.offset[2 * e];
        if (label_[other] != kVoid) visit(node, other, e, problem_.edges[static_cast<std::size_t>(e) * pixels_ + pixel]);
      }
    });
  }

  Capacity edge(Index node, int d) const {
    const Index first = d % 2 == 0 ? node : node + grid_.offset[d];
    return weight_[static_cast<std::size_t>(first) * E + static_cast<std::size_t>(d / 2)];
  }

  // What a label costs a free pixel more than its best label.
  Capacity cost(std::uint8_t label, Index node) const {
    const std::uint8_t best = best_[node];
    if (label == best) return 0;
    const std::size_t pixel = grid_.pixel(node);
    const double difference = static_cast<double>(problem_.planes[label][pixel]) - problem_.planes[best][pixel];
    const double more = difference * problem_.slope * scale_;
    return more < limit_[node] ? static_cast<Capacity>(more) : limit_[node];
  }

  // Puts the given labels in place of the best ones.
  void start() {
    candidates_.clear();
    for (std::vector<Index>* list : {&candidates_, &sources_, &held_, &stack_, &moved_}) {
      list->reserve(pixels_);  // address space alone; to grow would take three times what is used
    }
    for_each_pixel([&](std::size_t pixel, Index node) {
      if (!is_free(node)) return;
      if (problem_.initial[pixel] != kVoid) label_[node] = problem_.initial[pixel];
      list(node);
    });
    graph_.reset(grid_);
    standing_.assign(static_cast<std::size_t>(problem_.num_labels), std::vector<bool>());
    moved_.clear();
    seen_moves_.assign(static_cast<std::size_t>(problem_.num_labels), 0);
  }

  // Two labels: label 1 expands over a labelling of zeros, which reaches every labelling, so one cut is exact.
  void binary(ExpansionResult& result) {
    for (const Index node : candidates_) label_[node] = 0;
    const std::int64_t before = energy();
    const double offset = best_unary();
    const std::int64_t gain = expand(1);
    result.lower_bound = offset + static_cast<double>(before - gain) / scale_;
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
        if (expand(static_cast<std::uint8_t>(label)) > 0) ++version;
        seen[static_cast<std::size_t>(label)] = version;
      }
      result.converged = std::all_of(seen.begin(), seen.end(), [&](int v) { return v == version; });
    }
  }

  // Lets `alpha` take the set of pixels that lowers the energy most; ties keep the labels. Returns the gain.
  std::int64_t expand(std::uint8_t alpha) {
    alpha_ = alpha;
    forget_changes();
    find_sources();
    if (sources_.empty()) return 0;
    const std::int64_t gain = graph_.solve(*this, sources_);
    for (const Index node : graph_.source_side()) label_[node] = alpha;
    if (problem_.num_labels == 2) return gain;  // there is one move only
    remember_flow();
    for (const Index node : graph_.source_side()) {
      moved_.push_back(node);
      list(node);
      for (int d = 0; d < D; ++d) list(node + grid_.offset[d]);
    }
    return gain;
  }

  // Forgets alpha's last flow wherever a label has changed since.
  void forget_changes() {
    if (!standing_[alpha_].empty()) {
      for (std::size_t i = seen_moves_[alpha_]; i < moved_.size(); ++i) {
        forget(moved_[i]);
        for (int d = 0; d < D; ++d) forget(moved_[i] + grid_.offset[d]);
      }
    }
    seen_moves_[alpha_] = moved_.size();
  }

  // Forgets the flow through a node and through all that it connects; sources held back there become sources again.
  void forget(Index node) {
    std::vector<bool>& standing = standing_[alpha_];
    if (!standing[static_cast<std::size_t>(node)]) return;
    standing[static_cast<std::size_t>(node)] = false;
    for (stack_.assign(1, node); !stack_.empty();) {
      const Index here = stack_.back();
      stack_.pop_back();
      if ((flags_[here] & kHeld) != 0) {
        flags_[here] ^= kHeld;
        sources_.push_back(here);
      }
      for (int d = 0; d < D; ++d) {
        const auto other = static_cast<std::size_t>(here + grid_.offset[d]);
        if (!standing[other]) continue;
        standing[other] = false;
        stack_.push_back(static_cast<Index>(other));
      }
    }
  }

  void remember_flow() {
    if (moved_.size() > pixels_ / 2) {  // bounds the memory
      moved_.clear();
      std::fill(seen_moves_.begin(), seen_moves_.end(), 0);
      for (std::vector<bool>& standing : standing_) standing.clear();
    }
    std::vector<bool>& standing = standing_[alpha_];
    standing.resize(grid_.size);
    for (const Index node : graph_.touched()) {
      if (graph_.is_used(node)) standing[static_cast<std::size_t>(node)] = true;
    }
  }

  void list(Index node) {
    if (flags_[node] != kFree) return;
    flags_[node] |= kListed;
    candidates_.push_back(node);
  }

  // Finds the pixels that would take alpha if no neighbour objected, and drops from the candidates what lies inside its
  // best label: nothing there can gain. Holds back the sources whose flow still stands.
  void find_sources() {
    for (const Index node : held_) flags_[node] &= static_cast<std::uint8_t>(~kHeld);
    held_.clear();
    sources_.clear();
    const std::vector<bool>& standing = standing_[alpha_];
    Arcs arcs;
    std::size_t kept = 0;
    for (std::size_t i = 0; i < candidates_.size(); ++i) {
      const Index node = candidates_[i];
      if (is_settled(node)) {
        flags_[node] = kFree;
        continue;
      }
      candidates_[kept++] = node;
      if (label_[node] == alpha_ || cost(label_[node], node) - cost(alpha_, node) + limit_[node] <= 1) continue;
      if (describe(node, arcs) <= 0) continue;
      const bool stands = !standing.empty() && standing[static_cast<std::size_t>(node)];
      if (stands) flags_[node] |= kHeld;
      (stands ? held_ : sources_).push_back(node);
    }
    candidates_.resize(kept);
  }

  bool is_settled(Index node) const {
    const std::uint8_t own = label_[node];
    if (own != best_[node]) return false;
    for (int d = 0; d < D; ++d) {
      const std::uint8_t there = label_[node + grid_.offset[d]];
      if (there != own && there != kVoid) return false;
    }
    return true;
  }

  // Integer energy of the labelling, without the sum of the best unaries.
  std::int64_t energy() const {
    std::int64_t sum = 0;
    for_each_pixel([&](std::size_t, Index node) {
      if (label_[node] == kVoid) return;
      if (is_free(node)) sum += cost(label_[node], node);
      for (int e = 0; e < E; ++e) {
        if (label_[node + grid_.offset[2 * e]] != label_[node]) sum += edge(node, 2 * e);
      }
    });
    return sum;
  }

  double unary(std::uint8_t label, std::size_t pixel) const {
    return problem_.slope * (static_cast<double>(problem_.planes[label][pixel]) - problem_.zero[pixel]);
  }

  double best_unary() const {
    double sum = 0;
    for_each_pixel([&](std::size_t pixel, Index node) { sum += best_[node] != kVoid ? unary(best_[node], pixel) : 0; });
    return sum;
  }

  // Energy in double precision from the float inputs.
  void measure(ExpansionResult& result) const {
    for_each_pixel([&](std::size_t pixel, Index node) {
      if (label_[node] != kVoid) result.unary += unary(label_[node], pixel);
    });
    for_each_edge([&](Index node, Index other, int, float weight) {
      if (label_[node] != label_[other]) result.pairwise += weight;
    });
    const double total = result.unary + result.pairwise;
    if (problem_.num_labels == 1) {
      result.lower_bound = total;
      result.has_bound = true;
    }
    result.lower_bound = std::min(result.lower_bound, total);  // both are sums of many doubles
  }

  ExpansionProblem problem_;
  FramedGrid grid_;
  std::size_t pixels_ = 0;
  double scale_ = 1;
  std::uint8_t alpha_ = 0;  // of the move
  // By node:
  std::vector<std::uint8_t> label_, best_;  // kVoid on padding and in the frame
  std::vector<std::uint8_t> flags_;         // kFree: no padding, no seed; kListed: a candidate; kHeld: a source held back
  std::vector<Capacity> weight_;            // E edges a node
  std::vector<Capacity> limit_;             // one more than all edges of the node together
  std::vector<Index> candidates_, sources_, held_, stack_;
  std::vector<Index> moved_;                  // every pixel that a move changed, in order
  std::vector<std::size_t> seen_moves_;       // how many of these each label's flow has been checked against
  std::vector<std::vector<bool>> standing_;   // by label and node: passed by the flow of the label's last moves
  GridMaxflow<D> graph_;
};

}  // namespace weakseg
