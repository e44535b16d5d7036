// Maximum flow on a 4- or 8-connected pixel grid, without adjacency lists.
//
// Two search trees grow from the two terminals, meet, augment, and adopt their orphans:
//   Y. Boykov and V. Kolmogorov, "An Experimental Comparison of Min-Cut/Max-Flow Algorithms for
//   Energy Minimization in Vision", PAMI 26(9), 2004, sections 3.1 to 3.2.
// The graph is implicit: a neighbour is a fixed offset away, the capacities of a node's arcs lie side by side, and a
// frame of unreachable nodes around the grid saves all bounds checks.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
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
  using Capacity = std::int32_t;

  // Makes an empty graph of height x width nodes; memory is kept between calls.
  void reset(int height, int width) {
    // One column of frame between rows is enough: it is right of one row and left of the next.
    stride_ = width + 1;
    const auto size = static_cast<std::size_t>(height + 2) * static_cast<std::size_t>(stride_) + 2;
    for (int d = 0; d < D; ++d) offset_[d] = kDeltaRow[d] * stride_ + kDeltaColumn[d];
    nodes_.assign(size, Node{});
    arcs_.assign(size, Arcs{});
    std::size_t ring = 1;
    while (ring < size) ring *= 2;
    if (queue_.size() < ring) queue_.resize(ring);
    mask_ = queue_.size() - 1;
  }

  Index index(int row, int column) const { return (row + 1) * stride_ + column + 1; }
  Index neighbor(Index node, int direction) const { return node + offset_[direction]; }

  // Adds `amount` to the source arc (positive) or the sink arc (negative) of a node.
  void add_terminal(Index node, Capacity amount) { nodes_[node].excess += amount; }

  // Sets the arc from `node` in `direction` and the arc back.
  void set_arc(Index node, int direction, Capacity forward, Capacity backward) {
    arcs_[node][direction] = forward;
    arcs_[node + offset_[direction]][direction ^ 1] = backward;
  }

  // Flow pushed from source to sink, what `add_terminal` cancels within a node not counted.
  std::int64_t solve() {
    flow_ = 0;
    now_ = 0;
    head_ = tail_ = 0;
    plant_roots();
    while (head_ != tail_) {
      const Index node = queue_[head_++ & mask_];
      nodes_[node].queued = false;
      if (nodes_[node].tree != kFree) grow(node);
    }
    return flow_;
  }

  // True for the smallest source side among all minimum cuts.
  bool in_source(Index node) const { return nodes_[node].tree == kSource; }

 private:
  static constexpr std::uint8_t kFree = 0, kSource = 1, kSink = 2;
  static constexpr std::uint8_t kTerminal = D, kOrphan = D + 1, kNone = D + 2;
  static constexpr std::int32_t kFar = std::numeric_limits<std::int32_t>::max();

  struct Node {
    Capacity excess = 0;        // residual of the source arc (> 0) or of the sink arc (< 0)
    std::int32_t stamp = 0;     // when `distance` was last known to be right
    std::int32_t distance = 0;  // arcs to the terminal
    std::uint8_t tree = kFree;
    std::uint8_t parent = kNone;  // direction of the parent, or one of the marks above
    bool queued = false;
  };
  using Arcs = std::array<Capacity, D>;

  // Residual of the arc that carries flow from a parent `up` to its child (source tree) or back (sink tree), where
  // `direction` leads from `up` to the child.
  Capacity residual(std::uint8_t tree, Index up, Index child, int direction) const {
    return tree == kSource ? arcs_[up][direction] : arcs_[child][direction ^ 1];
  }

  void activate(Index node) {
    if (nodes_[node].queued) return;
    nodes_[node].queued = true;
    queue_[tail_++ & mask_] = node;
  }

  void plant_roots() {
    for (std::size_t i = 0; i < nodes_.size(); ++i) {
      Node& node = nodes_[i];
      if (node.excess == 0) continue;
      node.tree = node.excess > 0 ? kSource : kSink;
      node.parent = kTerminal;
      node.distance = 1;
      activate(static_cast<Index>(i));
    }
  }

  void grow(Index node) {
    const std::uint8_t tree = nodes_[node].tree;
    for (int d = 0; d < D; ++d) {
      const Index other = node + offset_[d];
      while (residual(tree, node, other, d) > 0 && nodes_[other].tree == 3 - tree) {
        if (tree == kSource) augment(node, other, d);
        else augment(other, node, d ^ 1);
        adopt_orphans();
        if (nodes_[node].tree != tree) return;
      }
      if (residual(tree, node, other, d) > 0) extend(node, other, d);
    }
  }

  // Takes a free node into the tree, or hangs a node of the same tree closer to the terminal.
  void extend(Index node, Index other, int direction) {
    const Node& from = nodes_[node];
    Node& to = nodes_[other];
    const bool closer = to.tree == from.tree && to.stamp <= from.stamp && to.distance > from.distance + 1;
    if (to.tree != kFree && !closer) return;
    const bool fresh = to.tree == kFree;
    to.tree = from.tree;
    to.parent = static_cast<std::uint8_t>(direction ^ 1);
    to.stamp = from.stamp;
    to.distance = from.distance + 1;
    if (fresh) activate(other);
  }

  // Pushes what the path source .. up -> down .. sink carries.
  void augment(Index up, Index down, int direction) {
    Capacity amount = arcs_[up][direction];
    amount = path_capacity(up, amount);
    amount = path_capacity(down, amount);
    ++now_;
    arcs_[up][direction] -= amount;
    arcs_[down][direction ^ 1] += amount;
    push_path(up, amount);
    push_path(down, amount);
    flow_ += amount;
  }

  Capacity path_capacity(Index node, Capacity amount) const {
    const std::uint8_t tree = nodes_[node].tree;
    while (nodes_[node].parent != kTerminal) {
      const int d = nodes_[node].parent;
      const Index up = node + offset_[d];
      const Capacity left = residual(tree, up, node, d ^ 1);
      if (left < amount) amount = left;
      node = up;
    }
    const Capacity left = tree == kSource ? nodes_[node].excess : -nodes_[node].excess;
    return left < amount ? left : amount;
  }

  void push_path(Index node, Capacity amount) {
    const std::uint8_t tree = nodes_[node].tree;
    const Capacity signed_amount = tree == kSource ? amount : -amount;
    while (nodes_[node].parent != kTerminal) {
      const int d = nodes_[node].parent;
      const Index up = node + offset_[d];
      arcs_[up][d ^ 1] -= signed_amount;
      arcs_[node][d] += signed_amount;
      if (residual(tree, up, node, d ^ 1) == 0) orphan(node);
      node = up;
    }
    nodes_[node].excess -= signed_amount;
    if (nodes_[node].excess == 0) orphan(node);
  }

  void orphan(Index node) {
    nodes_[node].parent = kOrphan;
    orphans_.push_back(node);
  }

  void adopt_orphans() {
    for (std::size_t i = 0; i < orphans_.size(); ++i) adopt(orphans_[i]);
    orphans_.clear();
  }

  void adopt(Index node) {
    const std::uint8_t tree = nodes_[node].tree;
    std::int32_t best = kFar;
    std::uint8_t parent = kNone;
    for (int d = 0; d < D; ++d) {
      const Index other = node + offset_[d];
      if (nodes_[other].tree != tree || residual(tree, other, node, d ^ 1) == 0) continue;
      const std::int32_t distance = distance_to_terminal(other);
      if (distance >= best) continue;
      best = distance;
      parent = static_cast<std::uint8_t>(d);
    }
    if (parent == kNone) return release(node, tree);
    nodes_[node].parent = parent;
    nodes_[node].stamp = now_;
    nodes_[node].distance = best + 1;
  }

  // Walks to the root and stamps the way, so that later walks stop early; `kFar` when the way ends in an orphan.
  std::int32_t distance_to_terminal(Index start) {
    std::int32_t distance = 0;
    for (Index node = start;;) {
      Node& here = nodes_[node];
      if (here.stamp == now_ && here.parent != kOrphan) {
        distance += here.distance;
        break;
      }
      ++distance;
      if (here.parent == kTerminal) break;
      if (here.parent == kOrphan) return kFar;
      node += offset_[here.parent];
    }
    std::int32_t left = distance;
    for (Index node = start; nodes_[node].stamp != now_;) {
      nodes_[node].stamp = now_;
      nodes_[node].distance = left--;
      if (nodes_[node].parent == kTerminal) break;
      node += offset_[nodes_[node].parent];
    }
    return distance;
  }

  // Nobody adopts the node: it becomes free, its children orphans, and neighbours may grow into it again.
  void release(Index node, std::uint8_t tree) {
    for (int d = 0; d < D; ++d) {
      const Index other = node + offset_[d];
      if (nodes_[other].tree != tree) continue;
      if (residual(tree, other, node, d ^ 1) > 0) activate(other);
      if (nodes_[other].parent == (d ^ 1)) orphan(other);
    }
    nodes_[node].tree = kFree;
    nodes_[node].parent = kNone;
  }

  Index stride_ = 0;
  std::array<Index, D> offset_{};
  std::vector<Node> nodes_;
  std::vector<Arcs> arcs_;
  std::vector<Index> queue_;  // ring buffer; a node is in it at most once
  std::size_t mask_ = 0, head_ = 0, tail_ = 0;
  std::vector<Index> orphans_;
  std::int64_t flow_ = 0;
  std::int32_t now_ = 0;
};

}  // namespace weakseg
