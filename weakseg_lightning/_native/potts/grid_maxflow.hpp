// Maximum flow on a 4- or 8-connected pixel grid, or a stack of such grids.
//
// A pseudoflow algorithm: every terminal arc starts saturated, and the excess of nodes is pushed along trees to nodes
// with a deficit, guided by lower bounds of the distance to them.
//   D. Hochbaum, "The Pseudoflow Algorithm: A New Algorithm for the Maximum-Flow Problem", Operations Research 2008.
//   B. Chandran, D. Hochbaum, "A Computational Study of the Pseudoflow and Push-Relabel Algorithms for the Maximum Flow
//   Problem", Operations Research 2009 (distance labels, lowest label first, gaps).
// Beyond the papers:
//  - A node is created when flow first reaches it, so that a cut which moves little touches little memory.
//  - Once labels have been raised often, exact ones are found by breadth-first search, and fresh trees with them.
//  - Flow is pushed from whichever of source and sink has less of it.
//  - Excess waits where trees join, so that much of it travels the long way to a root together.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

#include "potts/framed_grid.hpp"
#include "potts/grid_forest.hpp"
#include "potts/label_buckets.hpp"
#include "support/intrinsics.hpp"

namespace weakseg {

// Nodes are described by a `Graph` with
//   bool is_node(Index) const                     whether the pixel is a node at all,
//   Capacity describe(Index, Arcs& arcs) const    its arcs, and its source arc (positive) or sink arc (negative),
//   const std::vector<Index>& more_sources()      sources to add, once all excess has been pushed as far as possible.
// Arcs to what is not a node have capacity 0. The graph keeps |source or sink arc| + the sum of a node's arcs below
// 2^31: no excess can overflow then.
template <int D>
class GridMaxflow {
 public:
  using Index = FramedGrid::Index;
  using Capacity = typename GridForest<D>::Capacity;
  using Arcs = typename GridForest<D>::Arcs;

  // Allocates for a grid at once where smaller ones come first; growing in steps would fragment the heap.
  void reserve(const FramedGrid& grid) {
    forest_.reserve(grid.size);
    buckets_.reserve(grid.size);
  }

  // Takes a grid without nodes; memory is kept between calls.
  void reset(const FramedGrid& grid) {
    grid_ = grid;
    forest_.reset(grid);
    buckets_.fit(grid.size);
    queue_.reserve(grid.pixels());
  }

  // Finds a minimum cut. `sources` holds every node with a source arc, except those that the graph holds back: they are
  // not created until `more_sources` names them or flow reaches them. Returns what cannot be pushed from source to
  // sink: the total of the source arcs minus the maximum flow. `source_side` is then the smallest among all minimum
  // cuts, or, if `largest`, the largest that holds no node without a source or sink arc except those among `sources`.
  template <class Graph>
  std::int64_t solve(Graph& graph, const std::vector<Index>& sources, bool largest = false) {
    start();
    for (const Index node : sources) create(graph, node);
    std::int64_t surplus = 0;  // of supply over demand, if the graph was reversed
    bool reversed = false;
    if (sources.size() > grid_.pixels() / kFewSources) {
      create_all(graph);
      const auto [supply, demand] = forest_.totals();
      reversed = demand < supply;
      if (reversed) {
        surplus = supply - demand;
        forest_.reverse();
      }
      relabel_exactly(graph);
    }
    for (;;) {
      push_all(graph);
      const std::vector<Index>& more = graph.more_sources();
      if (more.empty()) break;
      for (const Index node : more) {
        if (forest_.label[node] == kUncreated) create(graph, node);
      }
    }
    const std::int64_t left = forest_.totals().first + surplus;
    if (largest) collect_largest(graph, reversed);
    else reversed ? collect_reversed() : collect();
    return left;
  }

  // After `solve`: the source side of the minimum cut.
  const std::vector<Index>& source_side() const { return queue_; }

  // After `solve`: the nodes that were created, and whether flow has passed one of them.
  const std::vector<Index>& created() const { return forest_.created; }
  bool is_used(Index node) const { return forest_.used[node] != 0; }

 private:
  using Forest = GridForest<D>;
  static constexpr std::size_t kFewSources = 8;    // if more than one pixel in 8 is a source, all nodes are created
  static constexpr std::int64_t kPatience = 1000;  // labels raised before deferred excess is sent on
  static constexpr std::size_t kEverything = std::numeric_limits<std::size_t>::max();
  static constexpr Index kNobody = Forest::kNobody;
  static constexpr std::int32_t kUnreachable = Forest::kUnreachable;
  static constexpr std::int32_t kUncreated = Forest::kUncreated, kCollected = Forest::kCollected;

  void start() {
    forest_.remove_nodes();
    buckets_.clear();
    complete_ = false;
    relabels_ = 0;
    relabel_limit_ = static_cast<std::int64_t>(grid_.pixels() / 2);
  }

  // ---- nodes -------------------------------------------------------------------------------------------------------

  template <class Graph>
  std::int32_t create(const Graph& graph, Index node) {
    const std::int32_t label = forest_.create(graph, node);
    buckets_.count_new(label);
    if (forest_.excess[node] > 0) enqueue(node);
    return label;
  }

  template <class Graph>
  void create_all(const Graph& graph) {
    if (complete_) return;
    complete_ = true;
    const Index end = grid_.node(grid_.height - 1, grid_.width - 1);
    for (Index node = grid_.node(0, 0); node <= end; ++node) {
      if (forest_.label[node] == kUncreated && graph.is_node(node)) create(graph, node);
    }
  }

  // Creates the nodes that an open arc leads to.
  template <class Graph>
  void create_border(const Graph& graph) {
    if (complete_) return;
    const std::size_t inside = forest_.created.size();
    for (std::size_t i = 0; i < inside; ++i) {
      const Index node = forest_.created[i];
      unsigned news = forest_.with_label(node, kUncreated) & forest_.link[node].open;
      for (; news != 0; news &= news - 1) {
        create(graph, node + grid_.offset[lowest_bit(news)]);
      }
    }
  }

  // ---- labels ------------------------------------------------------------------------------------------------------

  // Breadth-first search from the deficits, and from the border to nodes not yet created, for labels that are exact as
  // far as the created nodes can tell, and for the trees of shortest paths. Nodes with excess become roots. What
  // reaches neither a deficit nor the border never will, and is left out for good.
  template <class Graph>
  void relabel_exactly(const Graph& graph) {
    const std::size_t inside = forest_.created.size();
    create_border(graph);
    buckets_.clear();
    queue_.clear();
    for (const Index node : forest_.created) {
      forest_.label[node] = kUnreachable;
      forest_.link[node] = {forest_.link[node].open, 0, Forest::kRoot};
      if (forest_.excess[node] < 0) queue_.push_back(node);
    }
    for (const Index node : queue_) forest_.label[node] = 0;
    const std::size_t deficits = queue_.size();
    search(0, deficits);
    for (std::size_t i = inside; i < forest_.created.size(); ++i) {
      const Index node = forest_.created[i];
      if (forest_.label[node] != kUnreachable) continue;
      forest_.label[node] = 1;  // as for every new node
      queue_.push_back(node);
    }
    search(deficits, kEverything);
    relabels_ = 0;
    relabel_limit_ = static_cast<std::int64_t>(queue_.size());
  }

  // Searches from a part of the queue, which grows meanwhile.
  void search(std::size_t begin, std::size_t end) {
    for (std::size_t head = begin; head < std::min(end, queue_.size()); ++head) {
      const Index node = queue_[head];
      const std::int32_t label = forest_.label[node];
      buckets_.count(label);
      if (forest_.excess[node] > 0) enqueue(node);
      for (int d = 0; d < D; ++d) {
        const Index other = node + grid_.offset[d];
        if (forest_.label[other] != kUnreachable || (forest_.link[other].open & Forest::bit(d ^ 1)) == 0) continue;
        forest_.label[other] = label + 1;
        if (forest_.excess[other] <= 0) {
          forest_.link[other].parent = static_cast<std::uint8_t>(d ^ 1);
          forest_.link[node].children |= Forest::bit(d);
        }
        queue_.push_back(other);
      }
    }
  }

  void raise(Index node) {
    buckets_.raise(forest_.label[node]++);
    ++relabels_;
    --patience_;
  }

  // ---- pushing -----------------------------------------------------------------------------------------------------

  template <class Graph>
  void push_all(const Graph& graph) {
    while (const Index root = pop_lowest()) {
      process(graph, root);
      if (relabels_ <= relabel_limit_) continue;
      flush();
      relabel_exactly(graph);
    }
  }

  void enqueue(Index root) { buckets_.push_root(root, forest_.label[root]); }
  void defer(Index node) { buckets_.defer(node, forest_.label[node]); }

  // A root with excess and the lowest label, or kNobody when none can reach a deficit any more. Deferred excess is sent
  // on when nothing else is left to do, or when many labels have been raised without it: they may be raised in vain.
  Index pop_lowest() {
    const std::int32_t unknown = complete_ ? 0 : 1;  // nodes to come have labels 0 and 1
    for (;;) {
      const bool found = buckets_.find_lowest_root(unknown);
      if (found && (!buckets_.has_deferred() || patience_ > 0)) return buckets_.pop_root();
      if (!buckets_.has_deferred()) return kNobody;
      flush();
    }
  }

  // Searches the part of a tree that has the root's label, depth first, for an arc to a node one label lower, and hangs
  // the tree there. Without such an arc all these labels rise by one. (Labels never decrease away from the root.)
  template <class Graph>
  void process(const Graph& graph, Index root) {
    const std::int32_t label = forest_.label[root];
    for (Index node = root;;) {
      if (const int d = admissible(graph, node, label); d < D) {
        forest_.hang(root, node, static_cast<std::uint8_t>(d));
        return defer(root);
      }
      if (const Index child = forest_.child_with_label(node, label)) {
        node = child;
        continue;
      }
      raise(node);
      if (node == root) break;
      node = forest_.parent(node);
    }
    enqueue(root);
  }

  // The direction of an open arc to a node one label lower, or D.
  template <class Graph>
  int admissible(const Graph& graph, Index node, std::int32_t label) {
    const unsigned open = forest_.link[node].open;
    if (const unsigned lower = forest_.with_label(node, label - 1) & open) return lowest_bit(lower);
    if (complete_ || label > 1) return D;  // new nodes have labels 0 and 1
    for (unsigned news = forest_.with_label(node, kUncreated) & open; news != 0; news &= news - 1) {
      const int d = lowest_bit(news);
      if (create(graph, node + grid_.offset[d]) == label - 1) return d;
    }
    return D;
  }

  // Sends all deferred excess towards the roots of its trees, from the highest label down, so that excess from several
  // branches goes on together.
  void flush() {
    patience_ = kPatience;
    while (const Index node = buckets_.pop_deferred()) {
      forest_.prefetch(buckets_.peek_deferred());
      send(node);
    }
  }

  void send(Index node) {
    if (forest_.link[node].parent == Forest::kRoot) return enqueue(node);
    const Index up = forest_.parent(node);
    const bool waits = forest_.excess[up] > 0;  // it is deferred already
    forest_.push_to_parent(node);
    if (forest_.excess[node] > 0) enqueue(node);
    if (!waits && forest_.excess[up] > 0) defer(up);
  }

  // ---- the cut -----------------------------------------------------------------------------------------------------

  // Collects what excess can reach.
  void collect() {
    collect([&](Index node) { return forest_.excess[node] > 0; },
            [&](Index node, int d) { return (forest_.link[node].open & Forest::bit(d)) != 0; });
  }

  // Collects what can reach a deficit: in the graph before it was reversed, what excess can reach.
  void collect_reversed() {
    collect([&](Index node) { return forest_.excess[node] < 0; },
            [&](Index node, int d) { return (forest_.link[node + grid_.offset[d]].open & Forest::bit(d ^ 1)) != 0; });
  }

  // Collects all but what can reach a deficit, or a node that has not been created.
  template <class Graph>
  void collect_largest(const Graph& graph, bool reversed) {
    if (reversed) forest_.reverse();
    relabel_exactly(graph);
    queue_.clear();
    for (const Index node : forest_.created) {
      if (forest_.label[node] == kUnreachable) queue_.push_back(node);
    }
  }

  template <class IsStart, class IsOpen>
  void collect(IsStart is_start, IsOpen is_open) {
    queue_.clear();
    for (const Index node : forest_.created) {
      if (is_start(node)) queue_.push_back(node);
    }
    for (const Index node : queue_) forest_.label[node] = kCollected;
    for (std::size_t head = 0; head < queue_.size(); ++head) {
      const Index node = queue_[head];
      for (int d = 0; d < D; ++d) {
        const Index other = node + grid_.offset[d];
        if (forest_.label[other] < 0 || !is_open(node, d)) continue;  // collected, or no node
        forest_.label[other] = kCollected;
        queue_.push_back(other);
      }
    }
  }

  FramedGrid grid_;
  Forest forest_;
  LabelBuckets buckets_;
  std::vector<Index> queue_;  // of breadth-first searches; in the end the source side
  std::int64_t relabels_ = 0, relabel_limit_ = 0, patience_ = 0;
  bool complete_ = false;  // whether all nodes have been created
};

}  // namespace weakseg
