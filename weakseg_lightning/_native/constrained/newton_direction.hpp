// Ascent directions of projected Newton's method on the dual of linear constraints on label distributions.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

#include "constrained/box_quadratic.hpp"

namespace weakseg {

// The dual of one image, as `Dual` defines its rows, and its slopes at a point.
struct DualPoint {
  std::size_t size = 0;
  const double *target = nullptr, *least = nullptr, *span = nullptr, *upper = nullptr;
  double softness = 1;
  const double *point = nullptr, *gradient = nullptr, *hessian = nullptr;
};

class NewtonDirection {
 public:
  // Writes a step that stays in the box; returns the slope along it. A row's dual moves at most kReach times what it
  // would take by itself, plus the margin.
  double find(const DualPoint& dual, double margin, double* step) {
    straight_.resize(dual.size), lower_.resize(dual.size), upper_.resize(dual.size);
    for (std::size_t c = 0; c < dual.size; ++c) {
      const double radius = kReach * straighten(dual, c) + margin / dual.softness;
      lower_[c] = std::max(-dual.point[c], -radius);
      upper_[c] = std::min(dual.upper[c] - dual.point[c], radius);
    }
    const QuadraticProblem problem{dual.size, straight_.data(), dual.hessian, lower_.data(), upper_.data()};
    quadratic_.solve(problem, step);
    if (rise(dual, step) > 0) return rise(dual, step);
    return find_without_straightening(dual, problem, step);
  }

 private:
  static constexpr double kReach = 3;

  // Measures how far a row is from its bound in log odds, which a dual changes evenly where pixels are alike. Where a
  // class has probability 1e-6 and is to have 0.05, Newton's step is 5000 times too long; with log odds in place of
  // shares it is right if all pixels are alike, and the same as Newton's near the bound. Writes what takes the
  // gradient's place; returns the dual that the row by itself would take if all pixels were alike.
  double straighten(const DualPoint& dual, std::size_t c) {
    const double gradient = dual.gradient[c], span = dual.span[c] > 0 ? dual.span[c] : 1;
    const double reached = clamp((dual.target[c] - gradient - dual.least[c]) / span, 1e-15);
    const double wanted = clamp((dual.target[c] - dual.least[c]) / span, 1e-6);
    const double odds = std::log(wanted * (1 - reached) / (reached * (1 - wanted)));
    const double straight = span * reached * (1 - reached) * odds;
    straight_[c] = straight * gradient > 0 && dual.span[c] > 0 ? straight : gradient;
    return std::abs(odds) / span / dual.softness;
  }

  double find_without_straightening(const DualPoint& dual, QuadraticProblem problem, double* step) {
    problem.gradient = dual.gradient;
    quadratic_.solve(problem, step);
    if (rise(dual, step) > 0) return rise(dual, step);
    for (std::size_t c = 0; c < dual.size; ++c) step[c] = std::min(std::max(dual.gradient[c], lower_[c]), upper_[c]);
    return rise(dual, step);
  }

  static double clamp(double share, double margin) { return std::min(std::max(share, margin), 1 - margin); }

  static double rise(const DualPoint& dual, const double* step) {
    double sum = 0;
    for (std::size_t c = 0; c < dual.size; ++c) sum += step[c] * dual.gradient[c];
    return sum;
  }

  BoxQuadratic quadratic_;
  std::vector<double> straight_, lower_, upper_;
};

}  // namespace weakseg
