// A soft labeling on the way, and what each of its cells sees: its neighbors, and the network's output.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <vector>

#include "soft_potts/phased_grid.hpp"
#include "soft_potts/planes.hpp"
#include "soft_potts/simplex_step.hpp"
#include "support/intrinsics.hpp"
#include "support/logarithm.hpp"

namespace weakseg {

// The neighbors of `kCells` cells: weights of the edges, their sum, and where the distributions begin.
template <int D>
struct Around {
  std::array<Cells, D> weight;
  std::array<const float*, D> y;  // of label 0
  Cells total;
};

// H of `kCells` cells; for the collision also sigma . y.
struct LinkOfCells {
  Cells cost, agreement;
};

// Reusable: buffers are kept for the next image.
template <int D, SoftLink Link>
class SoftGrid {
 public:
  WEAKSEG_INLINED Failure read(const SoftPottsProblem& problem) {
    labels = static_cast<std::size_t>(problem.num_labels);
    const Failure failure = planes.read(problem);
    for (std::size_t phase = 0; phase < kPhases; ++phase) {
      for (std::size_t d = 0; d < D; ++d) neighbors_[phase][d] = neighbor_of(planes.grid, phase, d);
    }
    return failure;
  }

  // From the distribution of one label to that of the next.
  std::size_t stride() const { return kPhases * planes.grid.size; }

  const float* free(std::size_t phase) const { return planes.free.data() + phase * planes.grid.size; }

  WEAKSEG_INLINED Around<D> look_around(std::size_t phase, std::size_t cell) {
    Around<D> found;
    Cells total{};
    for (std::size_t d = 0; d < D; ++d) {
      const PhaseNeighbor to = neighbors_[phase][d];
      const std::size_t neighbor = static_cast<std::size_t>(static_cast<std::ptrdiff_t>(cell) + to.offset);
      const float* weight = d % 2 == 0 ? planes.edges(d / 2, phase) + cell : planes.edges(d / 2, to.phase) + neighbor;
      found.y[d] = planes.distribution(0, to.phase) + neighbor;
      each_cell([&](std::size_t x) WEAKSEG_INLINED { total[x] += found.weight[d][x] = weight[x]; });
    }
    found.total = total;
    return found;
  }

  template <class Work>
  WEAKSEG_INLINED void each_row_of_cells(const Work& work) const {
    const PhasedGrid& grid = planes.grid;
    for (int row = 0; row < grid.rows; ++row) {
      for (int column = 0; column < grid.columns; column += static_cast<int>(kCells)) work(grid.cell(row, column));
    }
  }

  // H of distributions, of which `y(label)` says where they are.
  template <class Where>
  WEAKSEG_INLINED LinkOfCells link_of(std::size_t phase, std::size_t cell, const Where& y) const {
    Cells agreement{}, cost{};
    for (std::size_t k = 0; k < labels; ++k) {
      const float *mine = y(k), *sigma = planes.output(k, phase) + cell;
      each_cell([&](std::size_t x) WEAKSEG_INLINED {
        if (Link == SoftLink::kCollision) agreement[x] += sigma[x] * mine[x];
        if (Link == SoftLink::kCrossEntropy) cost[x] -= mine[x] * sigma[x];
        if (Link == SoftLink::kReverse) cost[x] -= sigma[x] * log_of_positive(std::max(mine[x], 1.2e-38F));
      });
    }
    if (Link == SoftLink::kCollision) {
      // Not the greater of both: where y is 0 the slope, and with it the gap, would say that nothing is wrong.
      for (float& value : agreement) value += 1e-30F;
      each_cell([&](std::size_t x) WEAKSEG_INLINED { cost[x] = std::max(-log_of_positive(agreement[x]), 0.0F); });
    }
    return {cost, agreement};
  }

  WEAKSEG_INLINED LinkOfCells link_of(std::size_t phase, std::size_t cell) {
    return link_of(phase, cell, [&](std::size_t k) WEAKSEG_INLINED { return planes.distribution(k, phase) + cell; });
  }

  WEAKSEG_INLINED static float slope_of_link(float y, float sigma, float agreement) {
    if (Link == SoftLink::kCollision) return -sigma / agreement;
    if (Link == SoftLink::kCrossEntropy) return -sigma;
    return -sigma / std::max(y, 1e-38F);
  }

  // Least probability of a label: with the reverse link its logarithm has to be finite.
  static constexpr float kLeast = Link == SoftLink::kReverse ? 1e-30F : 0.0F;

  // Replaces the distributions of free cells by others, scaled to a sum of 1.
  WEAKSEG_INLINED void put(std::size_t phase, std::size_t cell, const std::vector<Cells>& distributions) {
    const float* moves = free(phase) + cell;
    Cells sum{};
    for (const Cells& each : distributions) each_cell([&](std::size_t x) WEAKSEG_INLINED { sum[x] += each[x]; });
    for (std::size_t k = 0; k < labels; ++k) {
      float* y = planes.distribution(k, phase) + cell;
      Cells next;
      each_cell([&](std::size_t x) WEAKSEG_INLINED { next[x] = moves[x] != 0 ? distributions[k][x] / sum[x] : y[x]; });
      std::copy_n(next.begin(), kCells, y);
    }
  }

  std::size_t labels = 0;
  SoftPlanes<D, Link> planes;

 private:
  std::array<std::array<PhaseNeighbor, D>, kPhases> neighbors_;
};

// Sums over the cells of an image: of the link, of the edges' energy, and of the gap.
struct SoftSums {
  std::array<double, kCells> link{}, pairwise{}, gap{};

  void say(SoftPottsResult& result) const {
    const auto sum_of = [](const auto& values) {
      double sum = 0;
      for (const double value : values) sum += value;
      return sum;
    };
    result.link = sum_of(link), result.pairwise = sum_of(pairwise), result.gap = std::max(sum_of(gap), 0.0);
  }
};

}  // namespace weakseg
