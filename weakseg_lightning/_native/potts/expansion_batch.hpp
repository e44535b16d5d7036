// alpha-expansion on a batch of images, each with its own set of labels.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include "potts/alpha_expansion.hpp"
#include "support/batch_scheduler.hpp"
#include "support/labels.hpp"
#include "support/object_pool.hpp"

namespace weakseg {

// Replaces each class by its position among the labels of an image, and by kVoid where it is not one of them.
inline const std::uint8_t* positions_of(const std::uint8_t* classes, std::size_t pixels, const std::uint8_t* names,
                                        int num_labels, std::vector<std::uint8_t>& out) {
  std::array<std::uint8_t, 256> position;
  position.fill(kVoid);
  for (int k = 0; k < num_labels; ++k) position[names[k]] = static_cast<std::uint8_t>(k);
  position[kVoid] = kVoid;
  out.resize(pixels);
  std::size_t i = 0;
  for (; i + 8 <= out.size(); i += 8) {
    std::uint64_t eight;
    std::memcpy(&eight, classes + i, sizeof eight);
    if (eight == ~std::uint64_t{0}) {  // all void, as most are
      std::memcpy(out.data() + i, &eight, sizeof eight);
    } else {
      for (std::size_t j = i; j < i + 8; ++j) out[j] = position[classes[j]];
    }
  }
  for (; i < out.size(); ++i) out[i] = position[classes[i]];
  return out.data();
}

// Images or volumes of one size, one after the other in each array. Image b has num_labels[b] labels; their score planes and the
// classes that they stand for start at first[b] of `planes` and `names`. Seeds and initial labels are classes.
struct ExpansionBatch {
  std::size_t images = 0;
  int height = 0, width = 0;
  int slice = 0;  // rows of each slice, if they are volumes
  double slope = 1;
  int max_sweeps = 5;
  bool from_blocks = false;
  std::vector<std::size_t> first;
  std::vector<const float*> planes;
  const std::int32_t* num_labels = nullptr;
  const std::uint8_t* names = nullptr;
  const std::uint8_t *seeds = nullptr, *valid = nullptr, *initial = nullptr;
  const float *zero = nullptr, *edges = nullptr;
  // Answers. Those of an image without labels, or of one that fails (except for the failure itself), stay as they are.
  std::uint8_t* labels = nullptr;
  double* energies = nullptr;      // (images, 3): unary, pairwise, lower bound or NaN
  std::int32_t* status = nullptr;  // (images, 3): sweeps, converged, failure

  std::size_t pixels() const { return static_cast<std::size_t>(height) * static_cast<std::size_t>(width); }

  // Describes image b with D neighbors per pixel; its seeds are put into a buffer. Returns the classes of its labels.
  template <int D>
  const std::uint8_t* read(std::size_t b, PottsProblem& problem, std::vector<std::uint8_t>& seed_labels) const {
    const std::uint8_t* classes = names + first[b];
    problem.height = height;
    problem.width = width;
    problem.slice = slice;
    problem.num_labels = num_labels[b];
    problem.planes = planes.data() + first[b];
    problem.edges = edges + b * pixels() * static_cast<std::size_t>(D / 2);
    problem.valid = valid + b * pixels();
    problem.seeds = positions_of(seeds + b * pixels(), pixels(), classes, problem.num_labels, seed_labels);
    return classes;
  }
};

template <int D>
class ExpansionWorker {
 public:
  explicit ExpansionWorker(const ExpansionBatch& batch) : batch_(batch) {
    problem_.slope = batch.slope;
    problem_.max_sweeps = batch.max_sweeps;
    problem_.from_blocks = batch.from_blocks;
  }

  void operator()(std::size_t b) {
    const std::size_t pixels = batch_.pixels();
    const std::uint8_t* names = batch_.read<D>(b, problem_, seeds_);
    if (problem_.num_labels == 0) return;
    problem_.zero = batch_.zero + b * pixels;
    problem_.initial = positions_of(batch_.initial + b * pixels, pixels, names, problem_.num_labels, initial_);
    std::uint8_t* labels = batch_.labels + b * pixels;
    const ExpansionResult result = solver_->run(problem_, labels);
    batch_.status[3 * b + 2] = static_cast<std::int32_t>(result.failure);
    if (result.failure != Failure::kNone) return;
    to_classes(labels, names);
    batch_.energies[3 * b] = result.unary;
    batch_.energies[3 * b + 1] = result.pairwise;
    batch_.energies[3 * b + 2] = result.has_bound ? result.lower_bound : std::numeric_limits<double>::quiet_NaN();
    batch_.status[3 * b] = result.sweeps;
    batch_.status[3 * b + 1] = result.converged ? 1 : 0;
  }

 private:
  void to_classes(std::uint8_t* labels, const std::uint8_t* names) const {
    bool renamed = false;
    for (int k = 0; k < problem_.num_labels; ++k) renamed |= names[k] != k;
    for (std::size_t i = 0; renamed && i < batch_.pixels(); ++i) {
      if (labels[i] != kVoid) labels[i] = names[labels[i]];
    }
  }

  const ExpansionBatch& batch_;
  ExpansionProblem problem_;
  Pooled<AlphaExpansion<D>> solver_;
  std::vector<std::uint8_t> seeds_, initial_;
};

// Estimates the time that an image takes: how often the best label changes along every fourth row, times the number of
// labels, since each of them makes a move.
inline std::size_t difficulty(const ExpansionBatch& batch, std::size_t b) {
  const auto width = static_cast<std::size_t>(batch.width);
  const float sign = batch.slope < 0 ? 1.0F : -1.0F;
  std::vector<float> best(width);
  std::vector<std::int32_t> label(width);
  std::size_t changes = 0;
  for (std::size_t row = 0; row < batch.pixels(); row += 4 * width) {
    std::fill(best.begin(), best.end(), std::numeric_limits<float>::lowest());
    for (std::int32_t k = 0; k < batch.num_labels[b]; ++k) {
      const float* scores = batch.planes[batch.first[b] + static_cast<std::size_t>(k)] + row;
      for (std::size_t x = 0; x < width; ++x) {
        const bool better = sign * scores[x] > best[x];
        best[x] = better ? sign * scores[x] : best[x];
        label[x] = better ? k : label[x];
      }
    }
    for (std::size_t x = 1; x < width; ++x) changes += label[x] != label[x - 1];
  }
  return changes * static_cast<std::size_t>(batch.num_labels[b]);
}

template <int D>
void expand(const ExpansionBatch& batch, std::size_t num_threads) {
  parallel_for_hardest_first(
      batch.images, num_threads, [&](std::size_t b) { return difficulty(batch, b); },
      [&] { return ExpansionWorker<D>(batch); });
}

}  // namespace weakseg
