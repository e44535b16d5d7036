// A problem of soft labelings on the four interleaved grids: one plane per label or edge, each of four phases.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numeric>
#include <vector>

#include "potts/potts_problem.hpp"
#include "soft_potts/phased_grid.hpp"
#include "soft_potts/relaxations.hpp"
#include "soft_potts/simplex_step.hpp"
#include "support/exponential.hpp"
#include "support/labels.hpp"

namespace weakseg {

// Planes, edges and masks as in PottsProblem; sigma is the softmax of the planes.
struct SoftPottsProblem : PottsProblem {
  Relaxation relaxation = Relaxation::kQuadratic;
  float eta = 1;
  double tolerance = 1e-3;  // of the gap against the energy; of other relaxations also of the fall in five sweeps
  int max_sweeps = 200;     // and as many again for another relaxation than the quadratic one
};

struct SoftPottsResult {
  double link = 0, pairwise = 0, gap = 0;  // with the quadratic relaxation the optimum is at most `gap` below their sum
  int sweeps = 0;
  bool converged = false;
  Failure failure = Failure::kNone;

  double energy() const { return link + pairwise; }
};

// Reusable: buffers are kept for the next image.
template <int D, SoftLink Link>
class SoftPlanes {
 public:
  // From the planes of the image; the distributions are the softmax of the scores, one-hot at seeds.
  WEAKSEG_INLINED Failure read(const SoftPottsProblem& problem) {
    problem_ = &problem;
    labels_ = static_cast<std::size_t>(problem.num_labels);
    grid = PhasedGrid(problem.height, problem.width);
    const std::size_t pixels = problem_->pixels(), cells = kPhases * grid.size;
    const auto copy = [](float value) { return value; };
    edges_.assign(D / 2 * cells, 0.0F);
    sigma_.assign(labels_ * cells, 0.0F);
    free.assign(cells, 0.0F);
    for (std::size_t e = 0; e < D / 2; ++e) to_phases(grid, problem_->edges + e * pixels, &edges_[e * cells], copy);
    for (std::size_t k = 0; k < labels_; ++k) to_phases(grid, problem_->planes[k], &sigma_[k * cells], copy);
    to_phases(grid, problem_->valid, free.data(), [](std::uint8_t valid) { return valid != 0 ? 1.0F : 0.0F; });
    y.assign(labels_ * cells, 0.0F);
    if (!take_softmax()) return Failure::kScores;
    take_seeds();
    return std::isfinite(mean_weight()) ? Failure::kNone : Failure::kEdges;
  }

  // Of a label, or of an edge, in a phase.
  float* distribution(std::size_t k, std::size_t phase) { return y.data() + (k * kPhases + phase) * grid.size; }
  const float* output(std::size_t k, std::size_t phase) const {
    return sigma_.data() + (k * kPhases + phase) * grid.size;
  }
  const float* edges(std::size_t plane, std::size_t phase) const {
    return edges_.data() + (plane * kPhases + phase) * grid.size;
  }

  // To the planes of the image.
  void write(const std::vector<float*>& planes) const {
    for (std::size_t k = 0; k < labels_; ++k) from_phases(grid, &y[k * kPhases * grid.size], planes[k]);
  }

  // Of the edges that meet in a pixel, together.
  double mean_weight() const {
    const double sum = std::accumulate(edges_.begin(), edges_.end(), 0.0);
    return 2 * sum / static_cast<double>(std::max<std::size_t>(problem_->pixels(), 1));
  }

  PhasedGrid grid;
  std::vector<float> y, free;  // distributions; 1 where a pixel is neither a seed nor padding

 private:
  // Writes the softmax of the scores, 0 on padding, to y, and replaces the scores by it, or by its logarithm for the
  // cross-entropy. False if one is not finite.
  WEAKSEG_INLINED bool take_softmax() {
    const std::size_t cells = kPhases * grid.size;
    Cells wrong{};
    for (std::size_t first = 0; first < cells; first += kCells) {
      float* scores = sigma_.data() + first;
      const float* valid = free.data() + first;
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
        std::copy_n(power.begin(), kCells, y.data() + first + k * cells);
      }
      Cells logarithm;
      each_cell([&](std::size_t x) WEAKSEG_INLINED { logarithm[x] = best[x] + std::log(sum[x]); });
      for (std::size_t k = 0; k < labels_; ++k) {
        float* start = y.data() + first + k * cells;
        Cells fraction, output;
        each_cell([&](std::size_t x) WEAKSEG_INLINED {
          fraction[x] = start[x] * valid[x] / sum[x];
          const bool logarithms = Link == SoftLink::kCrossEntropy;
          output[x] = logarithms ? valid[x] * (scores[k * cells + x] - logarithm[x]) : fraction[x];
        });
        std::copy_n(fraction.begin(), kCells, start);
        std::copy_n(output.begin(), kCells, scores + k * cells);
      }
    }
    return std::all_of(wrong.begin(), wrong.end(), [](float value) { return value == 0; });
  }

  // Fixes the distributions of the seeds.
  void take_seeds() {
    const std::size_t cells = kPhases * grid.size;
    seeds_.assign(cells, static_cast<float>(kVoid));
    to_phases(grid, problem_->seeds, seeds_.data(), [](std::uint8_t seed) { return static_cast<float>(seed); });
    for (std::size_t cell = 0; cell < cells; ++cell) {
      if (free[cell] == 0 || seeds_[cell] == static_cast<float>(kVoid)) continue;
      free[cell] = 0;
      for (std::size_t k = 0; k < labels_; ++k) {
        y[k * cells + cell] = seeds_[cell] == static_cast<float>(k) ? 1.0F : 0.0F;
      }
    }
  }

  const SoftPottsProblem* problem_ = nullptr;
  std::size_t labels_ = 0;
  std::vector<float> sigma_, edges_, seeds_;
};

}  // namespace weakseg
