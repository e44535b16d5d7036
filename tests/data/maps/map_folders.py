"""Small rasters with labels drawn in GeoJSON."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_runs import Tiny
from torch import nn

from weakseg_lightning.data import MapDataModule

rasterio = pytest.importorskip("rasterio")


def drawn(kind: str, coordinates: Any, label: str = "wet", **properties: Any) -> dict[str, Any]:
    """A feature with its class."""
    geometry = {"type": kind, "coordinates": coordinates}
    return {"type": "Feature", "properties": {"class": label, **properties}, "geometry": geometry}


def write(path: Path, *features: Any, **members: Any) -> Path:
    """Write a FeatureCollection."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features, **members}))
    return path


SIDE = 160
NAMES = ("land", "wet", "dry")
AFFINE = (10.0, 0.0, 500000.0, 0.0, -10.0, 5000000.0)
"""Ten meters a pixel in UTM 33: x = 500000 + 10 column, y = 5000000 - 10 row."""


def on_map(points: Sequence[tuple[float, float]]) -> list[list[float]]:
    """Coordinates of points given by column and row."""
    return [[500000 + 10 * x, 5000000 - 10 * y] for x, y in points]


UTM = {"crs": {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32633"}}}


def truth_of(rng: np.random.Generator, side: int = SIDE) -> np.ndarray:
    """Two classes in squares of 32 pixels with a border of land around each."""
    cells = rng.integers(1, 3, (side // 32, side // 32)).astype(np.uint8)
    mask = np.kron(cells, np.ones((32, 32), np.uint8))
    inside = (np.arange(side) % 32 >= 6) & (np.arange(side) % 32 < 28)
    return np.where(np.outer(inside, inside), mask, 0)


def strokes(mask: np.ndarray) -> list[dict[str, Any]]:
    """A line in each square and below it, in the coordinates of the map."""
    found = []
    for top in range(0, mask.shape[0], 32):
        for left in range(0, mask.shape[1], 32):
            for row in (15, 2):
                line = on_map([(left + 10.5, top + row + 0.5), (left + 24.5, top + row + 0.5)])
                found.append(drawn("LineString", line, NAMES[mask[top + row, left + 15]]))
    return found


def write_raster(path: Path, values: np.ndarray, **options: Any) -> Path:
    """Write bands ``(B, H, W)`` at the place of these tests."""
    path.parent.mkdir(parents=True, exist_ok=True)
    count, height, width = values.shape
    where = {"crs": "EPSG:32633", "transform": rasterio.Affine(*AFFINE)} | options
    with rasterio.open(path, "w", "GTiff", width, height, count, dtype=values.dtype.name, **where) as file:
        file.write(values)
    return path


def colors_of(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """RGB in which classes differ: uint8 ``(3, H, W)``."""
    palette = np.array([[90, 90, 90], [60, 120, 200], [200, 140, 60]])
    noisy = palette[mask] + rng.normal(0, 12, (*mask.shape, 3))
    return np.moveaxis(noisy.clip(0, 255).astype(np.uint8), -1, 0)


def write_maps(
    root: Path, names: Sequence[str] = ("a",), masks: Sequence[str] = ("a",), side: int = SIDE, **options: Any
) -> Path:
    """Write a folder of maps: RGB of 8 bits with lines in each square."""
    (root / "masks").mkdir(parents=True, exist_ok=True)
    (root / "classes.yaml").write_text("classes: [land, wet, dry]\n")
    for number, name in enumerate(names):
        rng = np.random.default_rng(number)
        mask = truth_of(rng, side)
        write_raster(root / f"images/{name}.tif", colors_of(mask, rng), **options)
        write(root / f"scribbles/{name}.geojson", *strokes(mask), **UTM)
        if name in masks:
            write_raster(root / f"masks/{name}.tif", mask[None])
    return root


# ---- what data modules make of them -------------------------------------------------------------------------------

TINY = {"batch_size": 4, "crop_size": 32, "num_workers": 0, "scale_range": (1.0, 1.0)}


def data_of(root, **options) -> MapDataModule:
    data = MapDataModule(root, **TINY | options)
    data.setup("fit")
    return data


def whole(data, split="train") -> list[dict]:
    found = data.whole_images(split)
    return [found[index] for index in range(len(found))]


def raster(path) -> np.ndarray:
    with rasterio.open(path) as source:
        return source.read()


def corner(item) -> tuple[int, int]:
    left, top = item["id"].split("_")[-2:]
    return int(left[1:]), int(top[1:])


class Plain(Tiny):
    """A network that sees 3 x 3 pixels, at full resolution."""

    def make_body(self) -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU())
