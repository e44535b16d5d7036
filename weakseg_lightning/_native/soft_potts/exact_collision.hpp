// A lower bound of what pixels cost, with the collision link as it is and only the edges to first order:
//
//     minimize over the simplex  -eta ln(sigma . y) + force . y.
//
// For every t, -ln a >= 1 + ln t - t a, so that each y costs eta (1 + ln t) + min_k (force_k - eta t sigma_k) at least.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <vector>

#include "soft_potts/simplex_step.hpp"
#include "support/intrinsics.hpp"

namespace weakseg {

class ExactCollision {
 public:
  void resize(std::size_t labels) {
    force_.resize(labels);
    sigma_.resize(labels);
  }

  // The slope of the edges' energy in a label, and sigma.
  WEAKSEG_INLINED void take(std::size_t label, const Cells& force, const float* sigma) {
    force_[label] = force;
    std::copy_n(sigma, kCells, sigma_[label].begin());
  }

  // At t = 1 / (sigma . y) the bound is that of Frank and Wolfe; how much better is the best of two other t? The bound
  // is concave in t, the logarithm and the least of lines: the first t is the best for the line that is the least at
  // first, the second for that line and the one that is the least there.
  WEAKSEG_INLINED Cells gain(float eta, const Cells& agreement) const {
    Cells start, gain{};
    each_cell([&](std::size_t x) WEAKSEG_INLINED { start[x] = 1 / agreement[x]; });
    const Line first = least_at(eta, start);
    Line second = first;
    for (int turn = 0; turn < 2; ++turn) {
      Cells t;
      each_cell([&](std::size_t x) WEAKSEG_INLINED {
        const float alone = 1 / std::max(second.sigma[x], 1e-30F);
        const float crossing = (second.force[x] - first.force[x]) / (eta * (second.sigma[x] - first.sigma[x]));
        const bool upwards = first.sigma[x] * start[x] < 1;
        const float both = upwards ? std::max(alone, crossing) : std::min(alone, crossing);
        t[x] = second.sigma[x] == first.sigma[x] ? alone : both;
      });
      second = least_at(eta, t);
      for (std::size_t x = 0; x < kCells; ++x) {
        const float better = eta * std::log(t[x] / start[x]) + second.value[x] - first.value[x];
        gain[x] = better > gain[x] ? better : gain[x];  // not where it is not a number
      }
    }
    return gain;
  }

 private:
  // The line that is the least at t, of each cell.
  struct Line {
    Cells value, sigma, force;
  };

  WEAKSEG_INLINED Line least_at(float eta, const Cells& t) const {
    Line least;
    least.value.fill(std::numeric_limits<float>::max());
    for (std::size_t k = 0; k < force_.size(); ++k) {
      each_cell([&](std::size_t x) WEAKSEG_INLINED {
        const float value = force_[k][x] - eta * t[x] * sigma_[k][x];
        const bool less = value < least.value[x];
        least.value[x] = less ? value : least.value[x];
        least.sigma[x] = less ? sigma_[k][x] : least.sigma[x];
        least.force[x] = less ? force_[k][x] : least.force[x];
      });
    }
    return least;
  }

  std::vector<Cells> force_, sigma_;
};

}  // namespace weakseg
