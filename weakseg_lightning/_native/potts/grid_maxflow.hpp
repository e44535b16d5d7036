// Maximum flow on a 4- or 8-connected pixel grid, without adjacency lists.
//
// A pseudoflow algorithm: every terminal arc starts saturated, and what nodes have too much is pushed along trees to
// nodes that have too little, guided by lower bounds of the distance to them.
//   D. Hochbaum, "The Pseudoflow Algorithm: A New Algorithm for the Maximum-Flow Problem", Operations Research 56(4), 2008.
//   B. Chandran and D. Hochbaum, "A Computational Study of the Pseudoflow and Push-Relabel Algorithms for the Maximum
//   Flow Problem", Operations Research 57(2), 2009 (labels, lowest label first, gaps).
// Beyond the papers: a node comes into being when flow first looks at it, so that a cut which moves little touches
// little; exact labels and fresh trees by breadth-first search once that does not suffice; pushing from the side of the
// cut that has less to push; and excess waits where trees join, so that much of it travels the long way together.
// The graph is implicit: a neighbour is a fixed offset away, the capacities of a node's arcs lie side by side, and a
// frame of nothing around the grid saves all bounds checks.
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

// Where the pixels of an image lie in arrays with a frame around them.
struct FramedGrid {
  using Index = std::int32_t;

  FramedGrid() = default;
  FramedGrid(int grid_height, int grid_width) : height(grid_height), width(grid_width), stride(grid_width + 1) {
    // One column of frame between rows is enough: it is right of one row and left of the next.
    size = static_cast<std::size_t>(height + 2) * static_cast<std::size_t>(stride) + 2;
    for (std::size_t d = 0; d < 8; ++d) offset[d] = kDeltaRow[d] * stride + kDeltaColumn[d];
  }

  Index node(int row, int column) const { return (row + 1) * stride + column + 1; }
  std::size_t pixel(Index node) const {
    const int row = (node - 1) / stride - 1;
    return static_cast<std::size_t>(node - stride - 1 - row);
  }

  int height = 0, width = 0, stride = 0;
  std::size_t size = 0;  // of an array with one element a node
  std::array<Index, 8> offset{};
};

// Nodes are described by a `Graph` with
//   bool is_node(Index) const                     whether the pixel takes part at all,
//   Capacity describe(Index, Arcs& arcs) const    its arcs, and its source arc (positive) or sink arc (negative),
//   const std::vector<Index>& more_sources()      sources to add, once all excess is pushed as far as it can.
// Arcs to what is not a node have capacity 0. The graph keeps |source or sink arc| + the sum of a node's arcs below 2^31:
// no excess can then overflow.
template <int D>
class GridMaxflow {
  static_assert(D == 4 || D == 8, "the grid is 4- or 8-connected");

 public:
  using Index = FramedGrid::Index;
  using Capacity = std::int32_t;
  using Arcs = std::array<Capacity, D>;

  // Takes the memory for a grid at once, where smaller ones come first; to grow would leave gaps behind.
  void reserve(const FramedGrid& grid) {
    label_.reserve(grid.size);
    excess_.reserve(grid.size);
    arcs_.reserve(grid.size);
    link_.reserve(grid.size);
    used_.reserve(grid.size);
    next_.reserve(grid.size);
  }

  // Takes a grid without nodes; memory is kept between calls.
  void reset(const FramedGrid& grid) {
    grid_ = grid;
    label_.assign(grid.size, kUntouched);
    if (excess_.size() < grid.size) {  // else as they are: what is not made is not read
      excess_.resize(grid.size);
      arcs_.resize(grid.size);
      link_.resize(grid.size);
      used_.resize(grid.size);
      next_.resize(grid.size);
    }
    touched_.clear();
    touched_.reserve(pixels());
    queue_.reserve(pixels());
    if (bucket_.empty()) grow();
  }

  // Finds a minimum cut. `sources` holds every node with a source arc, but for those that the graph holds back: they stay
  // unmade until `more_sources` names them or flow looks at them. Returns what cannot be pushed from source to sink: the
  // total of the source arcs minus the maximum flow. `source_side` is then the smallest among all minimum cuts, or, where
  // asked for, the largest that holds no node without a source or sink arc but those that are among `sources`.
  template <class Graph>
  std::int64_t solve(Graph& graph, const std::vector<Index>& sources, bool largest = false) {
    start();
    for (const Index node : sources) touch(graph, node);
    std::int64_t surplus = 0;  // of supply over demand, where the graph was reversed
    bool reversed = false;
    if (sources.size() > pixels() / kFewSources) {
      complete(graph);
      const auto [supply, demand] = totals();
      reversed = demand < supply;
      if (reversed) {
        surplus = supply - demand;
        reverse();
      }
      relabel_exactly(graph);
    }
    for (;;) {
      push_all(graph);
      const std::vector<Index>& more = graph.more_sources();
      if (more.empty()) break;
      for (const Index node : more) {
        if (label_[node] == kUntouched) touch(graph, node);
      }
    }
    const std::int64_t left = totals().first + surplus;
    if (largest) collect_largest(graph, reversed);
    else reversed ? collect_reversed() : collect();
    return left;
  }

  // After `solve`: the source side of the minimum cut.
  const std::vector<Index>& source_side() const { return queue_; }

  // Nodes made since `solve` began, and whether flow has passed one of them.
  const std::vector<Index>& touched() const { return touched_; }
  bool is_used(Index node) const { return used_[node] != 0; }

 private:
  static constexpr std::size_t kFewSources = 8;  // one pixel in so many may be a source before all nodes are made
  static constexpr std::int64_t kPatience = 1000;  // labels raised before deferred excess is sent on
  static constexpr std::size_t kEverything = std::numeric_limits<std::size_t>::max();
  static constexpr std::uint8_t kRoot = D;
  static constexpr Index kNobody = 0;  // node 0 belongs to the frame
  static constexpr std::int32_t kUnreachable = std::numeric_limits<std::int32_t>::max();
  static constexpr std::int32_t kUntouched = -2, kCollected = -3;  // in place of labels

  // What a node knows of its neighbours: a bit for each direction, and the direction of its parent in the tree, or kRoot.
  struct Link {
    std::uint8_t open = 0;      // arcs that can carry more
    std::uint8_t children = 0;  // neighbours whose parent this node is
    std::uint8_t parent = kRoot;
  };

  static constexpr std::uint8_t bit(int d) { return static_cast<std::uint8_t>(1U << d); }

  // The lowest direction of a set that is not empty.
  static int first(unsigned directions) {
#if defined(__GNUC__) || defined(__clang__)
    return __builtin_ctz(directions);
#else
    int d = 0;
    while ((directions >> d & 1U) == 0) ++d;
    return d;
#endif
  }

  std::size_t pixels() const { return static_cast<std::size_t>(grid_.height) * static_cast<std::size_t>(grid_.width); }

  void start() {
    for (const Index node : touched_) label_[node] = kUntouched;
    touched_.clear();
    clear_buckets();
    complete_ = false;
    relabels_ = 0;
    relabel_limit_ = static_cast<std::int64_t>(pixels() / 2);
  }

  template <class Graph>
  void push_all(const Graph& graph) {
    while (const Index root = pop_lowest()) {
      process(graph, root);
      if (relabels_ <= relabel_limit_) continue;
      flush();
      relabel_exactly(graph);
    }
  }

  // Makes a node. Its label is a lower bound of the distance to a lacking node, itself included.
  template <class Graph>
  std::int32_t touch(const Graph& graph, Index node) {
    excess_[node] = graph.describe(node, arcs_[node]);
    used_[node] = 0;
    link_[node] = {open_arcs(node), 0, kRoot};
    touched_.push_back(node);
    const std::int32_t label = label_[node] = excess_[node] < 0 ? 0 : 1;
    ++count_[label];
    highest_ = std::max(highest_, label);
    if (excess_[node] > 0) enqueue(node);
    return label;
  }

  std::uint8_t open_arcs(Index node) const {
    unsigned open = 0;
    for (int d = 0; d < D; ++d) open |= static_cast<unsigned>(arcs_[node][d] > 0) << d;
    return static_cast<std::uint8_t>(open);
  }

  // Makes all nodes that are not there yet.
  template <class Graph>
  void complete(const Graph& graph) {
    if (complete_) return;
    complete_ = true;
    const Index end = grid_.node(grid_.height - 1, grid_.width - 1);
    for (Index node = grid_.node(0, 0); node <= end; ++node) {
      if (label_[node] == kUntouched && graph.is_node(node)) touch(graph, node);
    }
  }

  std::pair<std::int64_t, std::int64_t> totals() const {
    std::int64_t supply = 0, demand = 0;
    for (const Index node : touched_) {
      if (excess_[node] > 0) supply += excess_[node];
      else demand -= excess_[node];
    }
    return {supply, demand};
  }

  // Exchanges source and sink and turns all arcs round.
  void reverse() {
    for (const Index node : touched_) {
      excess_[node] = -excess_[node];
      for (int d = 0; d < D; d += 2) {
        const Index other = node + grid_.offset[d];
        if (label_[other] != kUntouched) std::swap(arcs_[node][d], arcs_[other][d ^ 1]);
      }
    }
    for (const Index node : touched_) link_[node].open = open_arcs(node);
  }

  // Breadth-first search from the nodes that lack flow, and from those that border on what is not made yet: labels, exact
  // as far as one can see, and their trees. Nodes with excess are roots; what cannot reach a lacking node, nor the border,
  // never will and is left out for good.
  template <class Graph>
  void relabel_exactly(const Graph& graph) {
    const std::size_t inside = touched_.size();
    touch_border(graph);
    clear_buckets();
    queue_.clear();
    for (const Index node : touched_) {
      label_[node] = kUnreachable;
      link_[node] = {link_[node].open, 0, kRoot};
      if (excess_[node] < 0) queue_.push_back(node);
    }
    for (const Index node : queue_) label_[node] = 0;
    const std::size_t lacking = queue_.size();
    search(0, lacking);
    for (std::size_t i = inside; i < touched_.size(); ++i) {
      if (label_[touched_[i]] != kUnreachable) continue;
      label_[touched_[i]] = 1;  // as for all nodes that are new
      queue_.push_back(touched_[i]);
    }
    search(lacking, kEverything);
    relabels_ = 0;
    relabel_limit_ = static_cast<std::int64_t>(queue_.size());
  }

  // Makes the nodes that an arc leads to.
  template <class Graph>
  void touch_border(const Graph& graph) {
    if (complete_) return;
    const std::size_t inside = touched_.size();
    for (std::size_t i = 0; i < inside; ++i) {
      const Index node = touched_[i];
      for (unsigned news = with_label(node, kUntouched) & link_[node].open; news != 0; news &= news - 1) {
        touch(graph, node + grid_.offset[first(news)]);
      }
    }
  }

  // Goes through a part of the queue, which may grow meanwhile.
  void search(std::size_t begin, std::size_t end) {
    for (std::size_t head = begin; head < std::min(end, queue_.size()); ++head) {
      const Index node = queue_[head];
      const std::int32_t label = label_[node];
      note(label);
      ++count_[label];
      if (excess_[node] > 0) enqueue(node);
      for (int d = 0; d < D; ++d) {
        const Index other = node + grid_.offset[d];
        if (label_[other] != kUnreachable || (link_[other].open & bit(d ^ 1)) == 0) continue;
        label_[other] = label + 1;
        if (excess_[other] <= 0) {
          link_[other].parent = static_cast<std::uint8_t>(d ^ 1);
          link_[node].children |= bit(d);
        }
        queue_.push_back(other);
      }
    }
  }

  void clear_buckets() {
    std::fill_n(bucket_.begin(), highest_ + 1, kNobody);
    std::fill_n(count_.begin(), highest_ + 1, 0);
    highest_ = 0;
    lowest_ = kUnreachable;
  }

  // Makes room for a label.
  void note(std::int32_t label) {
    highest_ = std::max(highest_, label);
    if (static_cast<std::size_t>(label) + 1 >= bucket_.size()) grow();
  }

  void grow() {
    const std::size_t size = std::max<std::size_t>(64, 2 * bucket_.size());
    bucket_.resize(size, kNobody);
    deferred_.resize(size, kNobody);
    count_.resize(size, 0);
  }

  void enqueue(Index root) {
    const std::int32_t label = label_[root];
    next_[root] = bucket_[label];
    bucket_[label] = root;
    lowest_ = std::min(lowest_, label);
  }

  // A root with excess of the lowest label, or nobody when none can reach a lacking node any more. What is deferred is sent
  // on when nothing else is left to do, or when the search has gone on for long without knowing where it ends up.
  Index pop_lowest() {
    for (;;) {
      while (lowest_ <= highest_ && bucket_[lowest_] == kNobody) ++lowest_;
      // A gap: no node is one step closer than any of the roots left. Nodes not made yet have labels 0 and 1.
      const bool gap = lowest_ > (complete_ ? 0 : 1) && lowest_ <= highest_ && count_[lowest_ - 1] == 0;
      const bool stuck = gap || lowest_ > highest_;
      if (!stuck && (top_ < 0 || patience_ > 0)) break;
      if (top_ < 0) return kNobody;
      flush();
    }
    const Index root = bucket_[lowest_];
    bucket_[lowest_] = next_[root];
    return root;
  }

  // Depth-first search of the root's label in its tree (labels never decrease away from the root) for an arc to a label
  // one lower; hangs the tree there, or raises all these labels by one.
  template <class Graph>
  void process(const Graph& graph, Index root) {
    const std::int32_t label = label_[root];
    for (Index node = root;;) {
      if (const int d = admissible(graph, node, label); d < D) return merge(root, node, static_cast<std::uint8_t>(d));
      if (const Index child = child_with_label(node, label)) {
        node = child;
        continue;
      }
      raise(node);
      if (node == root) break;
      node += grid_.offset[link_[node].parent];
    }
    enqueue(root);
  }

  // A child with a label, or nobody.
  Index child_with_label(Index node, std::int32_t label) const {
    for (unsigned children = link_[node].children; children != 0; children &= children - 1) {
      const Index child = node + grid_.offset[first(children)];
      if (label_[child] == label) return child;
    }
    return kNobody;
  }

  // The directions of the neighbours with a label; without a branch.
  unsigned with_label(Index node, std::int32_t label) const {
    const std::int32_t* here = label_.data() + node;
    unsigned directions = 0;
    for (int d = 0; d < D; ++d) directions |= static_cast<unsigned>(here[grid_.offset[d]] == label) << d;
    return directions;
  }

  // An open arc to a label one lower, or D.
  template <class Graph>
  int admissible(const Graph& graph, Index node, std::int32_t label) {
    const unsigned open = link_[node].open;
    if (const unsigned lower = with_label(node, label - 1) & open) return first(lower);
    if (complete_ || label > 1) return D;  // what is not made has label 0 or 1
    for (unsigned news = with_label(node, kUntouched) & open; news != 0; news &= news - 1) {
      const int d = first(news);
      if (touch(graph, node + grid_.offset[d]) == label - 1) return d;
    }
    return D;
  }

  void raise(Index node) {
    const std::int32_t label = label_[node]++;
    note(label + 1);
    --count_[label];
    ++count_[label + 1];
    ++relabels_;
    --patience_;
  }

  // Turns the tree round so that `node` becomes its root, and hangs it below its neighbour.
  void merge(Index root, Index node, std::uint8_t direction) {
    for (Index here = node;;) {
      const Index up = here + grid_.offset[direction];
      const std::uint8_t old = std::exchange(link_[here].parent, direction);
      link_[up].children |= bit(direction ^ 1);
      if (here == root) break;
      here += grid_.offset[old];
      link_[here].children &= static_cast<std::uint8_t>(~bit(old ^ 1));
      direction = old ^ 1;
    }
    defer(root);
  }

  // Notes that a node inside a tree has excess to send on.
  void defer(Index node) {
    const std::int32_t label = label_[node];
    next_[node] = deferred_[label];
    deferred_[label] = node;
    top_ = std::max(top_, label);
  }

  // Sends all deferred excess towards the roots of the trees, from the highest label down, so that what meets on the way
  // goes on together. Where an arc cannot carry it all, the tree is cut.
  void flush() {
    patience_ = kPatience;
    for (; top_ >= 0; --top_) {
      while (const Index node = deferred_[top_]) {
        deferred_[top_] = next_[node];
        prefetch(deferred_[top_]);
        send(node);
      }
    }
  }

  // Fetches what `send` needs of a node that may be anywhere.
  void prefetch(Index node) const {
#if defined(__GNUC__) || defined(__clang__)
    __builtin_prefetch(&arcs_[node]);
    __builtin_prefetch(&excess_[node]);
    __builtin_prefetch(&link_[node]);
#else
    static_cast<void>(node);
#endif
  }

  void send(Index node) {
    const std::uint8_t d = link_[node].parent;
    if (d == kRoot) return enqueue(node);
    const Index up = node + grid_.offset[d];
    Capacity &arc = arcs_[node][d], &back = arcs_[up][d ^ 1];
    const Capacity amount = std::min(excess_[node], arc);
    if (arc == amount) link_[node].open &= static_cast<std::uint8_t>(~bit(d));
    if (back == 0) link_[up].open |= bit(d ^ 1);
    arc -= amount;
    back += amount;
    used_[node] = used_[up] = 1;
    excess_[node] -= amount;
    if (excess_[node] > 0) {
      link_[node].parent = kRoot;
      link_[up].children &= static_cast<std::uint8_t>(~bit(d ^ 1));
      enqueue(node);
    }
    const Capacity before = excess_[up];
    excess_[up] = before + amount;
    if (before <= 0 && excess_[up] > 0) defer(up);
  }

  // Collects what excess can reach.
  void collect() {
    collect([&](Index node) { return excess_[node] > 0; }, [&](Index node, int d) { return (link_[node].open & bit(d)) != 0; });
  }

  // Collects what can reach a lacking node: in the reversed graph, what excess can reach in the given one.
  void collect_reversed() {
    collect([&](Index node) { return excess_[node] < 0; },
            [&](Index node, int d) { return (link_[node + grid_.offset[d]].open & bit(d ^ 1)) != 0; });
  }

  // Collects all but what can reach a lacking node, or one that is not made yet.
  template <class Graph>
  void collect_largest(const Graph& graph, bool reversed) {
    if (reversed) {
      reverse();
    }
    relabel_exactly(graph);
    queue_.clear();
    for (const Index node : touched_) {
      if (label_[node] == kUnreachable) queue_.push_back(node);
    }
  }

  template <class IsStart, class IsOpen>
  void collect(IsStart is_start, IsOpen is_open) {
    queue_.clear();
    for (const Index node : touched_) {
      if (is_start(node)) queue_.push_back(node);
    }
    for (const Index node : queue_) label_[node] = kCollected;
    for (std::size_t head = 0; head < queue_.size(); ++head) {
      const Index node = queue_[head];
      for (int d = 0; d < D; ++d) {
        const Index other = node + grid_.offset[d];
        if (label_[other] < 0 || !is_open(node, d)) continue;  // collected, or no node
        label_[other] = kCollected;
        queue_.push_back(other);
      }
    }
  }

  FramedGrid grid_;
  std::vector<Capacity> excess_;  // positive or zero inside a tree, of any sign at its root
  std::vector<Arcs> arcs_;        // residual capacities
  std::vector<std::int32_t> label_;
  std::vector<Link> link_;
  std::vector<std::uint8_t> used_;    // flow has passed
  std::vector<Index> next_, bucket_;  // roots with excess by label, as linked lists
  std::vector<Index> deferred_;       // nodes inside trees with excess, likewise
  std::vector<std::int32_t> count_;   // nodes by label
  std::vector<Index> touched_, queue_;
  std::int32_t lowest_ = 0, highest_ = 0, top_ = -1;
  std::int64_t relabels_ = 0, relabel_limit_ = 0, patience_ = 0;
  bool complete_ = false;  // whether all nodes are made
};

}  // namespace weakseg
