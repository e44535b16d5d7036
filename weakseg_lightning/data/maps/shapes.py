"""Shapes in the pixels of a raster, and drawing them in any window of it."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from weakseg_lightning.data.maps.geojson import Kind
from weakseg_lightning.data.maps.places import Floats, Window, require_rasterio
from weakseg_lightning.data.maps.rasters import Flags
from weakseg_lightning.energies.potts import VOID

__all__ = ["Shape", "crosses_itself", "draw_shapes"]

Labels = npt.NDArray[np.uint8]

_HALF_PIXEL = 0.5  # a line covers the pixels whose centers are that near, however thin it is: it has no gaps then
_TIE = 1e-9
_AT_ONCE = 256  # edges that are compared with all that may meet them


@dataclass(frozen=True)
class Shape:
    """A point, line or polygon with its class.

    Attributes:
        kind: its kind.
        parts: columns and rows, ``(n, 2)`` each; the first pixel spans 0 to 1.
        label: the class; 255 takes away what lies below.
        metric: of points and lines, ``(2, 2)``, from steps in pixels to those that are 1 long at the brush's rim.
        where: the feature in words, for messages.
    """

    kind: Kind
    parts: list[Floats]
    label: int
    metric: Floats
    where: str

    @cached_property
    def reach(self) -> Floats:
        """Columns and rows that the brush covers on each side of a point, at most."""
        if self.kind == "Polygon":
            return np.zeros(2)
        extent: Floats = np.sqrt(np.diag(np.linalg.inv(self.metric.T @ self.metric)))
        return np.maximum(extent, _HALF_PIXEL)

    @cached_property
    def bounds(self) -> tuple[Floats, Floats]:
        """Least and greatest column and row that it covers."""
        points = np.concatenate(self.parts)
        return points.min(0) - self.reach, points.max(0) + self.reach

    def touches(self, window: Window) -> bool:
        """Tell if the rectangle around it meets a window."""
        low, high = self.bounds
        return bool((low < (window.right, window.bottom)).all() and (high > (window.left, window.top)).all())


def draw_shapes(shapes: Iterable[Shape], window: Window, background: int = VOID) -> Labels:
    """Draw shapes in a window.

    A polygon covers the pixels whose centers lie in it; a line, those whose centers lie under the brush, half a pixel
    to each side at least; a point, those under a round brush, and the pixel that it lies in.

    Args:
        shapes: later ones cover earlier ones.
        window: of the raster.
        background: the class of what no shape covers.

    Returns:
        uint8 ``(h, w)``.
    """
    labels = np.full((window.height, window.width), background, dtype=np.uint8)
    for shape in shapes:
        if not shape.touches(window):
            continue
        if shape.kind == "Polygon":
            labels[_filled(shape, window)] = shape.label
            continue
        points = shape.parts[0]
        ends = points[1:] if len(points) > 1 else points
        for start, end in zip(points[: len(ends)], ends, strict=True):
            _stroke(labels, window, shape, start, end)
        if len(points) == 1:
            _dot(labels, window, points[0], shape.label)
    return labels


def crosses_itself(ring: Floats) -> bool:
    """Tell if edges of a ring ``(n, 2)`` cross each other; those that only touch do not."""
    closed = np.concatenate([ring, ring[:1]])
    edges = np.stack([closed[:-1], closed[1:]], axis=1)
    low, high = edges[..., 0].min(1), edges[..., 0].max(1)
    order = np.argsort(low)
    edges, low, high = edges[order], low[order], high[order]
    for first in range(0, len(edges), _AT_ONCE):
        some = slice(first, first + _AT_ONCE)
        # Edges that begin further to the right than these end cannot meet them.
        others = edges[first : np.searchsorted(low, high[some].max(), "right")]
        if (_apart(edges[some], others) & _apart(others, edges[some]).T).any():
            return True
    return False


def _apart(edges: Floats, others: Floats) -> Flags:
    """Tell for edges ``(n, 2, 2)`` and others ``(m, 2, 2)`` if the ends of the others lie on both sides: ``(n, m)``."""
    along = edges[:, None, 1] - edges[:, None, 0]
    ends = [others[None, :, end] - edges[:, None, 0] for end in (0, 1)]
    first, last = (along[..., 0] * end[..., 1] - along[..., 1] * end[..., 0] for end in ends)
    both: Flags = first * last < 0
    return both


def _filled(shape: Shape, window: Window) -> Flags:
    rasterio = require_rasterio("polygons are filled")
    corner = window.left, window.top
    polygon = {"type": "Polygon", "coordinates": [_closed(part - corner) for part in shape.parts]}
    filled: Flags = rasterio.features.rasterize([polygon], (window.height, window.width), dtype="uint8") > 0
    return filled


def _closed(ring: Floats) -> list[list[float]]:
    return [*ring.tolist(), ring[0].tolist()]


def _stroke(labels: Labels, window: Window, shape: Shape, start: Floats, end: Floats) -> None:
    """Draw one piece of a line."""
    corner = np.array([window.left, window.top])
    low = np.floor(np.minimum(start, end) - shape.reach).astype(int) - corner
    high = np.ceil(np.maximum(start, end) + shape.reach).astype(int) - corner
    left, top = low.clip(0)
    right, bottom = np.minimum(high, (window.width, window.height))
    if left >= right or top >= bottom:
        return
    columns, rows = np.meshgrid(np.arange(left, right) + 0.5, np.arange(top, bottom) + 0.5)
    centers = np.stack([columns, rows], axis=-1) + corner
    near = _distance(centers, start, end, shape.metric) <= 1 + _TIE
    near |= _distance(centers, start, end, np.eye(2)) <= _HALF_PIXEL + _TIE
    labels[top:bottom, left:right][near] = shape.label


def _distance(points: Floats, start: Floats, end: Floats, metric: Floats) -> Floats:
    """Distances of points ``(h, w, 2)`` from a straight piece, as a metric has them."""
    along, offsets = metric @ (end - start), (points - start) @ metric.T
    length = float(along @ along)
    at = (offsets @ along / length).clip(0, 1) if length > 0 else np.zeros(offsets.shape[:-1])
    distance: Floats = np.linalg.norm(offsets - at[..., None] * along, axis=-1)
    return distance


def _dot(labels: Labels, window: Window, point: Floats, label: int) -> None:
    """Draw the pixel that a point lies in."""
    column, row = np.floor(point).astype(int) - (window.left, window.top)
    if 0 <= column < window.width and 0 <= row < window.height:
        labels[row, column] = label
