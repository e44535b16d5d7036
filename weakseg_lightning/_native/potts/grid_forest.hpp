// The residual graph of a flow on the pixel grid, and the trees along which excess travels in it.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <utility>
#include <vector>

#include "potts/framed_grid.hpp"
#include "support/intrinsics.hpp"

namespace weakseg {

// Arrays by node. The graph is implicit: a neighbor is a fixed offset away, the capacities of a node's arcs lie side
// by side, and the frame around the grid makes bounds checks unnecessary. Nodes that have not been created hold
// whatever an earlier graph left in all arrays but `label`.
template <int D>
struct GridForest {
  static_assert(D == 4 || D == 8 || is_volume(D), "the grid is 4- or 8-connected within slices");

  using Index = FramedGrid::Index;
  using Capacity = std::int32_t;
  using Arcs = std::array<Capacity, D>;

  static constexpr Index kNobody = FramedGrid::kNobody;
  static constexpr std::uint8_t kRoot = D;  // in place of the direction of a parent
  static constexpr std::int32_t kUnreachable = std::numeric_limits<std::int32_t>::max();
  static constexpr std::int32_t kUncreated = -2, kCollected = -3;  // in place of labels

  // What a node knows of its neighbors: one bit for each direction, and the direction of its parent.
  using Bits = std::conditional_t<(D > 8), std::uint16_t, std::uint8_t>;
  struct Link {
    Bits open = 0;      // arcs with residual capacity
    Bits children = 0;  // neighbors whose parent this node is
    std::uint8_t parent = kRoot;
  };

  static constexpr Bits bit(int d) { return static_cast<Bits>(1U << d); }

  void reserve(std::size_t nodes) {
    label.reserve(nodes);
    excess.reserve(nodes);
    arcs.reserve(nodes);
    link.reserve(nodes);
    used.reserve(nodes);
  }

  // Takes a grid without nodes; keeps the memory.
  void reset(const FramedGrid& new_grid) {
    grid = new_grid;
    label.assign(grid.size, kUncreated);
    if (excess.size() < grid.size) {
      excess.resize(grid.size);
      arcs.resize(grid.size);
      link.resize(grid.size);
      used.resize(grid.size);
    }
    created.clear();
    created.reserve(grid.pixels());
  }

  void remove_nodes() {
    for (const Index node : created) label[node] = kUncreated;
    created.clear();
  }

  // Returns the label of the new node: a lower bound of its distance to a deficit, that of the node itself included.
  template <class Graph>
  std::int32_t create(const Graph& graph, Index node) {
    excess[node] = graph.describe(node, arcs[node]);
    used[node] = 0;
    link[node] = {open_arcs(node), 0, kRoot};
    created.push_back(node);
    return label[node] = excess[node] < 0 ? 0 : 1;
  }

  // The sums of all excesses and of all deficits.
  std::pair<std::int64_t, std::int64_t> totals() const {
    std::int64_t supply = 0, demand = 0;
    for (const Index node : created) {
      if (excess[node] > 0) supply += excess[node];
      else demand -= excess[node];
    }
    return {supply, demand};
  }

  // Exchanges source and sink and reverses all arcs.
  void reverse() {
    for (const Index node : created) {
      excess[node] = -excess[node];
      for (int d = 0; d < D; d += 2) {
        const Index other = node + grid.offset[d];
        if (label[other] != kUncreated) std::swap(arcs[node][d], arcs[other][d ^ 1]);
      }
    }
    for (const Index node : created) link[node].open = open_arcs(node);
  }

  // The directions of the neighbors with a label. Free of branches, which no processor could predict.
  unsigned with_label(Index node, std::int32_t wanted) const {
    const std::int32_t* here = label.data() + node;
    unsigned directions = 0;
    for (int d = 0; d < D; ++d) directions |= static_cast<unsigned>(here[grid.offset[d]] == wanted) << d;
    return directions;
  }

  // A child with a label, or kNobody.
  Index child_with_label(Index node, std::int32_t wanted) const {
    for (unsigned children = link[node].children; children != 0; children &= children - 1) {
      const Index child = node + grid.offset[lowest_bit(children)];
      if (label[child] == wanted) return child;
    }
    return kNobody;
  }

  Index parent(Index node) const { return node + grid.offset[link[node].parent]; }

  // Makes `node` the root of its tree by reversing the path to the old root, and hangs the tree below the neighbor in
  // a direction.
  void hang(Index root, Index node, std::uint8_t direction) {
    for (Index here = node;;) {
      const Index up = here + grid.offset[direction];
      const std::uint8_t old = std::exchange(link[here].parent, direction);
      link[up].children |= bit(direction ^ 1);
      if (here == root) return;
      here += grid.offset[old];
      link[here].children &= static_cast<Bits>(~bit(old ^ 1));
      direction = old ^ 1;
    }
  }

  // Pushes as much of a node's excess to its parent as the arc can carry. A node that keeps some becomes a root.
  void push_to_parent(Index node) {
    const std::uint8_t d = link[node].parent;
    const Index up = node + grid.offset[d];
    Capacity &arc = arcs[node][d], &back = arcs[up][d ^ 1];
    const Capacity amount = std::min(excess[node], arc);
    if (arc == amount) link[node].open &= static_cast<Bits>(~bit(d));
    if (back == 0) link[up].open |= bit(d ^ 1);
    arc -= amount;
    back += amount;
    used[node] = used[up] = 1;
    excess[node] -= amount;
    excess[up] += amount;
    if (excess[node] == 0) return;
    link[node].parent = kRoot;
    link[up].children &= static_cast<Bits>(~bit(d ^ 1));
  }

  // Fetches what push_to_parent needs: deferred nodes lie anywhere in the image.
  void prefetch(Index node) const {
    weakseg::prefetch(&arcs[node]);
    weakseg::prefetch(&excess[node]);
    weakseg::prefetch(&link[node]);
  }

  FramedGrid grid;
  std::vector<std::int32_t> label;
  std::vector<Capacity> excess;  // positive or zero inside a tree, of any sign at its root
  std::vector<Arcs> arcs;        // residual capacities
  std::vector<Link> link;
  std::vector<std::uint8_t> used;  // whether flow has passed
  std::vector<Index> created;

 private:
  Bits open_arcs(Index node) const {
    unsigned open = 0;
    for (int d = 0; d < D; ++d) open |= static_cast<unsigned>(arcs[node][d] > 0) << d;
    return static_cast<Bits>(open);
  }
};

}  // namespace weakseg
