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
#include <cstdint>
#include <limits>
#include <numeric>
#include <vector>

#include "potts/potts_problem.hpp"
#include "soft_potts/phased_grid.hpp"
#include "soft_potts/simplex_step.hpp"
#include "support/exponential.hpp"
#include "support/labels.hpp"
#include "support/wide_vectors.hpp"

namespace weakseg {

// Planes, edges and masks as in PottsProblem; sigma is the softmax of the planes.
struct SoftPottsProblem : PottsProblem {
  float eta = 1;
  double tolerance = 1e-3;  // of the gap against the energy
  int max_sweeps = 200;
};

struct SoftPottsResult {
  double link = 0, pairwise = 0, gap = 0;  // the optimum is at most `gap` below their sum
  int sweeps = 0;
  bool converged = false;
  Failure failure = Failure::kNone;
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
  // Writes the distributions of the pixels to `planes[label]`, 0 on padding.
  SoftPottsResult run(const SoftPottsProblem& problem, const std::vector<float*>& planes) {
    problem_ = &problem;
    labels_ = static_cast<std::size_t>(problem.num_labels);
    grid_ = PhasedGrid(problem.height, problem.width);
    SoftPottsResult result;
    vectorized([&]() WEAKSEG_INLINED { result.failure = read(); });
    if (result.failure != Failure::kNone) return result;
    vectorized([&]() WEAKSEG_INLINED { minimize(result); });
    write(planes);
    return result;
  }

 private:
  static constexpr int kSweepsBetweenChecks = 5;
  static constexpr double kRounding = 1e-6;

  float* distribution(std::size_t k, std::size_t phase) { return y_.data() + (k * kPhases + phase) * grid_.size; }
  const float* output(std::size_t k, std::size_t phase) const {
    return sigma_.data() + (k * kPhases + phase) * grid_.size;
  }
  const float* edges(std::size_t plane, std::size_t phase) const {
    return edges_.data() + (plane * kPhases + phase) * grid_.size;
  }

  // ---- from and to the planes of the image ----

  WEAKSEG_INLINED Failure read() {
    const std::size_t pixels = problem_->pixels(), cells = kPhases * grid_.size;
    const auto copy = [](float value) { return value; };
    edges_.assign(D / 2 * cells, 0.0F);
    sigma_.assign(labels_ * cells, 0.0F);
    free_.assign(cells, 0.0F);
    for (std::size_t e = 0; e < D / 2; ++e) to_phases(grid_, problem_->edges + e * pixels, &edges_[e * cells], copy);
    for (std::size_t k = 0; k < labels_; ++k) to_phases(grid_, problem_->planes[k], &sigma_[k * cells], copy);
    to_phases(grid_, problem_->valid, free_.data(), [](std::uint8_t valid) { return valid != 0 ? 1.0F : 0.0F; });
    y_.assign(labels_ * cells, 0.0F);
    if (!take_softmax()) return Failure::kScores;
    take_seeds();
    return std::isfinite(mean_weight()) ? Failure::kNone : Failure::kEdges;
  }

  // Of the edges that meet in a pixel, together.
  double mean_weight() const {
    const double sum = std::accumulate(edges_.begin(), edges_.end(), 0.0);
    return 2 * sum / static_cast<double>(std::max<std::size_t>(problem_->pixels(), 1));
  }

  // Writes the softmax of the scores, 0 on padding, to y, and replaces the scores by it, or by its logarithm for the
  // cross-entropy. False if one is not finite.
  WEAKSEG_INLINED bool take_softmax() {
    const std::size_t cells = kPhases * grid_.size;
    Cells wrong{};
    for (std::size_t first = 0; first < cells; first += kCells) {
      float* scores = sigma_.data() + first;
      const float* valid = free_.data() + first;
      Cells best, sum{};
      best.fill(std::numeric_limits<float>::lowest());
      for (std::size_t k = 0; k < labels_; ++k) {
        Cells score;
        each_cell([&](std::size_t x) WEAKSEG_INLINED {
          score[x] = valid[x] != 0 ? scores[k * cells + x] : 0.0F;
          wrong[x] += score[x] - score[x];
          best[x] = std::max(best[x], score[x]);
        });
        std::copy_n(score.begin(), kCells, scores + k * cells);
      }
      for (std::size_t k = 0; k < labels_; ++k) {
        Cells power;
        each_cell([&](std::size_t x) WEAKSEG_INLINED {
          power[x] = exp_of_negative(scores[k * cells + x] - best[x]);
          sum[x] += power[x];
        });
        std::copy_n(power.begin(), kCells, y_.data() + first + k * cells);
      }
      Cells logarithm;
      each_cell([&](std::size_t x) WEAKSEG_INLINED { logarithm[x] = best[x] + std::log(sum[x]); });
      for (std::size_t k = 0; k < labels_; ++k) {
        float* y = y_.data() + first + k * cells;
        Cells fraction, output;
        each_cell([&](std::size_t x) WEAKSEG_INLINED {
          fraction[x] = y[x] * valid[x] / sum[x];
          const bool logarithms = Link == SoftLink::kCrossEntropy;
          output[x] = logarithms ? valid[x] * (scores[k * cells + x] - logarithm[x]) : fraction[x];
        });
        std::copy_n(fraction.begin(), kCells, y);
        std::copy_n(output.begin(), kCells, scores + k * cells);
      }
    }
    return std::all_of(wrong.begin(), wrong.end(), [](float value) { return value == 0; });
  }

  // Fixes the distributions of the seeds.
  void take_seeds() {
    const std::size_t cells = kPhases * grid_.size;
    seeds_.assign(cells, static_cast<float>(kVoid));
    to_phases(grid_, problem_->seeds, seeds_.data(), [](std::uint8_t seed) { return static_cast<float>(seed); });
    for (std::size_t cell = 0; cell < cells; ++cell) {
      if (free_[cell] == 0 || seeds_[cell] == static_cast<float>(kVoid)) continue;
      free_[cell] = 0;
      for (std::size_t k = 0; k < labels_; ++k) {
        y_[k * cells + cell] = seeds_[cell] == static_cast<float>(k) ? 1.0F : 0.0F;
      }
    }
  }

  void write(const std::vector<float*>& planes) const {
    for (std::size_t k = 0; k < labels_; ++k) from_phases(grid_, &y_[k * kPhases * grid_.size], planes[k]);
  }

  // ---- minimization ----

  WEAKSEG_INLINED void minimize(SoftPottsResult& result) {
    step_.resize(labels_);
    around_.sum.resize(labels_);
    for (std::size_t phase = 0; phase < kPhases; ++phase) {
      for (std::size_t d = 0; d < D; ++d) neighbors_[phase][d] = neighbor_of(grid_, phase, d);
    }
    float relaxation = relaxation_of(mean_weight(), problem_->eta);
    evaluate(result);
    while (!(result.converged = result.gap <= problem_->tolerance * (result.link + result.pairwise)) &&
           result.sweeps < problem_->max_sweeps) {
      before_ = y_;
      const SoftPottsResult last = result;
      const int sweeps = std::min(kSweepsBetweenChecks, problem_->max_sweeps - result.sweeps);
      for (int sweep = 0; sweep < sweeps; ++sweep) {
        for (const std::size_t phase : {0, 3, 1, 2}) move(phase, relaxation);
      }
      evaluate(result);
      result.sweeps += sweeps;
      if (result.link + result.pairwise <= (1 + kRounding) * (last.link + last.pairwise)) continue;
      // Steps beyond the minimum of each pixel mostly take half the sweeps, but may rise: those are taken back.
      const bool exact = relaxation == 1;
      y_ = before_;
      relaxation = 1;
      result.link = last.link, result.pairwise = last.pairwise, result.gap = last.gap;
      if (exact) break;
    }
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
      const float* weight = d % 2 == 0 ? edges(d / 2, phase) + cell : edges(d / 2, to.phase) + neighbor;
      there[d] = distribution(0, to.phase) + neighbor;
      each_cell([&](std::size_t x) WEAKSEG_INLINED { total[x] += weights[d][x] = weight[x]; });
    }
    around_.weight = total;
    for (std::size_t k = 0; k < labels_; ++k) {
      Cells sum{};
      for (std::size_t d = 0; d < D; ++d) {
        const float* y = there[d] + k * kPhases * grid_.size;
        each_cell([&](std::size_t x) WEAKSEG_INLINED { sum[x] += weights[d][x] * y[x]; });
      }
      around_.sum[k] = sum;
    }
  }

  template <class Work>
  WEAKSEG_INLINED void each_row_of_cells(const Work& work) const {
    for (int row = 0; row < grid_.rows; ++row) {
      for (int column = 0; column < grid_.columns; column += static_cast<int>(kCells)) work(grid_.cell(row, column));
    }
  }

  WEAKSEG_INLINED void move(std::size_t phase, float relaxation) {
    const float* free = free_.data() + phase * grid_.size;
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
        std::copy_n(output(k, phase) + cell, kCells, step_.output[k].begin());
        std::copy_n(distribution(k, phase) + cell, kCells, step_.point[k].begin());
      }
      step_.solve();
      go(free + cell, phase, cell, relaxation);
    });
  }

  // Goes to the solution of the step, or beyond it, on free cells.
  WEAKSEG_INLINED void go(const float* free, std::size_t phase, std::size_t cell, float relaxation) {
    Cells sum{};
    for (std::size_t k = 0; k < labels_; ++k) {
      const float* y = distribution(k, phase) + cell;
      Cells beyond;
      each_cell([&](std::size_t x) WEAKSEG_INLINED {
        const float value = y[x] + relaxation * (step_.point[k][x] - y[x]);
        beyond[x] = std::max(value, Link == SoftLink::kReverse ? 1e-30F : 0.0F);
        sum[x] += beyond[x];
      });
      step_.point[k] = beyond;
    }
    for (std::size_t k = 0; k < labels_; ++k) {
      float* y = distribution(k, phase) + cell;
      Cells next;
      each_cell([&](std::size_t x) WEAKSEG_INLINED { next[x] = free[x] != 0 ? step_.point[k][x] / sum[x] : y[x]; });
      std::copy_n(next.begin(), kCells, y);
    }
  }

  // ---- energy and gap ----

  // The gap is that of Frank and Wolfe: no distribution of any pixel is better, to first order, by more than its part.
  WEAKSEG_INLINED void evaluate(SoftPottsResult& result) {
    std::array<double, kCells> link{}, pairwise{}, gap{};
    for (std::size_t phase = 0; phase < kPhases; ++phase) {
      const float* free = free_.data() + phase * grid_.size;
      each_row_of_cells([&](std::size_t cell) WEAKSEG_INLINED {
        look_around(phase, cell);
        const float eta = problem_->eta;
        Cells pull{}, least, along{}, cost{};
        least.fill(std::numeric_limits<float>::max());
        link_of(phase, cell, cost);
        for (std::size_t k = 0; k < labels_; ++k) {
          const float *y = distribution(k, phase) + cell, *sigma = output(k, phase) + cell;
          each_cell([&](std::size_t x) WEAKSEG_INLINED {
            const float force = around_.weight[x] * y[x] - around_.sum[k][x];
            const float gradient = force + eta * slope_of_link(y[x], sigma[x], agreement_[x]);
            pull[x] += y[x] * force;
            along[x] += y[x] * gradient;
            least[x] = std::min(least[x], gradient);
          });
        }
        each_cell([&](std::size_t x) WEAKSEG_INLINED {
          const bool moves = free[cell + x] != 0;
          pairwise[x] += 0.5 * pull[x];
          link[x] += moves ? eta * cost[x] : 0.0F;
          gap[x] += moves ? along[x] - least[x] : 0.0F;
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
      const float *y = distribution(k, phase) + cell, *sigma = output(k, phase) + cell;
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
  PhasedGrid grid_;
  std::array<std::array<PhaseNeighbor, D>, kPhases> neighbors_;
  std::vector<float> y_, sigma_, edges_, free_, seeds_, before_;  // one plane per label or edge, each of four phases
  Around around_;
  SimplexStep<Link> step_;
  Cells agreement_;
};

}  // namespace weakseg
