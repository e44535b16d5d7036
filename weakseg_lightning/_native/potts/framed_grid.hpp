// Pixels of an image in arrays with a frame around them, so that every pixel has all its neighbors.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

#include "potts/pixel_edges.hpp"

namespace weakseg {

// Neighbors that a pixel has: 4 or 8 in an image, and in a volume two more, in the slices before and after its own.
constexpr bool is_volume(int neighbors) { return neighbors == 6 || neighbors == 10; }

struct FramedGrid {
  using Index = std::int32_t;
  static constexpr Index kNobody = 0;  // belongs to the frame, hence never to a pixel

  FramedGrid() = default;

  // `slice`: rows of a slice of a volume, of which `grid_height` holds all; 0 for an image.
  FramedGrid(int grid_height, int grid_width, int neighbors, int slice = 0)
      : height(grid_height), width(grid_width), stride(grid_width + 1), margin(std::max(slice, 1)) {
    // One column of frame between rows is enough: it is right of one row and left of the next.
    size = static_cast<std::size_t>(height + 2 * margin) * static_cast<std::size_t>(stride) + 2;
    for (std::size_t d = 0; d < kDeltaRow.size(); ++d) offset[d] = kDeltaRow[d] * stride + kDeltaColumn[d];
    if (!is_volume(neighbors)) return;
    const auto deeper = static_cast<std::size_t>(neighbors - 2);
    offset[deeper] = slice * stride;
    offset[deeper + 1] = -slice * stride;
  }

  Index node(int row, int column) const { return (row + margin) * stride + column + 1; }
  std::size_t pixel(Index node) const {
    const int row = (node - 1) / stride - margin;
    return static_cast<std::size_t>(node - margin * stride - 1 - row);
  }
  std::size_t pixels() const { return static_cast<std::size_t>(height) * static_cast<std::size_t>(width); }

  int height = 0, width = 0, stride = 0;
  int margin = 1;                  // rows of frame above and below
  std::size_t size = 0;            // elements of an array over all nodes, frame included
  std::array<Index, 10> offset{};  // from a node to its neighbor in each direction
};

}  // namespace weakseg
