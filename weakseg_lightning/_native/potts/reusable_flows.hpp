// Which part of each label's last flow can be used again, so that it is not computed anew where nothing has changed.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "potts/grid_maxflow.hpp"

namespace weakseg {

// The flow of a label's last move is still valid where no pixel has changed since: there, it carried all excess to a
// sink, and would do so again. Only which nodes it passed is kept, not how much: a connected component of them is
// either left out of the next move as a whole or, once a change or flow from elsewhere reaches it, forgotten as a
// whole.
template <int D>
class ReusableFlows {
 public:
  using Index = FramedGrid::Index;

  void reset(const FramedGrid& grid, std::size_t pixels, int num_labels) {
    grid_ = grid;
    most_moved_ = pixels / 4;
    valid_.assign(static_cast<std::size_t>(num_labels), std::vector<bool>());
    seen_moves_.assign(static_cast<std::size_t>(num_labels), 0);
    moved_.clear();
    moved_.reserve(pixels);
    stack_.reserve(pixels);
  }

  bool is_valid(std::uint8_t label, Index node) const {
    const std::vector<bool>& valid = valid_[label];
    return !valid.empty() && valid[static_cast<std::size_t>(node)];
  }

  // Notes that a pixel has changed its label.
  void moved(Index node) { moved_.push_back(node); }

  // Forgets a label's flow where pixels have changed since.
  void forget_changes(std::uint8_t label) {
    if (!valid_[label].empty()) {
      for (std::size_t i = seen_moves_[label]; i < moved_.size(); ++i) {
        // Flow passes along edges, so that a node which it has passed has a neighbor which it has passed, too.
        for (int d = 0; d < D; ++d) forget(label, moved_[i] + grid_.offset[d], [](Index) {});
      }
    }
    seen_moves_[label] = moved_.size();
  }

  // Forgets a label's flow in the connected component of a node, and calls visit(node) for each node of it.
  template <class Visit>
  void forget(std::uint8_t label, Index node, Visit visit) {
    if (!is_valid(label, node)) return;
    std::vector<bool>& valid = valid_[label];
    valid[static_cast<std::size_t>(node)] = false;
    for (stack_.assign(1, node); !stack_.empty();) {
      const Index here = stack_.back();
      stack_.pop_back();
      visit(here);
      for (int d = 0; d < D; ++d) {
        const auto other = static_cast<std::size_t>(here + grid_.offset[d]);
        if (!valid[other]) continue;
        valid[other] = false;
        stack_.push_back(static_cast<Index>(other));
      }
    }
  }

  // Remembers which nodes the flow of a label's move has passed.
  void remember(std::uint8_t label, const GridMaxflow<D>& flow) {
    if (moved_.size() > most_moved_) {  // bounds the memory
      moved_.clear();
      std::fill(seen_moves_.begin(), seen_moves_.end(), 0);
      for (std::vector<bool>& valid : valid_) valid.clear();
    }
    std::vector<bool>& valid = valid_[label];
    valid.resize(grid_.size);
    for (const Index node : flow.created()) {
      if (flow.is_used(node)) valid[static_cast<std::size_t>(node)] = true;
    }
  }

 private:
  FramedGrid grid_;
  std::size_t most_moved_ = 0;
  std::vector<std::vector<bool>> valid_;  // by label and node: passed by a flow that is still valid
  std::vector<Index> moved_;              // every pixel that has changed its label, in order
  std::vector<std::size_t> seen_moves_;   // by label: how many of these its flow has been checked against
  std::vector<Index> stack_;
};

}  // namespace weakseg
