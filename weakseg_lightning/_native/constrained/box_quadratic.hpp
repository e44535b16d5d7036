// Concave quadratic programs in a box, by block principal pivoting.
//   J. Júdice, F. Pires, "A Block Principal Pivoting Algorithm for Large-Scale Strictly Monotone Linear Complementarity
//   Problems", Computers & Operations Research 1994.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <utility>
#include <vector>

namespace weakseg {

struct QuadraticProblem {
  std::size_t size = 0;
  const double* gradient = nullptr;
  const double* hessian = nullptr;  // positive semidefinite, row by row
  const double *lower = nullptr, *upper = nullptr;
};

// Maximises gradient d - d hessian d / 2 in the box. The state of a row tells whether it is free: if it lies in the
// box, the row is, else the row is fixed at the bound that its state lies beyond.
class BoxQuadratic {
 public:
  void solve(const QuadraticProblem& problem, double* step) {
    begin(problem);
    for (std::size_t round = 0; round < kRounds + size_; ++round) {
      fix_and_solve();
      look_ahead();
      if (changed_.empty()) break;
      // Letting all rows change sides at once takes few rounds but may cycle; one at a time, always the last, cannot.
      if (improves()) state_ = ahead_;
      else state_[changed_.back()] = ahead_[changed_.back()];
    }
    for (std::size_t i = 0; i < size_; ++i) step[i] = within(i, step_[i]);
  }

 private:
  static constexpr std::size_t kRounds = 30;
  static constexpr int kPatience = 3;
  static constexpr double kRidge = 1e-9;

  double within(std::size_t i, double value) const {
    return std::min(std::max(value, problem_.lower[i]), problem_.upper[i]);
  }
  const double* row(std::size_t i) const { return matrix_.data() + i * size_; }

  // Whether fewer rows are about to change sides than ever before, or were a few rounds ago.
  bool improves() {
    if (changed_.size() < fewest_) {
      fewest_ = changed_.size();
      patience_ = kPatience;
      return true;
    }
    return patience_-- > 0;
  }

  // Adds a ridge to the matrix, which may be singular: opposite rows, or rows without curvature. Fixes the rows that
  // start at a bound and that their own slope pushes beyond it.
  void begin(const QuadraticProblem& problem) {
    problem_ = problem;
    size_ = problem.size;
    fewest_ = size_ + 1;
    patience_ = kPatience;
    matrix_.assign(problem.hessian, problem.hessian + size_ * size_);
    double largest = 0;
    for (std::size_t i = 0; i < size_; ++i) largest = std::max(largest, row(i)[i]);
    for (auto* numbers : {&state_, &step_, &ahead_}) numbers->assign(size_, 0.0);
    for (std::size_t i = 0; i < size_; ++i) {
      matrix_[i * size_ + i] += kRidge * largest + 1e-30;
      const double slope = problem.gradient[i];
      const bool stuck = (problem.lower[i] >= 0 && slope <= 0) || (problem.upper[i] <= 0 && slope >= 0);
      if (stuck) state_[i] = slope / row(i)[i];
    }
  }

  // Finds the best step of the free rows while the others stay at their bounds.
  void fix_and_solve() {
    free_.clear();
    for (std::size_t i = 0; i < size_; ++i) {
      step_[i] = within(i, state_[i]);
      if (step_[i] == state_[i]) free_.push_back(i);
    }
    const std::size_t count = free_.size(), stride = count + 1;
    system_.resize(count * stride);
    is_free_.assign(size_, 0);
    for (const std::size_t i : free_) is_free_[i] = 1;
    for (std::size_t a = 0; a < count; ++a) {
      double known = problem_.gradient[free_[a]];
      for (std::size_t j = 0; j < size_; ++j) known -= is_free_[j] ? 0.0 : row(free_[a])[j] * step_[j];
      for (std::size_t b = 0; b < count; ++b) system_[a * stride + b] = row(free_[a])[free_[b]];
      system_[a * stride + count] = known;
    }
    eliminate(count);
    for (std::size_t a = 0; a < count; ++a) step_[free_[a]] = system_[a * stride + count];
  }

  // Gaussian elimination, whose solution takes the place of the last column. It pivots because rounding may make a
  // Hessian indefinite whose sums are in single precision; Cholesky would fail then.
  void eliminate(std::size_t count) {
    const std::size_t stride = count + 1;
    const auto at = [&](std::size_t a) { return system_.data() + a * stride; };
    for (std::size_t a = 0; a < count; ++a) {
      std::size_t pivot = a;
      for (std::size_t b = a + 1; b < count; ++b) {
        if (std::abs(at(b)[a]) > std::abs(at(pivot)[a])) pivot = b;
      }
      if (pivot != a) std::swap_ranges(at(a), at(a) + stride, at(pivot));
      for (std::size_t b = a + 1; b < count; ++b) {
        const double factor = at(b)[a] / at(a)[a];
        if (factor == 0) continue;
        for (std::size_t c = a + 1; c < stride; ++c) at(b)[c] -= factor * at(a)[c];
      }
    }
    for (std::size_t a = count; a-- > 0;) {
      double known = at(a)[count];
      for (std::size_t b = a + 1; b < count; ++b) known -= at(a)[b] * at(b)[count];
      at(a)[count] = known / at(a)[a];
    }
  }

  // Finds the next state of each row: a free one's step, and for a fixed one where its slope pulls it. Lists the rows
  // that would change from free to fixed or back.
  void look_ahead() {
    changed_.clear();
    for (std::size_t i = 0; i < size_; ++i) {
      ahead_[i] = step_[i];
      if (!is_free_[i]) {
        double pull = problem_.gradient[i];
        for (std::size_t j = 0; j < size_; ++j) pull -= row(i)[j] * step_[j];
        ahead_[i] += pull / row(i)[i];
      }
      const bool changes = is_free_[i] ? within(i, ahead_[i]) != ahead_[i] : within(i, ahead_[i]) != step_[i];
      if (changes) changed_.push_back(i);
    }
  }

  QuadraticProblem problem_;
  std::size_t size_ = 0, fewest_ = 0;
  int patience_ = 0;
  std::vector<double> matrix_, state_, step_, ahead_, system_;
  std::vector<std::size_t> free_, changed_;
  std::vector<char> is_free_;
};

}  // namespace weakseg
