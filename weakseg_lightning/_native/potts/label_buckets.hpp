// Nodes with excess, by distance label: which of them a pseudoflow algorithm takes next.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "potts/framed_grid.hpp"

namespace weakseg {

// Two queues in one set of linked lists, since a node with excess is in one of them at most: roots of trees, taken with
// the lowest label first, and nodes inside trees whose excess has been deferred, taken with the highest label first.
class LabelBuckets {
 public:
  using Index = FramedGrid::Index;
  static constexpr Index kNobody = FramedGrid::kNobody;

  void reserve(std::size_t nodes) { next_.reserve(nodes); }
  void fit(std::size_t nodes) {
    if (next_.size() < nodes) next_.resize(nodes);
    if (roots_.empty()) grow();
  }

  // Forgets roots and counts. No deferred nodes may be left.
  void clear() {
    std::fill_n(roots_.begin(), highest_ + 1, kNobody);
    std::fill_n(count_.begin(), highest_ + 1, 0);
    highest_ = 0;
    lowest_ = std::numeric_limits<std::int32_t>::max();
  }

  // Counts a new node, in the innermost loop. Its label is 0 or 1, for which there is always room.
  void count_new(std::int32_t label) {
    highest_ = std::max(highest_, label);
    ++count_[label];
  }

  // Counts a node with any label.
  void count(std::int32_t label) {
    make_room(label);
    ++count_[label];
  }

  // Counts a node one label higher than before.
  void raise(std::int32_t label) {
    make_room(label + 1);
    --count_[label];
    ++count_[label + 1];
  }

  void push_root(Index root, std::int32_t label) {
    next_[root] = roots_[label];
    roots_[label] = root;
    lowest_ = std::min(lowest_, label);
  }

  // Finds the lowest label of a root. False if there is no root, or if no node has the label below (gap heuristic: then
  // no path leads from the remaining roots to a deficit). New nodes may have labels up to `unknown`.
  bool find_lowest_root(std::int32_t unknown) {
    while (lowest_ <= highest_ && roots_[lowest_] == kNobody) ++lowest_;
    if (lowest_ > highest_) return false;
    return lowest_ <= unknown || count_[lowest_ - 1] != 0;
  }

  // After find_lowest_root.
  Index pop_root() {
    const Index root = roots_[lowest_];
    roots_[lowest_] = next_[root];
    return root;
  }

  void defer(Index node, std::int32_t label) {
    next_[node] = deferred_[label];
    deferred_[label] = node;
    top_ = std::max(top_, label);
  }

  bool has_deferred() const { return top_ >= 0; }

  // A deferred node with the highest label, or kNobody.
  Index pop_deferred() {
    while (top_ >= 0 && deferred_[top_] == kNobody) --top_;
    if (top_ < 0) return kNobody;
    const Index node = deferred_[top_];
    deferred_[top_] = next_[node];
    return node;
  }

  // The node that pop_deferred returns next unless more are deferred; kNobody where that has a lower label.
  Index peek_deferred() const { return deferred_[top_]; }

 private:
  void make_room(std::int32_t label) {
    highest_ = std::max(highest_, label);
    if (static_cast<std::size_t>(label) + 1 >= roots_.size()) grow();
  }

  void grow() {
    const std::size_t size = std::max<std::size_t>(64, 2 * roots_.size());
    roots_.resize(size, kNobody);
    deferred_.resize(size, kNobody);
    count_.resize(size, 0);
  }

  std::vector<Index> next_;              // by node
  std::vector<Index> roots_, deferred_;  // by label: the first node of each list
  std::vector<std::int32_t> count_;      // by label: all nodes, with excess or without
  std::int32_t lowest_ = 0, highest_ = 0, top_ = -1;
};

}  // namespace weakseg
