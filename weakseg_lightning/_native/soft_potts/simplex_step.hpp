// The distribution of one pixel that balances a link to the network's output against a center, for many pixels at once:
//
//     minimize over the simplex  ratio * H(y, sigma) + |y - center|^2 / 2.
//
// All three links H make this convex. Written for cells: arrays of kCells pixels, so that all loops vectorize.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <vector>

#include "soft_potts/phased_grid.hpp"
#include "support/intrinsics.hpp"

namespace weakseg {

enum class SoftLink : int { kCollision = 0, kCrossEntropy = 1, kReverse = 2 };

using Cells = std::array<float, kCells>;

template <class Work>
WEAKSEG_INLINED inline void each_cell(const Work& work) {
  for (std::size_t x = 0; x < kCells; ++x) work(x);
}

WEAKSEG_INLINED inline float greatest_of(const Cells& cells) {
  float greatest = cells[0];
  for (const float value : cells) greatest = std::max(greatest, value);
  return greatest;
}

template <SoftLink Link>
class SimplexStep {
 public:
  void resize(std::size_t labels) {
    center.resize(labels);
    output.resize(labels);
    point.resize(labels);
    active_.resize(labels);
  }

  // Only cells with a 1 in `counted` have to be solved. `output` is sigma, its logarithm for the cross-entropy. `point`
  // holds a guess whose positive classes are taken for those of the solution, and then the solution.
  std::vector<Cells> center, output, point;
  Cells ratio, counted;

  WEAKSEG_INLINED void solve() {
    if constexpr (Link == SoftLink::kReverse) {
      solve_reverse();
    } else {
      solve_on_faces();
    }
  }

 private:
  static constexpr int kPasses = 40;  // two or three are the rule

  // For the collision and the cross-entropy the solution is the projection of center + t * output onto the simplex:
  // max(0, center + t output - theta). With the cross-entropy t is the ratio; with the collision t (sigma . y) is, which
  // is a quadratic equation for t once it is known which classes are positive. They are found by Newton's method.
  WEAKSEG_INLINED void solve_on_faces() {
    const std::size_t labels = point.size();
    for (std::size_t k = 0; k < labels; ++k) {
      Cells now;
      each_cell([&](std::size_t x) WEAKSEG_INLINED { now[x] = point[k][x] > 0 ? 1.0F : 0.0F; });
      active_[k] = now;
    }
    for (int pass = 0; pass < kPasses; ++pass) {
      find_shift();
      Cells changes{};
      for (std::size_t k = 0; k < labels; ++k) {
        Cells value, now;
        each_cell([&](std::size_t x) WEAKSEG_INLINED {
          value[x] = center[k][x] + factor_[x] * output[k][x] - theta_[x];
          now[x] = value[x] > 0 ? 1.0F : 0.0F;
          value[x] = value[x] > 0 ? value[x] : 0.0F;
          changes[x] += counted[x] * std::abs(now[x] - active_[k][x]);
        });
        active_[k] = now;
        point[k] = value;
      }
      if (greatest_of(changes) == 0) break;
    }
    normalize();
  }

  WEAKSEG_INLINED void find_shift() {
    Cells count{}, centers{}, outputs{}, squares{}, products{};
    for (std::size_t k = 0; k < point.size(); ++k) {
      each_cell([&](std::size_t x) WEAKSEG_INLINED {
        const float a = active_[k][x], m = a * center[k][x], s = a * output[k][x];
        count[x] += a;
        centers[x] += m;
        outputs[x] += s;
        squares[x] += s * output[k][x];
        products[x] += s * center[k][x];
      });
    }
    Cells factor, theta;
    each_cell([&](std::size_t x) WEAKSEG_INLINED {
      const float n = count[x] > 0 ? count[x] : 1.0F;
      float t = ratio[x];
      if constexpr (Link == SoftLink::kCollision) {
        const float slope = products[x] - outputs[x] * (centers[x] - 1) / n;
        const float bend = std::max(squares[x] - outputs[x] * outputs[x] / n, 0.0F);
        const float root = std::sqrt(slope * slope + 4 * bend * ratio[x]);
        // for slope < 0 the other form of the root, in which nothing cancels
        t = slope > 0 ? 2 * ratio[x] / std::max(slope + root, 1e-30F) : (root - slope) / std::max(2 * bend, 1e-30F);
      }
      factor[x] = t;
      theta[x] = (centers[x] + t * outputs[x] - 1) / n;
    });
    factor_ = factor, theta_ = theta;
  }

  // y_k = (b + sqrt(b^2 + 4 ratio sigma_k)) / 2 with b = center_k - theta. Their sum is convex and falls with theta, so
  // that Newton's method goes up to the root from where the sum is at least 1.
  WEAKSEG_INLINED void solve_reverse() {
    const std::size_t labels = point.size();
    Cells theta;
    theta.fill(-1e30F);
    for (std::size_t k = 0; k < labels; ++k) {
      each_cell([&](std::size_t x) WEAKSEG_INLINED {
        theta[x] = std::max(theta[x], center[k][x] + ratio[x] * output[k][x] - 1);
      });
    }
    for (int pass = 0; pass < kPasses; ++pass) {
      Cells sum{}, slope{};
      for (std::size_t k = 0; k < labels; ++k) {
        Cells y;
        each_cell([&](std::size_t x) WEAKSEG_INLINED {
          const float b = center[k][x] - theta[x], area = 4 * ratio[x] * output[k][x];
          const float root = std::sqrt(b * b + area);
          // for b < 0 the other form of the root, in which nothing cancels
          y[x] = b > 0 ? (b + root) / 2 : area / std::max(2 * (root - b), 1e-30F);
          sum[x] += y[x];
          slope[x] += y[x] / std::max(root, 1e-30F);
        });
        point[k] = y;
      }
      Cells excess;
      each_cell([&](std::size_t x) WEAKSEG_INLINED {
        theta[x] += std::max((sum[x] - 1) / std::max(slope[x], 1e-30F), 0.0F);
        excess[x] = counted[x] * (sum[x] - 1);
      });
      if (greatest_of(excess) <= 1e-5F) break;
    }
    normalize();
  }

  WEAKSEG_INLINED void normalize() {
    Cells sum{};
    for (const Cells& y : point) each_cell([&](std::size_t x) WEAKSEG_INLINED { sum[x] += y[x]; });
    each_cell([&](std::size_t x) WEAKSEG_INLINED { sum[x] = sum[x] > 0 ? 1 / sum[x] : 0.0F; });
    for (Cells& y : point) {
      Cells scaled;
      each_cell([&](std::size_t x) WEAKSEG_INLINED { scaled[x] = y[x] * sum[x]; });
      y = scaled;
    }
  }

  std::vector<Cells> active_;
  Cells factor_, theta_;
};

}  // namespace weakseg
