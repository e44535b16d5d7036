// Relaxations of the Potts energy to soft labelings: the distance of the distributions a and b of two pixels, from their
// inner product and their squared norms. All slopes in a are  own * a - other * b.
#pragma once

#include <algorithm>
#include <cmath>

#include "soft_potts/simplex_step.hpp"
#include "support/intrinsics.hpp"
#include "support/logarithm.hpp"

namespace weakseg {

enum class Relaxation : int {
  kQuadratic = 0,
  kNormalized = 1,
  kLogQuadratic = 2,
  kBilinear = 3,
  kCollision = 4,
  kCollisionDivergence = 5
};

struct PairsOfCells {
  Cells product, squared_a, squared_b;
};

struct Distances {
  Cells value, own, other;
};

// Logarithms are of at least 1e-6, and have no slope below.
WEAKSEG_INLINED inline float bounded_log(float x) { return log_of_positive(std::max(x, 1e-6F)); }
WEAKSEG_INLINED inline float slope_of_bounded_log(float x) { return x >= 1e-6F ? 1 / x : 0.0F; }

WEAKSEG_INLINED inline Distances distances_of(Relaxation relaxation, const PairsOfCells& pairs) {
  Distances found;
  const auto fill = [&](const auto& distance) WEAKSEG_INLINED {
    each_cell([&](std::size_t x) WEAKSEG_INLINED {
      // Padding has no distribution, and no edges either.
      distance(x, pairs.product[x], std::max(pairs.squared_a[x], 1e-16F), std::max(pairs.squared_b[x], 1e-16F));
    });
  };
  const auto set = [&](std::size_t x, float value, float own, float other) WEAKSEG_INLINED {
    found.value[x] = std::max(value, 0.0F), found.own[x] = own, found.other[x] = other;  // 0 but for rounding
  };
  switch (relaxation) {
    case Relaxation::kQuadratic:
      fill([&](std::size_t x, float ab, float aa, float bb) WEAKSEG_INLINED { set(x, (aa + bb) / 2 - ab, 1, 1); });
      break;
    case Relaxation::kBilinear:
      fill([&](std::size_t x, float ab, float, float) WEAKSEG_INLINED { set(x, 1 - ab, 0, 1); });
      break;
    case Relaxation::kNormalized:
      fill([&](std::size_t x, float ab, float aa, float bb) WEAKSEG_INLINED {
        const float inverse = 1 / std::sqrt(aa * bb);
        set(x, 1 - ab * inverse, ab * inverse / aa, inverse);
      });
      break;
    case Relaxation::kLogQuadratic:
      fill([&](std::size_t x, float ab, float aa, float bb) WEAKSEG_INLINED {
        const float rest = 1 - ((aa + bb) / 2 - ab), slope = slope_of_bounded_log(rest);
        set(x, -bounded_log(rest), slope, slope);
      });
      break;
    case Relaxation::kCollision:
      fill([&](std::size_t x, float ab, float, float) WEAKSEG_INLINED {
        set(x, -bounded_log(ab), 0, slope_of_bounded_log(ab));
      });
      break;
    case Relaxation::kCollisionDivergence:
      fill([&](std::size_t x, float ab, float aa, float bb) WEAKSEG_INLINED {
        const float norms = std::sqrt(aa * bb), cosine = ab / norms, slope = slope_of_bounded_log(cosine);
        set(x, -bounded_log(cosine), slope * cosine / aa, slope / norms);
      });
      break;
  }
  return found;
}

}  // namespace weakseg
