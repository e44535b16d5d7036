// Pixels of an image in arrays with a frame around them, so that every pixel has all its neighbors.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "potts/pixel_edges.hpp"

namespace weakseg {

struct FramedGrid {
  using Index = std::int32_t;
  static constexpr Index kNobody = 0;  // belongs to the frame, hence never to a pixel

  FramedGrid() = default;
  FramedGrid(int grid_height, int grid_width) : height(grid_height), width(grid_width), stride(grid_width + 1) {
    // One column of frame between rows is enough: it is right of one row and left of the next.
    size = static_cast<std::size_t>(height + 2) * static_cast<std::size_t>(stride) + 2;
    for (std::size_t d = 0; d < 8; ++d) offset[d] = kDeltaRow[d] * stride + kDeltaColumn[d];
  }

  Index node(int row, int column) const { return (row + 1) * stride + column + 1; }
  std::size_t pixel(Index node) const {
    const int row = (node - 1) / stride - 1;
    return static_cast<std::size_t>(node - stride - 1 - row);
  }
  std::size_t pixels() const { return static_cast<std::size_t>(height) * static_cast<std::size_t>(width); }

  int height = 0, width = 0, stride = 0;
  std::size_t size = 0;           // elements of an array over all nodes, frame included
  std::array<Index, 8> offset{};  // from a node to its neighbor in each direction
};

}  // namespace weakseg
