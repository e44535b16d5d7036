"""Label maps as polygons in the JSON format of COCO."""

import json
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from weakseg_lightning.data.maps.places import Floats, Place, open_raster
from weakseg_lightning.data.maps.places import require_rasterio as import_rasterio
from weakseg_lightning.energies.potts import VOID

Ring = list[list[float]]


class CocoPolygons:
    """Gathers the regions of label maps: one annotation for each connected part (by edges) of a class.

    Polygons run along the edges of pixels, (0, 0) being the upper left corner of the image, so that areas and boxes are
    exact. A hole is part of its region's one polygon, which goes to the hole and back on the same line: readers that
    fill by parity, as pycocotools does, leave it out.

    Args:
        class_names: names of the classes; background (0) is no category, the others keep their number.

    Raises:
        ImportError: if rasterio is not installed.
    """

    def __init__(self, class_names: Sequence[str]) -> None:
        require_rasterio()
        self.categories = [{"id": k, "name": name} for k, name in enumerate(class_names) if k > 0]
        self.images: list[dict[str, Any]] = []
        self.annotations: list[dict[str, Any]] = []

    def add(self, name: str, labels: Path) -> None:
        """Add an image.

        Args:
            name: the file that was labelled.
            labels: its label map, a PNG or GeoTIFF; it is read by rows.
        """
        with open_raster(labels) as source:
            number, first = len(self.images) + 1, len(self.annotations) + 1
            annotations = []
            for identity, (k, rings) in enumerate(trace_regions(source), first):
                found = _annotation([ring.tolist() for ring in rings])
                numbers = {"id": identity, "image_id": number, "category_id": k}
                annotations.append({**numbers, **found, "iscrowd": 0})
            size = {"width": source.width, "height": source.height}
        self.annotations += annotations
        self.images.append({"id": number, "file_name": name, **size})

    def write(self, path: Path) -> None:
        """Write all that was added."""
        content = {"images": self.images, "annotations": self.annotations, "categories": self.categories}
        path.write_text(json.dumps(content), encoding="utf-8")


def trace_regions(source: Any) -> Iterator[tuple[int, list[Floats]]]:
    """Trace the regions of a label map that rasterio has opened; background and void (255) are none.

    Yields:
        Class, and closed rings ``(n, 2)`` of (column, row) in pixels, the outer one first.
    """
    rasterio = require_rasterio()
    pixels = Place(None, ~source.transform)  # GDAL gives coordinates of the map, if the labels lie on one
    for shape, k in rasterio.features.shapes(rasterio.band(source, 1), connectivity=4):
        if 0 < k < VOID:
            yield int(k), [np.rint(pixels.locate(*np.array(ring).T)).T for ring in shape["coordinates"]]


def _annotation(rings: list[Ring]) -> dict[str, Any]:
    """Polygon, area and bounding box of a region: its outer ring first, then those of its holes."""
    outer = rings[0]
    xs, ys = zip(*outer, strict=True)
    box = [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]
    area = abs(_area(outer)) - sum(abs(_area(hole)) for hole in rings[1:])
    return {"segmentation": [list(_joined(rings))], "area": area, "bbox": box}


def _joined(rings: list[Ring]) -> Iterator[float]:
    """Coordinates of one closed line through all rings, which goes from and to the holes along the same lines."""
    start = rings[0][0]
    yield from (value for point in rings[0][:-1] for value in point)
    for hole in rings[1:]:
        yield from (value for point in (start, *hole) for value in point)
    if len(rings) > 1:
        yield from start


def _area(ring: Ring) -> float:
    """Signed area of a closed ring, by the trapezoid formula."""
    return sum((x0 - x1) * (y0 + y1) for (x0, y0), (x1, y1) in pairwise(ring)) / 2


def require_rasterio() -> Any:
    """Import rasterio with what traces polygons; raise an ``ImportError`` that says how it is installed."""
    return import_rasterio("polygons are traced")
