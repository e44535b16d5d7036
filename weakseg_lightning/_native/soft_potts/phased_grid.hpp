// Pixels of an image in four planes, by the parity of row and column, so that no two neighbors share a plane.
#pragma once

#include <array>
#include <cstddef>

#include "potts/pixel_edges.hpp"

namespace weakseg {

constexpr std::size_t kPhases = 4;
constexpr std::array<std::size_t, kPhases> kOrderOfPhases = {0, 3, 1, 2};  // in which they move
constexpr std::size_t kCells = 16;  // what loops treat at once, and what rows are padded to

// Phase 2a + b holds the pixels (2i + a, 2j + b) as its cells (i, j). Around the cells of a plane is a frame, so that
// every cell has all its neighbors.
struct PhasedGrid {
  PhasedGrid() = default;
  PhasedGrid(int image_height, int image_width)
      : height(image_height), width(image_width), rows((image_height + 1) / 2), columns((image_width + 1) / 2) {
    const std::size_t padded = (static_cast<std::size_t>(columns) + kCells) / kCells * kCells;
    stride = kCells + padded;
    size = static_cast<std::size_t>(rows + 2) * stride + kCells;
  }

  std::size_t cell(int row, int column) const {
    return static_cast<std::size_t>(row + 1) * stride + kCells + static_cast<std::size_t>(column);
  }

  int height = 0, width = 0, rows = 0, columns = 0;
  std::size_t stride = 0, size = 0;  // cells of a row and of a plane, frame included
};

// Where the neighbors of a phase's cells are: in which phase, and how many cells further.
struct PhaseNeighbor {
  std::size_t phase = 0;
  std::ptrdiff_t offset = 0;
};

inline PhaseNeighbor neighbor_of(const PhasedGrid& grid, std::size_t phase, std::size_t direction) {
  const int row = static_cast<int>(phase / 2) + kDeltaRow[direction];
  const int column = static_cast<int>(phase % 2) + kDeltaColumn[direction];
  const int down = (row + 2) / 2 - 1, right = (column + 2) / 2 - 1;  // rounded towards minus infinity
  const auto parity = [](int place) { return static_cast<std::size_t>((place + 2) % 2); };
  return {2 * parity(row) + parity(column), down * static_cast<std::ptrdiff_t>(grid.stride) + right};
}

// Spreads a plane of pixels over four planes of cells.
template <class From, class Convert>
void to_phases(const PhasedGrid& grid, const From* pixels, float* cells, Convert convert) {
  for (std::size_t phase = 0; phase < kPhases; ++phase) {
    const int a = static_cast<int>(phase / 2), b = static_cast<int>(phase % 2);
    for (int row = a; row < grid.height; row += 2) {
      const From* line = pixels + static_cast<std::size_t>(row) * static_cast<std::size_t>(grid.width);
      float* out = cells + phase * grid.size + grid.cell(row / 2, 0);
      for (int column = b; column < grid.width; column += 2) out[column / 2] = convert(line[column]);
    }
  }
}

// The way back.
inline void from_phases(const PhasedGrid& grid, const float* cells, float* pixels) {
  for (std::size_t phase = 0; phase < kPhases; ++phase) {
    const int a = static_cast<int>(phase / 2), b = static_cast<int>(phase % 2);
    for (int row = a; row < grid.height; row += 2) {
      float* line = pixels + static_cast<std::size_t>(row) * static_cast<std::size_t>(grid.width);
      const float* from = cells + phase * grid.size + grid.cell(row / 2, 0);
      for (int column = b; column < grid.width; column += 2) line[column] = from[column / 2];
    }
  }
}

}  // namespace weakseg
