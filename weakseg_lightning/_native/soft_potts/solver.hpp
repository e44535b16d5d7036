// Soft labelings of the pixel grid: a convex link to the network's output plus a relaxation P of the Potts energy,
//
//     sum_i eta H(y_i, sigma_i) + sum_ij w_ij P(y_i, y_j)     over distributions y_i, those of seeds fixed.
//
// The quadratic relaxation, P = |y_i - y_j|^2 / 2, comes first, by exact minimization over one pixel after the other.
// Pixels of one phase are no neighbors: they move at once. Other relaxations go on from there.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <vector>

#include "soft_potts/exact_collision.hpp"
#include "soft_potts/relaxed_descent.hpp"
#include "soft_potts/soft_grid.hpp"
#include "support/labels.hpp"
#include "support/wide_vectors.hpp"

namespace weakseg {

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
    SoftPottsResult result;
    vectorized([&]() WEAKSEG_INLINED { result.failure = grid_.read(problem); });
    if (result.failure != Failure::kNone) return result;
    vectorized([&]() WEAKSEG_INLINED { minimize(result); });
    if (problem.relaxation != Relaxation::kQuadratic) {
      vectorized([&]() WEAKSEG_INLINED { descent_.run(grid_, problem, step_, result); });
    }
    grid_.planes.write(answers);
    return result;
  }

 private:
  static constexpr int kSweepsBetweenChecks = 5;
  static constexpr int kSweepsOfAnEnd = 2;
  static constexpr double kNear = 50;  // times the tolerance: an end is worth trying
  static constexpr double kRounding = 1e-6;

  // ---- minimization ----

  WEAKSEG_INLINED void minimize(SoftPottsResult& result) {
    step_.resize(grid_.labels);
    sum_.resize(grid_.labels);
    bound_.resize(grid_.labels);
    std::vector<float>& y = grid_.planes.y;
    float relaxation = relaxation_of(grid_.planes.mean_weight(), problem_->eta);
    evaluate<false>(result);
    while (!reached(result, 1) && result.sweeps < problem_->max_sweeps) {
      before_ = y;
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
      y = before_;
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
      for (const std::size_t phase : kOrderOfPhases) move(phase, relaxation);
    }
    result.sweeps += sweeps;
  }

  // Sums over the neighbors of the weights times the distributions.
  WEAKSEG_INLINED Around<D> look_around(std::size_t phase, std::size_t cell) {
    const Around<D> around = grid_.look_around(phase, cell);
    for (std::size_t k = 0; k < grid_.labels; ++k) {
      Cells sum{};
      for (std::size_t d = 0; d < D; ++d) {
        const float* y = around.y[d] + k * grid_.stride();
        each_cell([&](std::size_t x) WEAKSEG_INLINED { sum[x] += around.weight[d][x] * y[x]; });
      }
      sum_[k] = sum;
    }
    return around;
  }

  WEAKSEG_INLINED void move(std::size_t phase, float relaxation) {
    grid_.each_row_of_cells([&](std::size_t cell) WEAKSEG_INLINED {
      const Cells total = look_around(phase, cell).total;
      const float eta = problem_->eta;
      Cells inverse, ratio;
      each_cell([&](std::size_t x) WEAKSEG_INLINED {
        // Without neighbors the link decides alone: any small weight will do.
        inverse[x] = 1 / std::max(total[x], 1e-6F * eta);
        ratio[x] = eta * inverse[x];
      });
      step_.ratio = ratio;
      std::copy_n(grid_.free(phase) + cell, kCells, step_.counted.begin());
      for (std::size_t k = 0; k < grid_.labels; ++k) {
        Cells center;
        each_cell([&](std::size_t x) WEAKSEG_INLINED { center[x] = sum_[k][x] * inverse[x]; });
        step_.center[k] = center;
        std::copy_n(grid_.planes.output(k, phase) + cell, kCells, step_.output[k].begin());
        std::copy_n(grid_.planes.distribution(k, phase) + cell, kCells, step_.point[k].begin());
      }
      step_.solve();
      go_beyond(phase, cell, relaxation);
      grid_.put(phase, cell, step_.point);
    });
  }

  // Moves the solution of the step further away from where its cells are.
  WEAKSEG_INLINED void go_beyond(std::size_t phase, std::size_t cell, float relaxation) {
    for (std::size_t k = 0; k < grid_.labels; ++k) {
      const float* y = grid_.planes.distribution(k, phase) + cell;
      Cells beyond;
      each_cell([&](std::size_t x) WEAKSEG_INLINED {
        beyond[x] = std::max(y[x] + relaxation * (step_.point[k][x] - y[x]), grid_.kLeast);
      });
      step_.point[k] = beyond;
    }
  }

  // ---- energy and gap ----

  // The gap is that of Frank and Wolfe: no distribution of any pixel is better, to first order, by more than its part.
  // Tight, the collision link is taken as it is, only the edges to first order.
  template <bool Tight>
  WEAKSEG_INLINED void evaluate(SoftPottsResult& result) {
    constexpr bool kExact = Tight && Link == SoftLink::kCollision;
    SoftSums sums;
    for (std::size_t phase = 0; phase < kPhases; ++phase) {
      const float* free = grid_.free(phase);
      grid_.each_row_of_cells([&](std::size_t cell) WEAKSEG_INLINED {
        const Around<D> around = grid_.look_around(phase, cell);
        const float eta = problem_->eta;
        const LinkOfCells link = grid_.link_of(phase, cell);
        Cells squares{}, least, along{};
        least.fill(std::numeric_limits<float>::max());
        for (std::size_t k = 0; k < grid_.labels; ++k) {
          const float *y = grid_.planes.distribution(k, phase) + cell, *sigma = grid_.planes.output(k, phase) + cell;
          Cells forces{};
          for (std::size_t d = 0; d < D; ++d) {
            const float* theirs = around.y[d] + k * grid_.stride();
            each_cell([&](std::size_t x) WEAKSEG_INLINED {
              // Of sums over neighbors nothing would be left at large weights.
              const float difference = y[x] - theirs[x], force = around.weight[d][x] * difference;
              forces[x] += force;
              squares[x] += force * difference;
            });
          }
          each_cell([&](std::size_t x) WEAKSEG_INLINED {
            const float gradient = forces[x] + eta * grid_.slope_of_link(y[x], sigma[x], link.agreement[x]);
            along[x] += y[x] * gradient;
            least[x] = std::min(least[x], gradient);
          });
          if constexpr (kExact) bound_.take(k, forces, sigma);
        }
        Cells gained{};
        if constexpr (kExact) gained = bound_.gain(eta, link.agreement);
        each_cell([&](std::size_t x) WEAKSEG_INLINED {
          const bool moves = free[cell + x] != 0;
          sums.pairwise[x] += 0.25 * squares[x];  // each pair is seen from both of its ends
          sums.link[x] += moves ? eta * link.cost[x] : 0.0F;
          sums.gap[x] += moves ? std::max(along[x] - least[x] - gained[x], 0.0F) : 0.0F;
        });
      });
    }
    sums.say(result);
  }

  const SoftPottsProblem* problem_ = nullptr;
  SoftGrid<D, Link> grid_;
  std::vector<float> before_;  // distributions
  std::vector<Cells> sum_;
  SimplexStep<Link> step_;
  ExactCollision bound_;
  RelaxedDescent<D, Link> descent_;
};

}  // namespace weakseg
