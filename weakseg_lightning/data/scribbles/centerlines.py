"""Lines in the middle of regions: thickness, skeletons, and the longest paths through them."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.morphology import skeletonize

__all__ = ["EIGHT", "centre_line", "longest_path", "middle_path", "open_loops", "simplified", "thickest", "thickness"]

EIGHT = np.ones((3, 3), np.int64)
"""Neighbors of a pixel, diagonals included."""

Flags = NDArray[np.bool_]
Point = tuple[int, int]
"""Row, column."""

_STEPS = tuple((dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx)
_RING = ((-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1))
_SMALLEST_LOOP = 9  # pixels inside; a smaller hole is where a pen passed twice, not a loop


def thickness(region: Flags) -> NDArray[np.int32]:
    """Chessboard distance of every pixel to the outside, the rim of the array counting as outside."""
    depth: NDArray[np.int32] = ndimage.distance_transform_cdt(np.pad(region, 1), "chessboard")[1:-1, 1:-1]
    return depth


def thickest(depth: NDArray[np.int32]) -> Point:
    """The first of the pixels with the greatest thickness."""
    y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    return int(y), int(x)


def middle_path(region: Flags, share: float = 0.5) -> list[Point]:
    """The longest path of the skeleton where the region is thick, so that it stays out of thin limbs.

    Args:
        region: bool ``(H, W)``, not empty.
        share: how thick that is, relative to its thickest place.

    Returns:
        Neighboring pixels of the region, at least one.
    """
    depth = thickness(region)
    skeleton = skeletonize(region) & (depth >= share * depth.max())
    start = thickest(np.where(skeleton, depth, 0)) if skeleton.any() else thickest(depth)
    return longest_path(skeleton, start)


def centre_line(stroke: Flags) -> NDArray[np.float64]:
    """Find the polyline along which a stroke was drawn.

    Args:
        stroke: bool ``(H, W)``, one connected part (8 neighbors).

    Returns:
        Vertices x, y in pixels, ``(n, 2)``, n at least 1: the longest path through the stroke's skeleton, within a
        pixel. A loop is opened where a line runs into it, otherwise at its top. What branches off is left out.

    Example:
        >>> stroke = np.zeros((9, 20), bool)
        >>> stroke[3:6, 2:18] = True
        >>> centre_line(stroke)[:, 1].tolist()
        [4.0, 4.0]
    """
    # Of the methods of scikit-image, Lee's follows known polylines most closely.
    skeleton = skeletonize(_without_specks(np.pad(stroke, 1)), method="lee").astype(bool)
    skeleton = open_loops(skeleton)[1:-1, 1:-1]
    start = thickest(skeleton.astype(np.int32) if skeleton.any() else thickness(stroke))
    return simplified(longest_path(skeleton, start))


def simplified(path: list[Point], tolerance: float = 0.75) -> NDArray[np.float64]:
    """Replace a path of neighboring pixels by a polyline of few vertices x, y that stays within the tolerance."""
    from skimage.measure import approximate_polygon  # takes a second, as it loads scipy.signal

    points = np.array(path, np.float64)[:, ::-1]
    vertices: NDArray[np.float64] = approximate_polygon(points, tolerance) if len(points) > 2 else points
    return vertices


def longest_path(skeleton: Flags, start: Point) -> list[Point]:
    """The longest of the shortest paths through the thin tree around ``start``: breadth-first from both ends."""
    pixels = {(int(y), int(x)) for y, x in np.argwhere(skeleton)}
    end = _farthest(start, set(pixels))[-1]
    return _farthest(end, pixels)


def _farthest(start: Point, free: set[Point]) -> list[Point]:
    """The path through ``free`` (emptied) from ``start`` to the pixel that is most steps away."""
    origin: dict[Point, Point | None] = {start: None}
    free.discard(start)
    front = [start]
    while front:
        last, reached = front, []
        for y, x in front:
            for dy, dx in _STEPS:
                if (step := (y + dy, x + dx)) in free:
                    free.discard(step)
                    origin[step] = (y, x)
                    reached.append(step)
        front = reached
    path: list[Point] = []
    at: Point | None = last[0]
    while at is not None:
        path.append(at)
        at = origin[at]
    return path[::-1]


# ---- loops --------------------------------------------------------------------------------------------------


def open_loops(skeleton: Flags) -> Flags:
    """Cut every loop of a skeleton, by one pixel.

    Args:
        skeleton: lines of one pixel, bool ``(H, W)``.

    Returns:
        The skeleton without loops; it stays in one piece. A loop is cut beside the junction where a line runs into it,
        so that the longest path follows the line and goes all the way round; without a junction at its first pixel.
    """
    opened = skeleton.copy()
    while (loop := _a_loop(opened)) is not None:
        plain = [pixel for pixel in loop if _branches(opened, pixel) == 2]
        junctions = np.array([pixel for pixel in loop if _branches(opened, pixel) > 2]).reshape(-1, 2)
        cut = min(plain or loop, key=lambda pixel: _distance(pixel, junctions))
        opened[cut] = False
    return opened


def _a_loop(skeleton: Flags) -> list[Point] | None:
    """The pixels between one of the holes and what lies around it; a line that ends inside is not among them."""
    holes, count = ndimage.label(ndimage.binary_fill_holes(skeleton) & ~skeleton)
    if not count:
        return None
    inside = ndimage.binary_dilation(holes == 1) & skeleton
    between = inside & ndimage.binary_dilation((holes != 1) & ~skeleton, EIGHT)
    return [(int(y), int(x)) for y, x in np.argwhere(between if between.any() else inside)]


def _branches(skeleton: Flags, pixel: Point) -> int:
    """Count the lines that leave a pixel: stretches of neighbors on the way around it (Rutovitz's crossing number)."""
    y, x = pixel
    height, width = skeleton.shape
    ring = [
        bool(skeleton[y + dy, x + dx]) if 0 <= y + dy < height and 0 <= x + dx < width else False for dy, dx in _RING
    ]
    return sum(here and not before for before, here in zip([ring[-1], *ring], ring, strict=False))


def _distance(pixel: Point, junctions: NDArray[np.int64]) -> int:
    return int(np.abs(junctions - pixel).max(axis=1).min()) if len(junctions) else 0


def _without_specks(region: Flags) -> Flags:
    """Fill holes that are too small for a loop."""
    holes, count = ndimage.label(ndimage.binary_fill_holes(region) & ~region)
    areas = np.bincount(holes.ravel(), minlength=count + 1)
    small = areas < _SMALLEST_LOOP
    small[0] = False
    filled: Flags = region | small[holes]
    return filled
