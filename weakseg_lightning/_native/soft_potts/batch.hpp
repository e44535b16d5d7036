// Soft labelings of a batch of images, each with its own set of labels.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "potts/expansion_batch.hpp"
#include "soft_potts/solver.hpp"
#include "support/batch_scheduler.hpp"
#include "support/object_pool.hpp"

namespace weakseg {

// Answers of all images; those of an image that fails stay as they are, except for its status.
struct SoftPottsAnswers {
  float* probabilities = nullptr;  // (images, classes, pixels)
  std::size_t classes = 0;
  double* energies = nullptr;      // (images, 3): link, pairwise, gap
  std::int32_t* status = nullptr;  // (images, 3): sweeps, converged, failure
};

template <int D, SoftLink Link>
class SoftPottsWorker {
 public:
  SoftPottsWorker(const ExpansionBatch& batch, const SoftPottsProblem& settings, const SoftPottsAnswers& answers)
      : batch_(batch), problem_(settings), answers_(answers) {}

  void operator()(std::size_t b) {
    const std::size_t pixels = batch_.pixels();
    const std::uint8_t* names = batch_.read<D>(b, problem_, seeds_);
    if (problem_.num_labels == 0) return;
    std::vector<float*> planes;
    for (int k = 0; k < problem_.num_labels; ++k) {
      planes.push_back(answers_.probabilities + (b * answers_.classes + names[k]) * pixels);
    }
    const SoftPottsResult result = solver_->run(problem_, planes);
    answers_.status[3 * b + 2] = static_cast<std::int32_t>(result.failure);
    if (result.failure != Failure::kNone) return;
    const std::array<double, 3> energies = {result.link, result.pairwise, result.gap};
    std::copy(energies.begin(), energies.end(), answers_.energies + 3 * b);
    answers_.status[3 * b] = result.sweeps;
    answers_.status[3 * b + 1] = result.converged ? 1 : 0;
  }

 private:
  const ExpansionBatch& batch_;
  SoftPottsProblem problem_;
  const SoftPottsAnswers& answers_;
  Pooled<SoftPotts<D, Link>> solver_;
  std::vector<std::uint8_t> seeds_;
};

template <int D, SoftLink Link>
void solve_soft_potts(const ExpansionBatch& batch, const SoftPottsProblem& settings, const SoftPottsAnswers& answers,
                      std::size_t num_threads) {
  parallel_for_hardest_first(
      batch.images, num_threads, [&](std::size_t b) { return static_cast<std::size_t>(batch.num_labels[b]); },
      [&] { return SoftPottsWorker<D, Link>(batch, settings, answers); });
}

template <int D>
void solve_soft_potts(SoftLink link, const ExpansionBatch& batch, const SoftPottsProblem& settings,
                      const SoftPottsAnswers& answers, std::size_t num_threads) {
  switch (link) {
    case SoftLink::kCollision: return solve_soft_potts<D, SoftLink::kCollision>(batch, settings, answers, num_threads);
    case SoftLink::kCrossEntropy:
      return solve_soft_potts<D, SoftLink::kCrossEntropy>(batch, settings, answers, num_threads);
    case SoftLink::kReverse: return solve_soft_potts<D, SoftLink::kReverse>(batch, settings, answers, num_threads);
  }
}

}  // namespace weakseg
