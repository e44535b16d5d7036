"""Strokes, clicks and boxes that an annotator would give for a drawn scene, derived from its truth."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.morphology import skeletonize

from weakseg_lightning.data.scribbles.centerlines import (
    EIGHT,
    Flags,
    Point,
    longest_path,
    middle_path,
    thickest,
    thickness,
)
from weakseg_lightning.data.scribbles.strokes import Stroke, draw_strokes, shorten
from weakseg_lightning.energies.potts import VOID

__all__ = ["MINIMUM_PIXELS", "click", "frame", "scribble"]

MINIMUM_PIXELS = 24
"""Visible regions below this area get neither stroke, click nor box: an annotator would not see them."""

Bytes = NDArray[np.uint8]


def scribble(mask: Bytes, instances: Bytes, length: float = 1.0) -> Bytes:
    """Draw a stroke, 3 px wide, in the middle of each region of each object, and one or two on the background.

    A stroke follows the longest path of the region's skeleton where the region is at least half as thick as at its
    thickest, so that it stays out of thin limbs. On the background it is as long as half the picture at most.

    Args:
        mask: classes, uint8 (H, W).
        instances: objects, uint8 (H, W), 0 for the background.
        length: fraction of each stroke that is kept, about its middle, by arc length; 0 leaves a dot of 3 x 3 px.

    Returns:
        uint8 (H, W): the class at labelled pixels, 255 elsewhere; no stroke leaves its region.
    """
    seeds = np.full(mask.shape, VOID, np.uint8)
    for region, corner in _regions(instances):
        _mark(seeds, mask, region, corner, middle_path(region), length)
    for region, corner in _regions(instances == 0)[:2]:
        if region.sum() >= 0.05 * mask.size:
            _mark(seeds, mask, region, corner, _background_path(region, max(mask.shape) / 2), length)
    return seeds


def click(mask: Bytes, instances: Bytes) -> Bytes:
    """Click on the thickest place of each object and of the background: a dot of 3 x 3 px that stays inside.

    Args:
        mask: classes, uint8 (H, W).
        instances: objects, uint8 (H, W), 0 for the background.

    Returns:
        uint8 (H, W): the class at labelled pixels, 255 elsewhere.
    """
    clicks = np.full(mask.shape, VOID, np.uint8)
    for number in np.unique(instances):
        regions = _regions(instances == number)
        if regions:
            region, corner = regions[0]
            _mark(clicks, mask, region, corner, [thickest(thickness(region))])
    return clicks


def frame(mask: Bytes, instances: Bytes) -> NDArray[np.float32]:
    """Frame what is visible of each object.

    Args:
        mask: classes, uint8 (H, W).
        instances: objects, uint8 (H, W), 0 for the background.

    Returns:
        float32 (n, 5): x1, y1, x2, y2 (exclusive), class.
    """
    boxes = []
    for number, window in enumerate(ndimage.find_objects(instances), start=1):
        if window is not None and (visible := instances[window] == number).sum() >= MINIMUM_PIXELS:
            rows, columns = window
            label = mask[window][visible][0]
            boxes.append((columns.start, rows.start, columns.stop, rows.stop, label))
    return np.array(boxes, np.float32).reshape(-1, 5)


def _regions(instances: NDArray[np.generic]) -> list[tuple[Flags, Point]]:
    """Connected regions (cropped, with their corner) of every object, per object the largest first."""
    found = []
    for number, window in enumerate(ndimage.find_objects(instances.astype(np.uint8)), start=1):
        if window is None:
            continue
        parts, count = ndimage.label(instances[window] == number, EIGHT)
        areas, windows = np.bincount(parts.ravel(), minlength=count + 1), ndimage.find_objects(parts)
        for part in 1 + np.argsort(-areas[1:], kind="stable"):
            if areas[part] >= MINIMUM_PIXELS:
                rows, columns = windows[part - 1]
                corner = (window[0].start + rows.start, window[1].start + columns.start)
                found.append((parts[rows, columns] == part, corner))
    return found


def _mark(seeds: Bytes, mask: Bytes, region: Flags, corner: Point, path: list[Point], length: float = 1.0) -> None:
    points = np.array(path, np.float64)[:, ::-1]
    line = draw_strokes([Stroke(shorten(points, length), 0)], *region.shape) == 0
    line &= region
    window = tuple(slice(start, start + extent) for start, extent in zip(corner, region.shape, strict=True))
    seeds[window][line] = mask[window][line]


def _background_path(region: Flags, longest: float) -> list[Point]:
    """The middle of the skeleton's longest path; every other row and column will do for so large a region."""
    skeleton = skeletonize(region[::2, ::2])
    if not skeleton.any():
        return [thickest(thickness(region))]
    y, x = np.argwhere(skeleton)[0]
    path = longest_path(skeleton, (int(y), int(x)))
    spare = max(len(path) - int(longest / 2), 0)
    return [(2 * y, 2 * x) for y, x in path[spare // 2 : len(path) - spare // 2]]
