// Soft labelings of the pixel grid: a convex link to the network's output plus the quadratic relaxation of the Potts
// energy,
//
//     sum_i eta H(y_i, sigma_i) + sum_ij w_ij |y_i - y_j|^2 / 2     over distributions y_i, those of seeds fixed,
//
// by exact minimization over one pixel after the other. Pixels of one phase are no neighbors: they move at once.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>
#include <vector>

#include "soft_potts/exact_collision.hpp"
#include "soft_potts/phased_grid.hpp"
#include "soft_potts/planes.hpp"
#include "soft_potts/simplex_step.hpp"
#include "support/labels.hpp"
#include "support/wide_vectors.hpp"

namespace weakseg {

struct SoftPottsResult {
  double link = 0, pairwise = 0, gap = 0;  // the optimum is at most `gap` below their sum
  int sweeps = 0;
  bool converged = false;
  Failure failure = Failure::kNone;

  double energy() const { return link + pairwise; }
};

// How far beyond the minimum of a pixel steps go at first, 1 being exactly there: the best factor of successive
// over-relaxation for a grid whose edges weigh so much against the link, whose curvature is about 1.3 eta.
inline float relaxation_of(double mean_weight, double eta) {
  const double stiffness = std::sqrt(1.3 * eta / std::max(mean_weight, 1e-30));
  return static_cast<float>(std::clamp(2 / (1 + stiffness), 1.0, 1.95));
}

// Reusable: buffers are kept for the next image.
template <int D, SoftLink Link>
class SoftPotts {
 public:
  // Writes the distributions of the pixels to `answers[label]`, 0 on padding.
  SoftPottsResult run(const SoftPottsProblem& problem, const std::vector<float*>& answers) {
    problem_ = &problem;
    labels_ = static_cast<std::size_t>(problem.num_labels);
    SoftPottsResult result;
    vectorized([&]() WEAKSEG_INLINED { result.failure = planes_.read(problem); });
    if (result.failure != Failure::kNone) return result;
    vectorized([&]() WEAKSEG_INLINED { minimize(result); });
    planes_.write(answers);
    return result;
  }

 private:
  static constexpr int kSweepsBetweenChecks = 5;
  static constexpr int kSweepsOfAnEnd = 2;
  static constexpr double kNear = 50;  // times the tolerance: an end is worth trying
  static constexpr double kRounding = 1e-6;

  // ---- minimization ----

  WEAKSEG_INLINED void minimize(SoftPottsResult& result) {
    step_.resize(labels_);
    around_.sum.resize(labels_);
    bound_.resize(labels_);
    for (std::size_t phase = 0; phase < kPhases; ++phase) {
      for (std::size_t d = 0; d < D; ++d) neighbors_[phase][d] = neighbor_of(planes_.grid, phase, d);
    }
    float relaxation = relaxation_of(planes_.mean_weight(), problem_->eta);
    evaluate<false>(result);
    while (!reached(result, 1) && result.sweeps < problem_->max_sweeps) {
      before_ = planes_.y;
      const SoftPottsResult last = result;
      sweep(result, kSweepsBetweenChecks, relaxation);
      evaluate<false>(result);
      if (result.energy() <= (1 + kRounding) * last.energy()) {
        if (reached(result, 1) || !reached(result, kNear)) continue;
        // Steps beyond the minimum leave pixels on both sides of it, which the gap counts twelvefold.
        sweep(result, kSweepsOfAnEnd, 1);
        evaluate<true>(result);
        continue;
      }
      // Steps beyond the minimum of each pixel mostly take half the sweeps, but may rise: those are taken back.
      const bool exact = relaxation == 1;
      planes_.y = before_;
      relaxation = 1;
      result.link = last.link, result.pairwise = last.pairwise, result.gap = last.gap;
      if (exact) break;
    }
    result.converged = reached(result, 1);
  }

  bool reached(const SoftPottsResult& result, double times) const {
    return result.gap <= times * problem_->tolerance * result.energy();
  }

  WEAKSEG_INLINED void sweep(SoftPottsResult& result, int sweeps, float relaxation) {
    sweeps = std::min(sweeps, problem_->max_sweeps - result.sweeps);
    for (int done = 0; done < sweeps; ++done) {
      for (const std::size_t phase : {0, 3, 1, 2}) move(phase, relaxation);
    }
    result.sweeps += sweeps;
  }

  // The sums over the neighbors of `kCells` cells: of the weights, and of the weights times the distributions.
  struct Around {
    Cells weight;
    std::vector<Cells> sum;
  };

  WEAKSEG_INLINED void look_around(std::size_t phase, std::size_t cell) {
    std::array<Cells, D> weights;
    std::array<const float*, D> there;
    Cells total{};
    for (std::size_t d = 0; d < D; ++d) {
      const PhaseNeighbor to = neighbors_[phase][d];
      const std::size_t neighbor = static_cast<std::size_t>(static_cast<std::ptrdiff_t>(cell) + to.offset);
      const float* weight = d % 2 == 0 ? planes_.edges(d / 2, phase) + cell : planes_.edges(d / 2, to.phase) + neighbor;
      there[d] = planes_.distribution(0, to.phase) + neighbor;
      each_cell([&](std::size_t x) WEAKSEG_INLINED { total[x] += weights[d][x] = weight[x]; });
    }
    around_.weight = total;
    for (std::size_t k = 0; k < labels_; ++k) {
      Cells sum{};
      for (std::size_t d = 0; d < D; ++d) {
        const float* y = there[d] + k * kPhases * planes_.grid.size;
        each_cell([&](std::size_t x) WEAKSEG_INLINED { sum[x] += weights[d][x] * y[x]; });
      }
      around_.sum[k] = sum;
    }
  }

  template <class Work>
  WEAKSEG_INLINED void each_row_of_cells(const Work& work) const {
    const PhasedGrid& grid = planes_.grid;
    for (int row = 0; row < grid.rows; ++row) {
      for (int column = 0; column < grid.columns; column += static_cast<int>(kCells)) work(grid.cell(row, column));
    }
  }

  WEAKSEG_INLINED void move(std::size_t phase, float relaxation) {
    const float* free = planes_.free.data() + phase * planes_.grid.size;
    each_row_of_cells([&](std::size_t cell) WEAKSEG_INLINED {
      look_around(phase, cell);
      const float eta = problem_->eta;
      Cells inverse, ratio;
      each_cell([&](std::size_t x) WEAKSEG_INLINED {
        // Without neighbors the link decides alone: any small weight will do.
        inverse[x] = 1 / std::max(around_.weight[x], 1e-6F * eta);
        ratio[x] = eta * inverse[x];
      });
      step_.ratio = ratio;
      std::copy_n(free + cell, kCells, step_.counted.begin());
      for (std::size_t k = 0; k < labels_; ++k) {
        Cells center;
        each_cell([&](std::size_t x) WEAKSEG_INLINED { center[x] = around_.sum[k][x] * inverse[x]; });
        step_.center[k] = center;
        std::copy_n(planes_.output(k, phase) + cell, kCells, step_.output[k].begin());
        std::copy_n(planes_.distribution(k, phase) + cell, kCells, step_.point[k].begin());
      }
      step_.solve();
      go(free + cell, phase, cell, relaxation);
    });
  }

  // Goes to the solution of the step, or beyond it, on free cells.
  WEAKSEG_INLINED void go(const float* free, std::size_t phase, std::size_t cell, float relaxation) {
    Cells sum{};
    for (std::size_t k = 0; k < labels_; ++k) {
      const float* y = planes_.distribution(k, phase) + cell;
      Cells beyond;
      each_cell([&](std::size_t x) WEAKSEG_INLINED {
        const float value = y[x] + relaxation * (step_.point[k][x] - y[x]);
        beyond[x] = std::max(value, Link == SoftLink::kReverse ? 1e-30F : 0.0F);
        sum[x] += beyond[x];
      });
      step_.point[k] = beyond;
    }
    for (std::size_t k = 0; k < labels_; ++k) {
      float* y = planes_.distribution(k, phase) + cell;
      Cells next;
      each_cell([&](std::size_t x) WEAKSEG_INLINED { next[x] = free[x] != 0 ? step_.point[k][x] / sum[x] : y[x]; });
      std::copy_n(next.begin(), kCells, y);
    }
  }

  // ---- energy and gap ----

  // The gap is that of Frank and Wolfe: no distribution of any pixel is better, to first order, by more than its part.
  // Tight, the collision link is taken as it is, only the edges to first order.
  template <bool Tight>
  WEAKSEG_INLINED void evaluate(SoftPottsResult& result) {
    constexpr bool kExact = Tight && Link == SoftLink::kCollision;
    std::array<double, kCells> link{}, pairwise{}, gap{};
    for (std::size_t phase = 0; phase < kPhases; ++phase) {
      const float* free = planes_.free.data() + phase * planes_.grid.size;
      each_row_of_cells([&](std::size_t cell) WEAKSEG_INLINED {
        look_around(phase, cell);
        const float eta = problem_->eta;
        Cells pull{}, least, along{}, cost{};
        least.fill(std::numeric_limits<float>::max());
        link_of(phase, cell, cost);
        for (std::size_t k = 0; k < labels_; ++k) {
          const float *y = planes_.distribution(k, phase) + cell, *sigma = planes_.output(k, phase) + cell;
          Cells forces;
          each_cell([&](std::size_t x) WEAKSEG_INLINED {
            const float force = around_.weight[x] * y[x] - around_.sum[k][x];
            const float gradient = force + eta * slope_of_link(y[x], sigma[x], agreement_[x]);
            pull[x] += y[x] * force;
            along[x] += y[x] * gradient;
            least[x] = std::min(least[x], gradient);
            forces[x] = force;
          });
          if constexpr (kExact) bound_.take(k, forces, sigma);
        }
        Cells gained{};
        if constexpr (kExact) gained = bound_.gain(eta, agreement_);
        each_cell([&](std::size_t x) WEAKSEG_INLINED {
          const bool moves = free[cell + x] != 0;
          pairwise[x] += 0.5 * pull[x];
          link[x] += moves ? eta * cost[x] : 0.0F;
          gap[x] += moves ? std::max(along[x] - least[x] - gained[x], 0.0F) : 0.0F;
        });
      });
    }
    const auto sum_of = [](const auto& values) {
      double sum = 0;
      for (const double value : values) sum += value;
      return sum;
    };
    result.link = sum_of(link), result.pairwise = sum_of(pairwise), result.gap = std::max(sum_of(gap), 0.0);
  }

  // H of each cell; for the collision also sigma . y.
  WEAKSEG_INLINED void link_of(std::size_t phase, std::size_t cell, Cells& cost) {
    Cells agreement{};
    for (std::size_t k = 0; k < labels_; ++k) {
      const float *y = planes_.distribution(k, phase) + cell, *sigma = planes_.output(k, phase) + cell;
      each_cell([&](std::size_t x) WEAKSEG_INLINED {
        if (Link == SoftLink::kCollision) agreement[x] += sigma[x] * y[x];
        if (Link == SoftLink::kCrossEntropy) cost[x] -= y[x] * sigma[x];
        if (Link == SoftLink::kReverse) cost[x] -= sigma[x] * std::log(std::max(y[x], 1e-38F));
      });
    }
    if (Link == SoftLink::kCollision) {
      // Not the greater of both: where y is 0 the slope, and with it the gap, would say that nothing is wrong.
      for (float& value : agreement) value += 1e-30F;
      each_cell([&](std::size_t x) WEAKSEG_INLINED { cost[x] = -std::log(agreement[x]); });
    }
    agreement_ = agreement;
  }

  WEAKSEG_INLINED static float slope_of_link(float y, float sigma, float agreement) {
    if (Link == SoftLink::kCollision) return -sigma / agreement;
    if (Link == SoftLink::kCrossEntropy) return -sigma;
    return -sigma / std::max(y, 1e-38F);
  }

  const SoftPottsProblem* problem_ = nullptr;
  std::size_t labels_ = 0;
  std::array<std::array<PhaseNeighbor, D>, kPhases> neighbors_;
  SoftPlanes<D, Link> planes_;
  std::vector<float> before_;  // distributions
  Around around_;
  SimplexStep<Link> step_;
  Cells agreement_;
  ExactCollision bound_;
};

}  // namespace weakseg
