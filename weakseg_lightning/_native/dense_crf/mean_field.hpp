// Mean field in a fully connected conditional random field with Gaussian edges.
//   P. Krähenbühl, V. Koltun, "Efficient Inference in Fully Connected CRFs with Gaussian Edge Potentials", NIPS 2011,
//   algorithm 1.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "dense_crf/lattice_filter.hpp"
#include "support/exponential.hpp"
#include "support/labels.hpp"

namespace weakseg {

// One of the Gaussians: its lattice, and the factors before and after it, which normalize and weight its messages.
struct MeanFieldKernel {
  LatticeTables lattice;
  const float *before = nullptr, *after = nullptr;  // one number per pixel
};

struct MeanFieldProblem {
  std::size_t pixels = 0, classes = 0;
  const float* scores = nullptr;  // minus the unary energies, one plane per class
  std::size_t iterations = 0;
  const MeanFieldKernel* kernels = nullptr;
  std::size_t num_kernels = 0;
  bool watched = false;                   // whether to count changes
  const std::uint8_t* initial = nullptr;  // the class that a pixel starts in; kVoid: the softmax of its scores
};

// Classes are computed kLanes at a time, in V vectors, so that a compiler can keep them in registers. V = 0 stands for
// a number known only at run time.
template <std::size_t V>
class MeanField {
 public:
  // Writes the probabilities, one plane per class; returns how many best classes the last iteration changed.
  std::size_t run(const MeanFieldProblem& problem, float* probabilities) {
    problem_ = &problem;
    vectors_ = V > 0 ? V : (problem.classes + kLanes - 1) / kLanes;
    gather_scores();
    best_.assign(problem.pixels, 0);
    for (auto* values : {&now_, &next_}) values->resize(problem.num_kernels, Values(vectors_));
    chains_.resize(problem.num_kernels);
    for (std::size_t k = 0; k < problem.num_kernels; ++k) chains_[k].find(problem.kernels[k].lattice);
    for (std::size_t i = 0; i <= problem.iterations; ++i) {
      const bool first = i == 0, last = i == problem.iterations;
      const bool watched = problem.watched && i + 1 >= problem.iterations;
      for (std::size_t k = 0; !last && k < problem.num_kernels; ++k) next_[k].clear(problem.kernels[k].lattice);
      changed_ = 0;
      vectorized([&]() WEAKSEG_INLINED { pass(first, watched, last ? probabilities : nullptr); });
      now_.swap(next_);
    }
    return changed_;
  }

 private:
  using Values = LatticeValues<V>;
  static constexpr std::size_t kMostVectors = V > 0 ? V : 32, kAhead = 4;
  static constexpr float kNever = -1e30F;  // the score of lanes beyond the last class
  static constexpr float kFaint = 1e-18F;  // relative to the best class; denormal products would be many times slower

  std::size_t vectors() const { return V > 0 ? V : vectors_; }

  // Transposes planes into rows, one per pixel. Plane by plane, all rows would pass through the cache once per class;
  // in chunks of pixels they do so once.
  void gather_scores() {
    constexpr std::size_t kChunk = 64;
    const std::size_t stride = vectors() * kLanes;
    scores_.resize(problem_->pixels * vectors());
    for (std::size_t first = 0; first < problem_->pixels; first += kChunk) {
      const std::size_t count = std::min(kChunk, problem_->pixels - first);
      float* rows = scores_.data() + first * stride;
      for (std::size_t k = 0; k < problem_->classes; ++k) {
        const float* plane = problem_->scores + k * problem_->pixels + first;
        for (std::size_t p = 0; p < count; ++p) rows[p * stride + k] = plane[p];
      }
      for (std::size_t k = problem_->classes; k < stride; ++k) {
        for (std::size_t p = 0; p < count; ++p) rows[p * stride + k] = kNever;
      }
    }
  }

  // Receives the messages to each pixel, normalizes its distribution, and sends the messages of the next iteration.
  // Each distribution is used while it is in registers, and never stored.
  WEAKSEG_INLINED void pass(bool first, bool watched, float* probabilities) {
    std::array<Lanes, kMostVectors> row;
    for (std::size_t p = 0; p < problem_->pixels; ++p) {
      for (std::size_t k = 0; k < problem_->num_kernels; ++k) {
        if (!first) now_[k].prepare(p + kAhead);
        if (probabilities == nullptr) next_[k].prepare(p + kAhead);
      }
      for (std::size_t v = 0; v < vectors(); ++v) load(row[v], scores_.data() + (p * vectors() + v) * kLanes);
      for (std::size_t k = 0; !first && k < problem_->num_kernels; ++k) receive(k, p, row.data());
      if (first) start(p, row.data());
      normalize(row.data());
      if (watched) watch(p, row.data());
      if (probabilities != nullptr) {
        write(p, row.data(), probabilities);
      } else {
        for (std::size_t k = 0; k < problem_->num_kernels; ++k) send(k, p, row.data());
      }
    }
    if (probabilities != nullptr) return;
    for (std::size_t k = 0; k < problem_->num_kernels; ++k) next_[k].blur(Blur::kForward, chains_[k]);
  }

  WEAKSEG_INLINED void receive(std::size_t k, std::size_t p, Lanes* row) const {
    std::array<Lanes, kMostVectors> message;
    now_[k].slice(p, message.data());
    const float factor = problem_->kernels[k].after[p];
    for (std::size_t v = 0; v < vectors(); ++v) row[v] += message[v] * factor;
  }

  WEAKSEG_INLINED void send(std::size_t k, std::size_t p, const Lanes* row) {
    std::array<Lanes, kMostVectors> message;
    const float factor = problem_->kernels[k].before[p];
    for (std::size_t v = 0; v < vectors(); ++v) message[v] = row[v] * factor;
    next_[k].splat(p, message.data());
  }

  WEAKSEG_INLINED void start(std::size_t p, Lanes* row) const {
    const std::uint8_t initial = problem_->initial[p];
    if (initial == kVoid) return;
    for (std::size_t v = 0; v < vectors(); ++v) row[v] = Lanes{} + kNever;
    row[initial / kLanes][initial % kLanes] = 0;
  }

  WEAKSEG_INLINED void normalize(Lanes* row) const {
    Lanes most = row[0], sum{};
    for (std::size_t v = 1; v < vectors(); ++v) keep_greater(most, row[v]);
    const float greatest = greatest_of(most);
    for (std::size_t v = 0; v < vectors(); ++v) {
      row[v] = row[v] - greatest;
      exp_of_negative(row[v]);
      drop_below(row[v], kFaint);
      sum += row[v];
    }
    const float factor = 1.0F / sum_of(sum);
    for (std::size_t v = 0; v < vectors(); ++v) row[v] = row[v] * factor;
  }

  WEAKSEG_INLINED void watch(std::size_t p, const Lanes* row) {
    std::array<float, kMostVectors * kLanes> values;
    for (std::size_t v = 0; v < vectors(); ++v) store(row[v], values.data() + v * kLanes);
    std::size_t best = 0;
    for (std::size_t k = 1; k < problem_->classes; ++k) best = values[k] > values[best] ? k : best;
    changed_ += best_[p] != best;
    best_[p] = static_cast<std::uint8_t>(best);
  }

  WEAKSEG_INLINED void write(std::size_t p, const Lanes* row, float* probabilities) const {
    std::array<float, kMostVectors * kLanes> values;
    for (std::size_t v = 0; v < vectors(); ++v) store(row[v], values.data() + v * kLanes);
    for (std::size_t k = 0; k < problem_->classes; ++k) probabilities[k * problem_->pixels + p] = values[k];
  }

  const MeanFieldProblem* problem_ = nullptr;
  std::size_t vectors_ = V, changed_ = 0;
  AlignedFloats scores_;
  std::vector<std::uint8_t> best_;
  std::vector<Values> now_, next_;
  std::vector<LatticeChains> chains_;
};

}  // namespace weakseg
