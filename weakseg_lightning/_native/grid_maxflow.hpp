// Maximum flow on a 4- or 8-connected pixel grid, without adjacency lists.
//
// A pseudoflow algorithm: every terminal arc starts saturated, and what nodes have too much is pushed along trees to
// nodes that have too little, guided by lower bounds of the distance to them.
//   D. Hochbaum, "The Pseudoflow Algorithm: A New Algorithm for the Maximum-Flow Problem", Operations Research 56(4), 2008.
//   B. Chandran and D. Hochbaum, "A Computational Study of the Pseudoflow and Push-Relabel Algorithms for the Maximum
//   Flow Problem", Operations Research 57(2), 2009 (labels, lowest label first, gaps).
// Beyond the papers: exact labels and fresh trees by breadth-first search now and then, and pushing from the side of the
// cut that has less to push.
// The graph is implicit: a neighbour is a fixed offset away, the capacities of a node's arcs lie side by side, and a
// frame of unreachable nodes around the grid saves all bounds checks.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

namespace weakseg {

// Direction 2e is the forward direction of edge plane e, direction 2e + 1 its opposite; the first four are the 4-grid.
constexpr std::array<int, 8> kDeltaRow = {0, 0, 1, -1, 1, -1, 1, -1};
constexpr std::array<int, 8> kDeltaColumn = {1, -1, 0, 0, 1, -1, -1, 1};

template <int D>
class GridMaxflow {
  static_assert(D == 4 || D == 8, "the grid is 4- or 8-connected");

 public:
  using Index = std::int32_t;
  // The caller keeps |terminal| + the sum of a node's arcs below 2^31: no excess can then overflow.
  using Capacity = std::int32_t;

  // Makes an empty graph of height x width nodes; memory is kept between calls.
  void reset(int height, int width) {
    // One column of frame between rows is enough: it is right of one row and left of the next.
    stride_ = width + 1;
    const auto size = static_cast<std::size_t>(height + 2) * static_cast<std::size_t>(stride_) + 2;
    for (int d = 0; d < D; ++d) offset_[d] = kDeltaRow[d] * stride_ + kDeltaColumn[d];
    begin_ = index(0, 0);
    end_ = index(height - 1, width - 1) + 1;
    excess_.assign(size, 0);
    arcs_.assign(size, Arcs{});
    label_.resize(size);
    parent_.resize(size);
    current_.resize(size);
    scan_.resize(size);
    next_.resize(size);
    queue_.resize(size);
    bucket_.assign(size + 2, kNobody);
    count_.assign(size + 2, 0);
    highest_ = 0;
  }

  Index index(int row, int column) const { return (row + 1) * stride_ + column + 1; }

  // Adds `amount` to the source arc (positive) or the sink arc (negative) of a node.
  void add_terminal(Index node, Capacity amount) { excess_[node] += amount; }

  // Sets the arc from `node` in `direction` and the arc back.
  void set_arc(Index node, int direction, Capacity forward, Capacity backward) {
    arcs_[node][direction] = forward;
    arcs_[node + offset_[direction]][direction ^ 1] = backward;
  }

  // Flow pushed from source to sink, what `add_terminal` cancels within a node not counted.
  std::int64_t solve() {
    const auto [supply, demand] = totals();
    const bool reversed = demand < supply;
    if (reversed) reverse();
    relabel_exactly();
    while (const Index root = pop_lowest()) {
      process(root);
      if (relabels_ > relabel_limit_) relabel_exactly();
    }
    const std::int64_t left = totals().first;
    reversed ? mark_reaching() : mark_reached();
    return std::min(supply, demand) - left;
  }

  // True for the smallest source side among all minimum cuts.
  bool in_source(Index node) const { return label_[node] != kUnreachable; }

 private:
  static constexpr std::uint8_t kRoot = D;
  static constexpr Index kNobody = 0;  // node 0 belongs to the frame
  static constexpr std::int32_t kUnreachable = std::numeric_limits<std::int32_t>::max();
  using Arcs = std::array<Capacity, D>;

  std::pair<std::int64_t, std::int64_t> totals() const {
    std::int64_t supply = 0, demand = 0;
    for (Index node = begin_; node < end_; ++node) {
      if (excess_[node] > 0) supply += excess_[node];
      else demand -= excess_[node];
    }
    return {supply, demand};
  }

  // Exchanges source and sink and turns all arcs round.
  void reverse() {
    for (Index node = begin_; node < end_; ++node) {
      excess_[node] = -excess_[node];
      for (int d = 0; d < D; d += 2) std::swap(arcs_[node][d], arcs_[node + offset_[d]][d ^ 1]);
    }
  }

  // Breadth-first search from the nodes that lack flow: exact labels, and their trees. Nodes with excess are roots; what
  // cannot reach a lacking node never will and is left out for good.
  void relabel_exactly() {
    clear_buckets();
    std::fill(label_.begin(), label_.end(), kUnreachable);
    std::fill(parent_.begin(), parent_.end(), kRoot);
    std::fill(current_.begin(), current_.end(), std::uint8_t{0});
    std::size_t tail = 0;
    for (Index node = begin_; node < end_; ++node) {
      if (excess_[node] < 0) label_[queue_[tail++] = node] = 0;
    }
    for (std::size_t head = 0; head < tail; ++head) {
      const Index node = queue_[head];
      const std::int32_t label = label_[node];
      ++count_[label];
      highest_ = label;
      if (excess_[node] > 0) enqueue(node);
      for (int d = 0; d < D; ++d) {
        const Index other = node + offset_[d];
        if (label_[other] != kUnreachable || arcs_[other][d ^ 1] == 0) continue;
        label_[other] = label + 1;
        if (excess_[other] <= 0) parent_[other] = static_cast<std::uint8_t>(d ^ 1);
        queue_[tail++] = other;
      }
    }
    relabels_ = 0;
    relabel_limit_ = static_cast<std::int64_t>(tail);
  }

  void clear_buckets() {
    std::fill_n(bucket_.begin(), highest_ + 1, kNobody);
    std::fill_n(count_.begin(), highest_ + 1, 0);
    highest_ = 0;
    lowest_ = kUnreachable;
  }

  void enqueue(Index root) {
    const std::int32_t label = label_[root];
    next_[root] = bucket_[label];
    bucket_[label] = root;
    lowest_ = std::min(lowest_, label);
  }

  // A root with excess of the lowest label, or nobody when none can reach a lacking node any more.
  Index pop_lowest() {
    while (lowest_ <= highest_ && bucket_[lowest_] == kNobody) ++lowest_;
    if (lowest_ > highest_) return kNobody;
    // A gap: no node is one step closer than any of the roots left.
    if (lowest_ > 0 && count_[lowest_ - 1] == 0) return kNobody;
    const Index root = bucket_[lowest_];
    bucket_[lowest_] = next_[root];
    return root;
  }

  // Depth-first search of the root's label in its tree (labels never decrease away from the root) for an arc to a label
  // one lower; pushes the excess over it, or raises all these labels by one.
  void process(Index root) {
    const std::int32_t label = label_[root];
    scan_[root] = 0;
    for (Index node = root;;) {
      if (const int d = admissible(node, label); d < D) return merge(root, node, static_cast<std::uint8_t>(d));
      if (const int d = next_child(node, label); d < D) {
        node += offset_[d];
        scan_[node] = 0;
        continue;
      }
      raise(node);
      if (node == root) break;
      node += offset_[parent_[node]];
    }
    enqueue(root);
  }

  int admissible(Index node, std::int32_t label) {
    const Arcs& arcs = arcs_[node];
    int d = current_[node];
    while (d < D && (arcs[d] == 0 || label_[node + offset_[d]] != label - 1)) ++d;
    current_[node] = static_cast<std::uint8_t>(d);
    return d;
  }

  int next_child(Index node, std::int32_t label) {
    int d = scan_[node];
    while (d < D && (parent_[node + offset_[d]] != (d ^ 1) || label_[node + offset_[d]] != label)) ++d;
    scan_[node] = static_cast<std::uint8_t>(d + 1);
    return d;
  }

  void raise(Index node) {
    const std::int32_t label = label_[node]++;
    --count_[label];
    ++count_[label + 1];
    highest_ = std::max(highest_, label + 1);
    current_[node] = 0;
    ++relabels_;
  }

  // Turns the tree round so that `node` becomes its root, hangs it below its neighbour, and pushes.
  void merge(Index root, Index node, std::uint8_t direction) {
    for (Index here = node;;) {
      const std::uint8_t old = std::exchange(parent_[here], direction);
      if (here == root) break;
      here += offset_[old];
      direction = old ^ 1;
    }
    push(root);
  }

  // Sends the excess of a node towards the root of its tree; where an arc cannot carry it all, the tree is cut.
  void push(Index node) {
    while (parent_[node] != kRoot) {
      const std::uint8_t d = parent_[node];
      const Index up = node + offset_[d];
      const Capacity amount = std::min(excess_[node], arcs_[node][d]);
      arcs_[node][d] -= amount;
      arcs_[up][d ^ 1] += amount;
      excess_[node] -= amount;
      excess_[up] += amount;
      if (excess_[node] > 0) {
        parent_[node] = kRoot;
        enqueue(node);
      }
      if (excess_[up] <= 0) return;
      node = up;
    }
    enqueue(node);
  }

  // Labels 0 for what excess can reach.
  void mark_reached() {
    mark([&](Index node) { return excess_[node] > 0; }, [&](Index node, int d) { return arcs_[node][d] > 0; });
  }

  // Labels 0 for what can reach a lacking node: in the reversed graph, what excess can reach in the given one.
  void mark_reaching() {
    mark([&](Index node) { return excess_[node] < 0; },
         [&](Index node, int d) { return arcs_[node + offset_[d]][d ^ 1] > 0; });
  }

  template <class IsStart, class IsOpen>
  void mark(IsStart is_start, IsOpen is_open) {
    std::fill(label_.begin(), label_.end(), kUnreachable);
    std::size_t tail = 0;
    for (Index node = begin_; node < end_; ++node) {
      if (is_start(node)) label_[queue_[tail++] = node] = 0;
    }
    for (std::size_t head = 0; head < tail; ++head) {
      const Index node = queue_[head];
      for (int d = 0; d < D; ++d) {
        const Index other = node + offset_[d];
        if (label_[other] == 0 || !is_open(node, d)) continue;
        label_[other] = 0;
        queue_[tail++] = other;
      }
    }
  }

  Index stride_ = 0, begin_ = 0, end_ = 0;
  std::array<Index, D> offset_{};
  std::vector<Capacity> excess_;  // positive or zero inside a tree, of any sign at its root
  std::vector<Arcs> arcs_;        // residual capacities
  std::vector<std::int32_t> label_;
  std::vector<std::uint8_t> parent_;   // direction of the parent in the tree, or kRoot
  std::vector<std::uint8_t> current_;  // first direction that may be admissible
  std::vector<std::uint8_t> scan_;     // first direction whose child the search has not seen
  std::vector<Index> next_, bucket_;   // roots with excess by label, as linked lists
  std::vector<std::int32_t> count_;    // nodes by label
  std::vector<Index> queue_;
  std::int32_t lowest_ = 0, highest_ = 0;
  std::int64_t relabels_ = 0, relabel_limit_ = 0;
};

}  // namespace weakseg
