// What alpha-expansion should find, by slow and plain means that share nothing with the code under test.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

#include "problem.hpp"

namespace fuzz {

using Labels = std::vector<std::uint8_t>;
using Real = long double;

inline Real score(const Problem& problem, int label, int pixel) {
  return problem.slope * static_cast<Real>(problem.scores[Problem::at(label)][Problem::at(pixel)]);
}

inline int best_label(const Problem& problem, int pixel) {
  int best = 0;
  for (int k = 1; k < problem.num_labels; ++k) {
    if (score(problem, k, pixel) < score(problem, best, pixel)) best = k;
  }
  return best;
}

// The labeling that a solver starts from.
inline Labels start_of(const Problem& problem) {
  Labels labels(Problem::at(problem.pixels()), kVoid);
  for (int p = 0; p < problem.pixels(); ++p) {
    const std::size_t i = Problem::at(p);
    if (problem.valid[i] == 0) continue;
    if (problem.seeds[i] != kVoid) labels[i] = problem.seeds[i];
    else if (problem.initial[i] != kVoid) labels[i] = problem.initial[i];
    else labels[i] = static_cast<std::uint8_t>(best_label(problem, p));
  }
  return labels;
}

// The energy of a labeling, and the sum of the sizes of its terms.
struct Energy {
  Real unary = 0, pairwise = 0, size = 0;

  Energy(const Problem& problem, const Labels& labels) {
    for (int p = 0; p < problem.pixels(); ++p) {
      const int label = labels[Problem::at(p)];
      if (label == kVoid) continue;
      const Real zero = problem.slope * static_cast<Real>(problem.zero[Problem::at(p)]);
      unary += score(problem, label, p) - zero;
      size += std::abs(score(problem, label, p)) + std::abs(zero);
    }
    for (const Edge& edge : problem.edges) {
      if (labels[Problem::at(edge.p)] != labels[Problem::at(edge.q)]) pairwise += edge.weight;
    }
    size += pairwise;
  }
  Real total() const { return unary + pairwise; }
};

// By how much the energy falls from one labeling to another, from the terms that change alone.
inline Real gain_of(const Problem& problem, const Labels& before, const Labels& after) {
  Real gain = 0;
  for (int p = 0; p < problem.pixels(); ++p) {
    const std::uint8_t a = before[Problem::at(p)], b = after[Problem::at(p)];
    if (a != b) gain += score(problem, a, p) - score(problem, b, p);
  }
  for (const Edge& edge : problem.edges) {
    const bool cut = before[Problem::at(edge.p)] != before[Problem::at(edge.q)];
    gain += static_cast<Real>(edge.weight) * (cut - (after[Problem::at(edge.p)] != after[Problem::at(edge.q)]));
  }
  return gain;
}

struct Flip {
  int pixel, label;
};

// The labeling of least energy if any of the given pixels may take another label: tries every subset.
inline Labels best_subset(const Problem& problem, Labels labels, const std::vector<Flip>& flips) {
  std::vector<std::vector<Edge>> edges_at(Problem::at(problem.pixels()));
  for (const Edge& edge : problem.edges) {
    edges_at[Problem::at(edge.p)].push_back(edge);
    edges_at[Problem::at(edge.q)].push_back({edge.q, edge.p, edge.weight});
  }
  std::vector<int> others;
  for (const Flip& flip : flips) others.push_back(flip.label);
  Labels best = labels;
  Real gain = 0, most = 0;
  for (std::uint32_t step = 1; step < (1U << flips.size()); ++step) {  // Gray code: one pixel a step
    std::size_t flip = 0;
    while ((step >> flip & 1U) == 0) ++flip;
    const int p = flips[flip].pixel;
    const int before = labels[Problem::at(p)], after = std::exchange(others[flip], before);
    gain += score(problem, before, p) - score(problem, after, p);
    for (const Edge& edge : edges_at[Problem::at(p)]) {
      const int there = labels[Problem::at(edge.q)];
      gain += static_cast<Real>(edge.weight) * ((before != there) - (after != there));
    }
    labels[Problem::at(p)] = static_cast<std::uint8_t>(after);
    if (gain <= most) continue;
    most = gain;
    best = labels;
  }
  return best;
}

// Dinic's maximum flow on an explicit graph.
class Cut {
 public:
  explicit Cut(int nodes) : source_(nodes), sink_(nodes + 1), first_(Problem::at(nodes + 2), -1) {}

  void add_arc(int from, int to, std::int64_t capacity) {
    add_half(from, to, capacity);
    add_half(to, from, 0);
  }
  // Cost of lying on the source side.
  void add_cost(int node, std::int64_t cost) {
    if (cost > 0) add_arc(node, sink_, cost);
    if (cost < 0) add_arc(source_, node, -cost);
  }
  void solve() {
    while (find_levels()) {
      next_ = first_;
      while (push(source_, std::numeric_limits<std::int64_t>::max()) > 0) {}
    }
  }
  // After `solve`: the smallest source side of all minimum cuts.
  bool on_source_side(int node) const { return level_[Problem::at(node)] >= 0; }

 private:
  struct Half {
    int to, next;
    std::int64_t capacity;
  };

  void add_half(int from, int to, std::int64_t capacity) {
    halves_.push_back({to, first_[Problem::at(from)], capacity});
    first_[Problem::at(from)] = static_cast<int>(halves_.size()) - 1;
  }

  bool find_levels() {
    level_.assign(first_.size(), -1);
    level_[Problem::at(source_)] = 0;
    queue_.assign(1, source_);
    for (std::size_t head = 0; head < queue_.size(); ++head) {
      const int node = queue_[head];
      for (int h = first_[Problem::at(node)]; h >= 0; h = halves_[Problem::at(h)].next) {
        const Half& half = halves_[Problem::at(h)];
        if (half.capacity == 0 || level_[Problem::at(half.to)] >= 0) continue;
        level_[Problem::at(half.to)] = level_[Problem::at(node)] + 1;
        queue_.push_back(half.to);
      }
    }
    return level_[Problem::at(sink_)] >= 0;
  }

  std::int64_t push(int node, std::int64_t most) {
    if (node == sink_) return most;
    for (int& h = next_[Problem::at(node)]; h >= 0; h = halves_[Problem::at(h)].next) {
      const auto [to, next, capacity] = halves_[Problem::at(h)];
      if (capacity == 0 || level_[Problem::at(to)] != level_[Problem::at(node)] + 1) continue;
      const std::int64_t amount = push(to, std::min(most, capacity));
      if (amount == 0) continue;
      halves_[Problem::at(h)].capacity -= amount;
      halves_[Problem::at(h ^ 1)].capacity += amount;
      return amount;
    }
    return 0;
  }

  int source_, sink_;
  std::vector<int> first_, next_, level_, queue_;
  std::vector<Half> halves_;
};

// The problem in integers, finer than the solver's by 2^14. Unaries are relative to the pixel's best label.
class IntegerProblem {
 public:
  explicit IntegerProblem(const Problem& problem) : problem_(problem) {
    Real largest = 0;
    for (const Edge& edge : problem.edges) largest = std::max<Real>(largest, edge.weight);
    scale_ = largest > 0 ? 0x1p40L / largest : 1e30L * kUnit;  // without edges any difference decides
    for (const Edge& edge : problem.edges) {
      weights_.push_back(round(edge.weight * scale_));
    }
    for (int k = 0; k < problem.num_labels; ++k) {
      for (int p = 0; p < problem.pixels(); ++p) unaries_.push_back(problem.is_free(p) ? unary(k, p) : 0);
    }
  }

  // Whether the solver's integers are exact too.
  bool exact() const { return exact_; }

  // What the solver's rounding may cost in all.
  std::int64_t rounding() const {
    return exact_ ? 0 : kUnit * static_cast<std::int64_t>(problem_.edges.size() + problem_.pixels());
  }

  // Lets `alpha` take the smallest of the sets that lower the energy most; returns by how much.
  std::int64_t expand(Labels& labels, int alpha) const {
    std::vector<int> node(labels.size(), -1), pixel;
    for (int p = 0; p < problem_.pixels(); ++p) {
      if (!problem_.is_free(p) || labels[Problem::at(p)] == alpha) continue;
      node[Problem::at(p)] = static_cast<int>(pixel.size());
      pixel.push_back(p);
    }
    std::vector<std::int64_t> cost;
    for (const int p : pixel) cost.push_back(at(alpha, p) - at(labels[Problem::at(p)], p));
    Cut cut(static_cast<int>(pixel.size()));
    for (std::size_t e = 0; e < weights_.size(); ++e) {
      const int p = problem_.edges[e].p, q = problem_.edges[e].q;
      const int a = labels[Problem::at(p)], b = labels[Problem::at(q)];
      const std::int64_t keep = a != b ? weights_[e] : 0, second = a != alpha ? weights_[e] : 0;
      add_term(cut, cost, node[Problem::at(p)], node[Problem::at(q)], keep, second, alpha != b ? weights_[e] : 0);
    }
    for (std::size_t i = 0; i < pixel.size(); ++i) cut.add_cost(static_cast<int>(i), cost[i]);
    cut.solve();
    const std::int64_t before = energy(labels);
    for (std::size_t i = 0; i < pixel.size(); ++i) {
      if (cut.on_source_side(static_cast<int>(i))) labels[Problem::at(pixel[i])] = static_cast<std::uint8_t>(alpha);
    }
    return before - energy(labels);
  }

 private:
  static constexpr std::int64_t kUnit = 1 << 14, kMost = std::int64_t{1} << 50;  // far above a pixel's edges

  std::int64_t round(Real value) {
    const Real whole = std::floor(value);
    if (whole != value || static_cast<std::int64_t>(whole) % kUnit != 0) exact_ = false;
    return static_cast<std::int64_t>(whole);
  }

  std::int64_t unary(int label, int p) {
    const Real more = (score(problem_, label, p) - score(problem_, best_label(problem_, p), p)) * scale_;
    if (more < static_cast<Real>(kMost)) return round(more);
    exact_ = false;
    return kMost;
  }

  std::int64_t at(int label, int p) const { return unaries_[Problem::at(label * problem_.pixels() + p)]; }

  // An edge between nodes or constants (-1) that costs `keep` if both keep their labels, `second` if the second alone
  // takes alpha, `first` if the first does, and nothing if both do.
  static void add_term(Cut& cut, std::vector<std::int64_t>& cost, int p, int q, std::int64_t keep, std::int64_t second,
                       std::int64_t first) {
    if (p >= 0) cost[Problem::at(p)] += first - keep;
    if (q >= 0) cost[Problem::at(q)] += p >= 0 ? -first : second - keep;
    if (p >= 0 && q >= 0) cut.add_arc(q, p, first + second - keep);
  }

  std::int64_t energy(const Labels& labels) const {
    std::int64_t sum = 0;
    for (int p = 0; p < problem_.pixels(); ++p) {
      if (problem_.is_free(p)) sum += at(labels[Problem::at(p)], p);
    }
    for (std::size_t e = 0; e < weights_.size(); ++e) {
      const Edge& edge = problem_.edges[e];
      if (labels[Problem::at(edge.p)] != labels[Problem::at(edge.q)]) sum += weights_[e];
    }
    return sum;
  }

  const Problem& problem_;
  Real scale_ = 1;
  std::vector<std::int64_t> weights_, unaries_;
  bool exact_ = true;
};

}  // namespace fuzz
