// A grid Potts energy of one image or volume, as callers describe it.
#pragma once

#include <cstddef>
#include <cstdint>

namespace weakseg {

// Planes are row-major, height x width; labels are 0..num_labels - 1. Label k costs a pixel
// slope * (planes[k][pixel] - zero[pixel]). The slices of a volume lie below one another in planes of all their rows; the
// last plane of edges then joins them, and edges from the last row of one to the first row of the next have weight 0.
struct PottsProblem {
  int height = 0, width = 0, num_labels = 0;
  int slice = 0;  // rows of each slice of a volume; 0 for an image
  const float* const* planes = nullptr;
  const float* zero = nullptr;  // one plane
  double slope = 1;
  const float* edges = nullptr;         // one plane for each forward direction, in their order
  const std::uint8_t* seeds = nullptr;  // hard constraints; kVoid where there is none
  const std::uint8_t* valid = nullptr;  // 0 on padding

  std::size_t pixels() const { return static_cast<std::size_t>(height) * static_cast<std::size_t>(width); }

  // In double precision: the difference of two scores is often much smaller than either.
  double above_zero(std::uint8_t label, std::size_t pixel) const {
    return static_cast<double>(planes[label][pixel]) - zero[pixel];
  }
  double unary(std::uint8_t label, std::size_t pixel) const { return slope * above_zero(label, pixel); }
};

enum class Failure : std::int32_t { kNone = 0, kScores = 1, kEdges = 2 };  // what is not finite

}  // namespace weakseg
