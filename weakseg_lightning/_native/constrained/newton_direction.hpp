// Ascent directions of projected Newton's method on the dual of linear constraints on label distributions.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

#include "constrained/box_quadratic.hpp"

namespace weakseg {

// The dual of one image with its derivatives at a point. The Python class `Dual` defines all but the derivatives.
struct DualPoint {
  std::size_t size = 0;
  const double *target = nullptr, *least = nullptr, *span = nullptr, *upper = nullptr;
  double softness = 1;
  const double *point = nullptr, *gradient = nullptr, *hessian = nullptr;
};

class NewtonDirection {
 public:
  // Writes a step that stays in the box; returns the slope along it. A dual variable moves by at most kReach times what
  // its row would need by itself, plus the margin: beyond that the quadratic model says nothing.
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

  // Measures the distance of a row from its bound in log odds of the fraction that it has reached. If all pixels are
  // alike, these are linear in the dual variable, so that Newton's method needs one step. With fractions themselves its
  // step is 5000 times too long where a class has probability 1e-6 and should have 0.05. Near the bound the two agree.
  // Writes what takes the gradient's place; returns by how much the dual variable would move if all pixels were alike.
  double straighten(const DualPoint& dual, std::size_t c) {
    const double gradient = dual.gradient[c], span = dual.span[c] > 0 ? dual.span[c] : 1;
    const double reached = clamp((dual.target[c] - gradient - dual.least[c]) / span, 1e-15);
    const double target = clamp((dual.target[c] - dual.least[c]) / span, 1e-6);
    const double odds = std::log(target * (1 - reached) / (reached * (1 - target)));
    const double straight = span * reached * (1 - reached) * odds;
    straight_[c] = straight * gradient > 0 && dual.span[c] > 0 ? straight : gradient;
    return std::abs(odds) / span / dual.softness;
  }

  // For the rare case that a straightened gradient does not lead upwards. The last resort is a projected gradient step.
  double find_without_straightening(const DualPoint& dual, QuadraticProblem problem, double* step) {
    problem.gradient = dual.gradient;
    quadratic_.solve(problem, step);
    if (rise(dual, step) > 0) return rise(dual, step);
    for (std::size_t c = 0; c < dual.size; ++c) step[c] = std::min(std::max(dual.gradient[c], lower_[c]), upper_[c]);
    return rise(dual, step);
  }

  static double clamp(double fraction, double margin) { return std::min(std::max(fraction, margin), 1 - margin); }

  static double rise(const DualPoint& dual, const double* step) {
    double sum = 0;
    for (std::size_t c = 0; c < dual.size; ++c) sum += step[c] * dual.gradient[c];
    return sum;
  }

  BoxQuadratic quadratic_;
  std::vector<double> straight_, lower_, upper_;
};

}  // namespace weakseg
