// alpha-expansion for grid Potts energies.
//
//   Y. Boykov, O. Veksler, R. Zabih, "Fast Approximate Energy Minimization via Graph Cuts", PAMI 2001, section 5.
//   V. Kolmogorov, R. Zabih, "What Energy Functions Can Be Minimized via Graph Cuts?", PAMI 2004, section 4: the terms
//   of a move are reduced to arcs directly, without auxiliary nodes.
// Beyond the papers, two shortcuts that do not change any move:
//  - Only a pixel next to another label, or one that does not hold its best label, can gain from a move on its own. The
//    sources of a cut are among these.
//  - Where nothing has changed since a label's last move, the flow of that move is still valid. Connected components
//    that it passed are left out, unless a change or flow from elsewhere reaches them.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <tuple>
#include <vector>

#include "potts/coarse_potts.hpp"
#include "potts/framed_grid.hpp"
#include "potts/grid_maxflow.hpp"
#include "potts/integer_potts.hpp"
#include "potts/reusable_flows.hpp"
#include "support/wide_vectors.hpp"

namespace weakseg {

struct ExpansionProblem : PottsProblem {
  const std::uint8_t* initial = nullptr;  // kVoid where none is given
  bool from_blocks = false;  // whether pixels of an image without an initial label start from a labeling of blocks
  int max_sweeps = 5;                     // 0: only start
};

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

  // Writes a label per pixel, kVoid on padding, unless it fails.
  ExpansionResult run(const ExpansionProblem& problem, std::uint8_t* labels) {
    std::vector<std::uint8_t> blocks;
    if constexpr (!is_volume(D)) {
      if (problem.from_blocks) blocks = label_blocks(problem);
    }
    ExpansionResult result;
    result.failure = energy_.read(problem);
    if (result.failure != Failure::kNone) return result;
    grid_ = energy_.grid();
    start(problem, blocks);
    if (problem.num_labels == 1) result.converged = true;
    else if (problem.num_labels == 2 && problem.max_sweeps > 0) binary(result);
    else sweep(problem, result);
    measure(result);
    energy_.for_each_pixel([&](std::size_t pixel, Index node) { labels[pixel] = label_[node]; });
    return result;
  }

  // Labels of blocks of pixels, from a few sweeps over a coarser image, which starts from a still coarser one itself.
  // Empty if that fails or the image is too small.
  std::vector<std::uint8_t> label_blocks(const ExpansionProblem& problem) {
    std::vector<std::uint8_t> labels;
    if (problem.num_labels < 2 || std::max(problem.height, problem.width) <= kBlockSide) return labels;
    const FramedGrid grid(problem.height, problem.width, D);
    energy_.reserve(grid);
    graph_.reserve(grid);
    const CoarsePotts<D> coarse(problem);
    ExpansionProblem blocks;
    static_cast<PottsProblem&>(blocks) = coarse.problem();
    const std::vector<std::uint8_t> none(coarse.pixels(), kVoid);
    blocks.initial = none.data();
    blocks.from_blocks = true;
    blocks.max_sweeps = kSweepsOfBlocks;
    labels.resize(coarse.pixels());
    if (run(blocks, labels.data()).failure != Failure::kNone) labels.clear();
    return labels;
  }

  // ---- the graph of a move, for GridMaxflow: the source side takes alpha --------------------------------------------
  // Seeds, and pixels that hold alpha, cannot move: they are constants rather than nodes.

  bool is_node(Index node) const { return is_free(node) && label_[node] != alpha_; }

  Capacity describe(Index node, Arcs& arcs) const {
    const std::uint8_t own = label_[node];
    Capacity terminal = 0, all = 0;
    for (int d = 0; d < D; ++d) {
      const Index other = node + grid_.offset[d];
      const Capacity weight = energy_.edge(node, d);
      const std::uint8_t there = label_[other];
      arcs[d] = 0;
      all += weight;
      if (weight == 0) continue;
      if (!is_node(other)) {
        terminal += weight * ((own != there) - (alpha_ != there));
      } else if (own == there) {
        arcs[d] = weight;
      } else if (d % 2 != 0) {
        // For two different labels, w (1 - x_p x_q) = w - w x_q + w (1 - x_p) x_q, where x = 1 takes alpha. The last
        // term is an arc from q to p; the terms are asymmetric, so each edge is counted at one of its ends, the second.
        terminal += weight;
        arcs[d] = weight;
      }
    }
    // A saving greater than all edges together decides alone, however great it is. Clamped, it cannot overflow.
    const std::int64_t saving = energy_.saving(own, alpha_, node), limit = all + 1;
    return terminal + static_cast<Capacity>(std::clamp(saving, -limit, limit));
  }

  const std::vector<Index>& more_sources() {
    sources_.clear();
    if (held_.empty()) return sources_;
    for (const Index node : graph_.created()) flows_.forget(alpha_, node, [&](Index here) { wake(here); });
    return sources_;
  }

 private:
  static constexpr int kSweepsOfBlocks = 2;  // later sweeps hardly change what is only a start
  // Flags of a node: neither padding nor a seed; among the candidates; a source that is held back.
  static constexpr std::uint8_t kFree = 1, kListed = 2, kHeld = 4;

  bool is_free(Index node) const { return (flags_[node] & kFree) != 0; }

  // Starts each pixel from its initial label, else from that of its block, else from its best label.
  void start(const ExpansionProblem& problem, const std::vector<std::uint8_t>& blocks) {
    label_.assign(grid_.size, kVoid);
    flags_.assign(grid_.size, 0);
    candidates_.clear();
    for (std::vector<Index>* list : {&candidates_, &sources_, &held_}) {
      list->reserve(energy_.pixels());  // costs address space only; growing would copy, and fragment the heap
    }
    vectorized([&]() WEAKSEG_INLINED { set_labels(problem, blocks); });
    vectorized([&]() WEAKSEG_INLINED { list_unsettled(problem); });
    graph_.reset(grid_);
    flows_.reset(grid_, energy_.pixels(), problem.num_labels);
  }

  WEAKSEG_INLINED void set_labels(const ExpansionProblem& problem, const std::vector<std::uint8_t>& blocks) {
    const auto width = static_cast<std::size_t>(problem.width), blocks_in_row = (width + kBlockSide - 1) / kBlockSide;
    std::vector<std::uint8_t> of_block(blocks_in_row * kBlockSide, kVoid);
    for (int row = 0; row < problem.height; ++row) {
      if (!blocks.empty() && row % kBlockSide == 0) {
        const std::uint8_t* line = blocks.data() + static_cast<std::size_t>(row / kBlockSide) * blocks_in_row;
        for (std::size_t x = 0; x < of_block.size(); ++x) of_block[x] = line[x / kBlockSide];
      }
      const std::uint8_t* seeds = problem.seeds + static_cast<std::size_t>(row) * width;
      const std::uint8_t* initial = problem.initial + static_cast<std::size_t>(row) * width;
      const Index first = grid_.node(row, 0);
      const std::uint8_t* best = energy_.best().data() + first;
      std::uint8_t *labels = label_.data() + first, *flags = flags_.data() + first;
      for (std::size_t x = 0; x < width; ++x) {
        const bool free = (best[x] != kVoid) & (seeds[x] == kVoid);
        const std::uint8_t otherwise = of_block[x] != kVoid ? of_block[x] : best[x];
        const std::uint8_t start = initial[x] != kVoid ? initial[x] : otherwise;
        labels[x] = free ? start : best[x];
        flags[x] = free ? kFree : 0;
      }
    }
  }

  // Lists as candidates the pixels that `find_sources` would not drop at once: those on a border, and those that do not
  // hold their best label or, of two labels, could change to the other one at no cost.
  WEAKSEG_INLINED void list_unsettled(const ExpansionProblem& problem) {
    const auto width = static_cast<std::size_t>(problem.width);
    std::vector<std::uint8_t> marks(width);
    for (int row = 0; row < problem.height; ++row) {
      const Index first = grid_.node(row, 0);
      const std::uint8_t *labels = label_.data() + first, *best = energy_.best().data() + first;
      for (std::size_t x = 0; x < width; ++x) marks[x] = labels[x] != best[x];
      for (int d = 0; d < D; ++d) {
        const std::uint8_t* others = labels + grid_.offset[d];
        for (std::size_t x = 0; x < width; ++x) {
          marks[x] |= static_cast<std::uint8_t>((others[x] != labels[x]) & (others[x] != kVoid));
        }
      }
      if (problem.num_labels == 2) energy_.mark_ties(row, 0, 1, marks.data());
      for (std::size_t x = 0; x < width; ++x) {
        const void* next = std::memchr(marks.data() + x, 1, width - x);
        if (next == nullptr) break;
        x = static_cast<std::size_t>(static_cast<const std::uint8_t*>(next) - marks.data());
        list(first + static_cast<Index>(x));
      }
    }
  }

  // Solves two labels exactly, by two moves. Let a be the best labeling that turns ones of the start into zeros, and b
  // the best that then turns zeros of a into ones. No labeling x is better than b: by submodularity
  //   E(a or x) + E(a and x) <= E(a) + E(x),
  // and `a and x` also turns ones of the start into zeros, so that E(a and x) >= E(a), hence E(x) >= E(a or x) >= E(b).
  // Among equals, a takes the most zeros and b the fewest ones; then b has the fewest ones of all minima, whatever the
  // start.
  void binary(ExpansionResult& result) {
    const std::int64_t before = energy_.of(label_);
    std::int64_t gain = 0;
    for (const std::uint8_t label : {std::uint8_t{0}, std::uint8_t{1}}) {
      takes_ties_ = label == 0;
      gain += expand(label);
    }
    takes_ties_ = false;
    result.lower_bound = energy_.best().unary() + static_cast<double>(before - gain) / energy_.scale();
    result.has_bound = true;
    result.converged = true;
    result.sweeps = 1;
  }

  void sweep(const ExpansionProblem& problem, ExpansionResult& result) {
    const std::vector<std::uint8_t> turns = turns_of(problem.num_labels);
    std::vector<int> seen(turns.size(), -1);  // by label: the version of the labeling that its last move left
    int version = 0;
    while (result.sweeps < problem.max_sweeps && !result.converged) {
      ++result.sweeps;
      for (const std::uint8_t label : turns) {
        if (seen[label] == version) continue;
        if (expand(label) > 0) ++version;
        seen[label] = version;
      }
      result.converged = std::all_of(seen.begin(), seen.end(), [&](int v) { return v == version; });
    }
  }

  // The labels by the number of pixels where they are best, the most first. The result must not depend on how labels
  // are numbered; and from a good start, small labels keep pixels that they would lose if large ones moved after them.
  std::vector<std::uint8_t> turns_of(int num_labels) const {
    const auto areas = energy_.best().areas();
    std::vector<std::uint8_t> turns(static_cast<std::size_t>(num_labels));
    std::iota(turns.begin(), turns.end(), std::uint8_t{0});
    std::stable_sort(turns.begin(), turns.end(), [&](std::uint8_t a, std::uint8_t b) { return areas[a] > areas[b]; });
    return turns;
  }

  // Lets alpha take the set of pixels that lowers the energy most. Pixels keep their label in ties. Returns the gain.
  std::int64_t expand(std::uint8_t alpha) {
    alpha_ = alpha;
    flows_.forget_changes(alpha);
    find_sources();
    if (sources_.empty()) return 0;
    const std::int64_t gain = graph_.solve(*this, sources_, takes_ties_);
    for (const Index node : graph_.source_side()) label_[node] = alpha;
    flows_.remember(alpha, graph_);
    for (const Index node : graph_.source_side()) {
      flows_.moved(node);
      list(node);
      for (int d = 0; d < D; ++d) list(node + grid_.offset[d]);
    }
    return gain;
  }

  void list(Index node) {
    if (flags_[node] != kFree) return;
    flags_[node] |= kListed;
    candidates_.push_back(node);
  }

  // Makes a source that was held back a source again.
  void wake(Index node) {
    if ((flags_[node] & kHeld) == 0) return;
    flags_[node] ^= kHeld;
    sources_.push_back(node);
  }

  // Finds the nodes with a source arc, and holds back those whose flow from alpha's last move is still valid. Drops
  // from the candidates what lies inside a region of its best label, since nothing there can gain.
  void find_sources() {
    for (const Index node : held_) flags_[node] &= static_cast<std::uint8_t>(~kHeld);
    held_.clear();
    sources_.clear();
    Arcs arcs;
    std::size_t kept = 0;
    for (std::size_t i = 0; i < candidates_.size(); ++i) {
      const Index node = candidates_[i];
      if (is_settled(node) && !(takes_ties_ && costs_nothing(node))) {
        flags_[node] = kFree;
        continue;
      }
      candidates_[kept++] = node;
      if (label_[node] == alpha_ || !may_gain(node) || describe(node, arcs) < (takes_ties_ ? 0 : 1)) continue;
      const bool valid = flows_.is_valid(alpha_, node);
      if (valid) flags_[node] |= kHeld;
      (valid ? held_ : sources_).push_back(node);
    }
    candidates_.resize(kept);
  }

  // Whether alpha may cost a pixel less than its label does, or save edges. Cheaper than `describe`, and mostly false.
  bool may_gain(Index node) const {
    if (takes_ties_) return costs_nothing(node) || is_on_border(node);
    return energy_.is_dearer(label_[node], alpha_, node) || is_on_border(node);
  }

  // Whether alpha costs no more than the label of a pixel.
  bool costs_nothing(Index node) const {
    return label_[node] != alpha_ && energy_.saving(label_[node], alpha_, node) >= 0;
  }

  bool is_settled(Index node) const { return label_[node] == energy_.best()[node] && !is_on_border(node); }

  bool is_on_border(Index node) const {
    const std::uint8_t own = label_[node];
    for (int d = 0; d < D; ++d) {
      const std::uint8_t there = label_[node + grid_.offset[d]];
      if (there != own && there != kVoid) return true;
    }
    return false;
  }

  void measure(ExpansionResult& result) const {
    std::tie(result.unary, result.pairwise) = energy_.measure(label_);
    const double total = result.unary + result.pairwise;
    if (result.sweeps == 0 && result.converged) {  // one label
      result.lower_bound = total;
      result.has_bound = true;
    }
    result.lower_bound = std::min(result.lower_bound, total);  // sums in another order round differently
  }

  IntegerPotts<D> energy_;
  FramedGrid grid_;
  std::uint8_t alpha_ = 0;           // of the move
  bool takes_ties_ = false;          // whether alpha also takes pixels that gain nothing
  std::vector<std::uint8_t> label_;  // by node; kVoid on padding and in the frame
  std::vector<std::uint8_t> flags_;  // by node
  std::vector<Index> candidates_, sources_, held_;
  ReusableFlows<D> flows_;
  GridMaxflow<D> graph_;
};

}  // namespace weakseg
