// Soft labelings with a relaxation of the Potts energy that is not convex: a descent from the labeling that is there.
//
// A pixel takes the link in full and its edges to first order, plus a square that keeps the step short; the square
// weighs more and more until the pixel's energy falls. So no step raises the energy.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>
#include <vector>

#include "soft_potts/relaxations.hpp"
#include "soft_potts/soft_grid.hpp"

namespace weakseg {

// Reusable: buffers are kept for the next image.
template <int D, SoftLink Link>
class RelaxedDescent {
 public:
  using Grid = SoftGrid<D, Link>;

  // Ends where five sweeps lower the energy by no more than the tolerance of it; `step` has room for the labels.
  WEAKSEG_INLINED void run(Grid& grid, const SoftPottsProblem& problem, SimplexStep<Link>& step,
                           SoftPottsResult& result) {
    grid_ = &grid, problem_ = &problem, step_ = &step;
    for (std::vector<Cells>* each : {&start_, &slope_, &best_}) each->resize(grid.labels);
    std::vector<float>& y = grid.planes.y;
    evaluate(result);
    result.converged = result.gap <= problem.tolerance * result.energy();
    for (int done = 0; done < problem.max_sweeps && !result.converged;) {
      before_ = y;
      const SoftPottsResult last = result;
      const int sweeps = std::min(kSweepsBetweenChecks, problem.max_sweeps - done);
      for (int sweep = 0; sweep < sweeps; ++sweep) {
        for (const std::size_t phase : kOrderOfPhases) move(phase);
      }
      done += sweeps;
      evaluate(result);
      result.sweeps += sweeps;
      if (result.energy() > (1 + kRounding) * last.energy()) {
        y = before_;
        result.link = last.link, result.pairwise = last.pairwise, result.gap = last.gap;
        break;
      }
      const double tolerated = problem.tolerance * result.energy();
      result.converged = result.gap <= tolerated || last.energy() - result.energy() <= tolerated;
    }
  }

 private:
  static constexpr int kSweepsBetweenChecks = 5;
  static constexpr int kTries = 6;  // of shorter and shorter steps
  static constexpr float kLongestStep = 1000, kShortestStep = 1e-6F;  // of all probabilities together; less is none
  static constexpr double kRounding = 1e-6;

  // The edges' energy of cells at a point, of which `a(label)` says where it is.
  template <class Where>
  WEAKSEG_INLINED std::array<Distances, D> distances(const Around<D>& around, const Where& a) const {
    std::array<Distances, D> found;
    for (std::size_t d = 0; d < D; ++d) {
      PairsOfCells pairs{};
      for (std::size_t k = 0; k < grid_->labels; ++k) {
        const float *mine = a(k), *theirs = around.y[d] + k * grid_->stride();
        each_cell([&](std::size_t x) WEAKSEG_INLINED {
          pairs.product[x] += mine[x] * theirs[x];
          pairs.squared_a[x] += mine[x] * mine[x];
          pairs.squared_b[x] += theirs[x] * theirs[x];
        });
      }
      found[d] = distances_of(problem_->relaxation, pairs);
    }
    return found;
  }

  WEAKSEG_INLINED static Cells sum_of(const Around<D>& around, const std::array<Distances, D>& distances) {
    Cells sum{};
    for (std::size_t d = 0; d < D; ++d) {
      each_cell([&](std::size_t x) WEAKSEG_INLINED { sum[x] += around.weight[d][x] * distances[d].value[x]; });
    }
    return sum;
  }

  // Reads the distributions of cells; their edges' energy, and its slopes.
  WEAKSEG_INLINED Cells look(std::size_t phase, std::size_t cell, const Around<D>& around) {
    for (std::size_t k = 0; k < grid_->labels; ++k) {
      std::copy_n(grid_->planes.distribution(k, phase) + cell, kCells, start_[k].begin());
    }
    const auto found = distances(around, [&](std::size_t k) WEAKSEG_INLINED { return start_[k].data(); });
    for (std::size_t k = 0; k < grid_->labels; ++k) {
      Cells slope{};
      for (std::size_t d = 0; d < D; ++d) {
        const float* theirs = around.y[d] + k * grid_->stride();
        each_cell([&](std::size_t x) WEAKSEG_INLINED {
          slope[x] += around.weight[d][x] * (found[d].own[x] * start_[k][x] - found[d].other[x] * theirs[x]);
        });
      }
      slope_[k] = slope;
    }
    return sum_of(around, found);
  }

  WEAKSEG_INLINED void move(std::size_t phase) {
    grid_->each_row_of_cells([&](std::size_t cell) WEAKSEG_INLINED {
      const Around<D> around = grid_->look_around(phase, cell);
      const float eta = problem_->eta;
      const Cells pairs = look(phase, cell, around), link = grid_->link_of(phase, cell).cost;
      Cells stiffness = first_stiffness(around.total);
      std::copy_n(grid_->free(phase) + cell, kCells, step_->counted.begin());
      for (std::size_t k = 0; k < grid_->labels; ++k) {
        std::copy_n(grid_->planes.output(k, phase) + cell, kCells, step_->output[k].begin());
        best_[k] = start_[k];
      }
      for (int attempt = 0; attempt < kTries && greatest_of(step_->counted) != 0; ++attempt) {
        take_step(stiffness);
        const auto there = [&](std::size_t k) WEAKSEG_INLINED { return step_->point[k].data(); };
        const Cells pairs_there = sum_of(around, distances(around, there));
        const Cells link_there = grid_->link_of(phase, cell, there).cost;
        Cells lower, way{};
        for (std::size_t k = 0; k < grid_->labels; ++k) {
          each_cell([&](std::size_t x) WEAKSEG_INLINED { way[x] += std::abs(step_->point[k][x] - start_[k][x]); });
        }
        each_cell([&](std::size_t x) WEAKSEG_INLINED {
          const bool falls = pairs_there[x] + eta * link_there[x] < pairs[x] + eta * link[x];
          lower[x] = falls ? step_->counted[x] : 0.0F;
          // What a step leaves where it is, shorter steps do, too.
          step_->counted[x] = falls || way[x] < kShortestStep ? 0.0F : step_->counted[x];
          stiffness[x] *= 4;
        });
        for (std::size_t k = 0; k < grid_->labels; ++k) {
          each_cell([&](std::size_t x) WEAKSEG_INLINED {
            best_[k][x] = lower[x] != 0 ? std::max(step_->point[k][x], Grid::kLeast) : best_[k][x];
          });
        }
      }
      grid_->put(phase, cell, best_);
    });
  }

  // Steps are of 1,000 at most, also where a logarithm is steep: of much more, rounding leaves nothing.
  WEAKSEG_INLINED Cells first_stiffness(const Cells& total) const {
    Cells least = slope_[0], greatest = slope_[0], stiffness;
    for (std::size_t k = 1; k < grid_->labels; ++k) {
      each_cell([&](std::size_t x) WEAKSEG_INLINED {
        least[x] = std::min(least[x], slope_[k][x]);
        greatest[x] = std::max(greatest[x], slope_[k][x]);
      });
    }
    each_cell([&](std::size_t x) WEAKSEG_INLINED {
      const float steep = (greatest[x] - least[x]) / kLongestStep;
      stiffness[x] = std::max(std::max(total[x], 1e-6F * problem_->eta), steep);
    });
    return stiffness;
  }

  // Finds the points of the cells from `start_`.
  WEAKSEG_INLINED void take_step(const Cells& stiffness) {
    Cells inverse;
    each_cell([&](std::size_t x) WEAKSEG_INLINED { inverse[x] = 1 / stiffness[x]; });
    each_cell([&](std::size_t x) WEAKSEG_INLINED { step_->ratio[x] = problem_->eta * inverse[x]; });
    for (std::size_t k = 0; k < grid_->labels; ++k) {
      Cells center;
      each_cell([&](std::size_t x) WEAKSEG_INLINED { center[x] = start_[k][x] - slope_[k][x] * inverse[x]; });
      step_->center[k] = center;
      step_->point[k] = start_[k];
    }
    step_->solve();
  }

  // The gap says how nearly stationary the labeling is.
  WEAKSEG_INLINED void evaluate(SoftPottsResult& result) {
    SoftSums sums;
    for (std::size_t phase = 0; phase < kPhases; ++phase) {
      const float* free = grid_->free(phase);
      grid_->each_row_of_cells([&](std::size_t cell) WEAKSEG_INLINED {
        const Cells pairs = look(phase, cell, grid_->look_around(phase, cell));
        const LinkOfCells link = grid_->link_of(phase, cell);
        const float eta = problem_->eta;
        Cells least, along{};
        least.fill(std::numeric_limits<float>::max());
        for (std::size_t k = 0; k < grid_->labels; ++k) {
          const float* sigma = grid_->planes.output(k, phase) + cell;
          each_cell([&](std::size_t x) WEAKSEG_INLINED {
            const float y = start_[k][x];
            const float gradient = slope_[k][x] + eta * Grid::slope_of_link(y, sigma[x], link.agreement[x]);
            along[x] += y * gradient;
            least[x] = std::min(least[x], gradient);
          });
        }
        each_cell([&](std::size_t x) WEAKSEG_INLINED {
          const bool moves = free[cell + x] != 0;
          sums.pairwise[x] += 0.5 * pairs[x];  // each pair is seen from both of its ends
          sums.link[x] += moves ? eta * link.cost[x] : 0.0F;
          sums.gap[x] += moves ? std::max(along[x] - least[x], 0.0F) : 0.0F;
        });
      });
    }
    sums.say(result);
  }

  Grid* grid_ = nullptr;
  const SoftPottsProblem* problem_ = nullptr;
  SimplexStep<Link>* step_ = nullptr;
  std::vector<float> before_;                // distributions
  std::vector<Cells> start_, slope_, best_;  // of the cells that are looked at
};

}  // namespace weakseg
