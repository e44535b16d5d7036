// The edges between neighboring pixels of an image, or of a volume, whose slices lie below one another in one image.
#pragma once

#include <array>
#include <cstddef>

namespace weakseg {

// Direction 2e is the forward direction of edge plane e, direction 2e + 1 its opposite, so that d ^ 1 is the way back.
// The first four are those of the 4-grid.
constexpr std::array<int, 8> kDeltaRow = {0, 0, 1, -1, 1, -1, 1, -1};
constexpr std::array<int, 8> kDeltaColumn = {1, -1, 0, 0, 1, -1, -1, 1};

// A row of edges in one direction: edge x joins the pixels first + x and second + x. Its weight is that of the first
// pixel in the direction's plane.
struct EdgeRow {
  std::size_t first = 0, second = 0, count = 0;
};

inline EdgeRow edge_row_to(int height, int width, int row, int down, int right) {
  if (row + down >= height || width == 0) return {};
  const auto columns = static_cast<std::size_t>(width), here = static_cast<std::size_t>(row) * columns;
  const std::size_t there = here + static_cast<std::size_t>(down) * columns;
  return {here + (right < 0 ? 1 : 0), there + (right > 0 ? 1 : 0), columns - (right != 0 ? 1 : 0)};
}

inline EdgeRow edge_row(int height, int width, int row, int plane) {
  return edge_row_to(height, width, row, kDeltaRow[2 * plane], kDeltaColumn[2 * plane]);
}

}  // namespace weakseg
