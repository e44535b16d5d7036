// What alpha-expansion remembers of each label's last flow, so as not to compute it again where nothing has changed.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "potts/grid_maxflow.hpp"

namespace weakseg {

// The flow of a label's last move still stands where no label has changed since. Connected pixels that it passed can be
// left out of the next move, unless a change, or flow from elsewhere, meets them.
template <int D>
class ReusableFlows {
 public:
  using Index = FramedGrid::Index;

  void reset(const FramedGrid& grid, std::size_t pixels, int num_labels) {
    grid_ = grid;
    most_moved_ = pixels / 4;
    standing_.assign(static_cast<std::size_t>(num_labels), std::vector<bool>());
    seen_moves_.assign(static_cast<std::size_t>(num_labels), 0);
    moved_.clear();
    moved_.reserve(pixels);
    stack_.reserve(pixels);
  }

  bool stands(std::uint8_t label, Index node) const {
    const std::vector<bool>& standing = standing_[label];
    return !standing.empty() && standing[static_cast<std::size_t>(node)];
  }

  // Notes that the label of a pixel has changed.
  void moved(Index node) { moved_.push_back(node); }

  // Forgets a label's flow wherever a label has changed since.
  void forget_changes(std::uint8_t label) {
    if (!standing_[label].empty()) {
      for (std::size_t i = seen_moves_[label]; i < moved_.size(); ++i) {
        // A pixel that flow has passed has a neighbour that it has passed as well.
        for (int d = 0; d < D; ++d) forget(label, moved_[i] + grid_.offset[d], [](Index) {});
      }
    }
    seen_moves_[label] = moved_.size();
  }

  // Forgets a label's flow through a node and through all that it connects, and calls visit(node) for each.
  template <class Visit>
  void forget(std::uint8_t label, Index node, Visit visit) {
    if (!stands(label, node)) return;
    std::vector<bool>& standing = standing_[label];
    standing[static_cast<std::size_t>(node)] = false;
    for (stack_.assign(1, node); !stack_.empty();) {
      const Index here = stack_.back();
      stack_.pop_back();
      visit(here);
      for (int d = 0; d < D; ++d) {
        const auto other = static_cast<std::size_t>(here + grid_.offset[d]);
        if (!standing[other]) continue;
        standing[other] = false;
        stack_.push_back(static_cast<Index>(other));
      }
    }
  }

  // Remembers where the flow of a label's move has passed.
  void remember(std::uint8_t label, const GridMaxflow<D>& flow) {
    if (moved_.size() > most_moved_) {  // bounds the memory
      moved_.clear();
      std::fill(seen_moves_.begin(), seen_moves_.end(), 0);
      for (std::vector<bool>& standing : standing_) standing.clear();
    }
    std::vector<bool>& standing = standing_[label];
    standing.resize(grid_.size);
    for (const Index node : flow.created()) {
      if (flow.is_used(node)) standing[static_cast<std::size_t>(node)] = true;
    }
  }

 private:
  FramedGrid grid_;
  std::size_t most_moved_ = 0;
  std::vector<std::vector<bool>> standing_;  // by label and node: passed by the flow of the label's last moves
  std::vector<Index> moved_;                 // every pixel that a move changed, in order
  std::vector<std::size_t> seen_moves_;      // how many of these each label's flow has been checked against
  std::vector<Index> stack_;
};

}  // namespace weakseg
