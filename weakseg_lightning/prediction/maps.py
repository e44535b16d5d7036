"""Images that lie on a map: their place, and label maps that keep it."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from typing_extensions import override

from weakseg_lightning.data import BadSampleError
from weakseg_lightning.data.images.tiff import read_tiff_head
from weakseg_lightning.energies.potts import VOID
from weakseg_lightning.prediction.outputs import Bytes, LabelFile
from weakseg_lightning.prediction.tiling import Span

Floats = npt.NDArray[np.float64]

_GEO_KEYS = 34735  # the tag of a TIFF that names its coordinate system
_BLOCK = 256  # side of the tiles of a label map
_CACHE = 64  # of GDAL in megabytes; it would take a fraction of the memory that there is


@dataclass(frozen=True)
class Place:
    """The place of an image on a map.

    Attributes:
        crs: coordinate system, as rasterio has it; None where only the transform is known.
        transform: affine transform, as rasterio has it, from (column, row) in pixels, (0, 0) being the corner where the
            image begins, to (x, y) in the units of the coordinate system.
    """

    crs: Any
    transform: Any

    @classmethod
    def of(cls, source: Any, rows: Span, columns: Span) -> "Place":
        """The place of some rows and columns of a raster that rasterio has opened."""
        import rasterio

        t = source.transform
        x, y = cls(None, t).locate(np.array(columns.start), np.array(rows.start))
        return cls(source.crs, rasterio.Affine(t.a, t.b, float(x), t.d, t.e, float(y)))

    def locate(self, columns: Floats, rows: Floats) -> tuple[Floats, Floats]:
        """Coordinates x and y of points in pixels, as many as there are."""
        t = self.transform
        return t.a * columns + t.b * rows + t.c, t.d * columns + t.e * rows + t.f

    @property
    def pixel_area(self) -> float:
        """Area of a pixel in units of the map, squared."""
        return abs(float(self.transform.determinant))


@contextmanager
def open_raster(path: Path) -> Iterator[Any]:
    """Open a file with rasterio, with a bounded cache and without the warning that it lies on no map.

    Raises:
        ImportError: if rasterio is not installed.
    """
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning

    with rasterio.Env(GDAL_CACHEMAX=_CACHE):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            source = rasterio.open(path)
        with source:
            yield source


def is_map(path: Path) -> bool:
    """Recognize images that rasterio finds a place on a map for, in the file or in one beside it.

    Raises:
        BadSampleError: if it is a GeoTIFF and rasterio is not installed.
    """
    try:
        from rasterio.errors import RasterioError
    except ImportError as error:
        if _has_geo_keys(path):
            raise BadSampleError(
                f"{path} lies on a map, a place that is kept with rasterio: pip install '.[raster]' in the checkout, "
                "or convert it to PNG"
            ) from error
        return False
    try:
        with open_raster(path) as source:
            return not source.transform.is_identity
    except RasterioError:
        return False


def _has_geo_keys(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            head = read_tiff_head(file)
    except (OSError, ValueError):  # said where it is read as an image
        return False
    return head is not None and _GEO_KEYS in head.tags


class GeoTiff(LabelFile):
    """Writes a label map as a GeoTIFF incrementally: compressed tiles of 8 bits, with a palette; 255 is no data.

    The names of the classes are its tags ``CLASS_0``, ``CLASS_1``, ...

    Args:
        path: file to write.
        width: of the image, in pixels.
        height: of the image, in pixels.
        palette: RGB colors, uint8 ``(up to 256, 3)``.
        place: of the image.
        class_names: names of the classes, background first.
    """

    def __init__(
        self, path: Path, width: int, height: int, palette: Bytes, place: Place, class_names: Sequence[str]
    ) -> None:
        import rasterio

        super().__init__(height)
        self._begun = 0
        self._waiting = np.empty((0, width), dtype=np.uint8)
        self._file = rasterio.open(
            path,
            "w",
            driver="GTiff",
            width=width,
            height=height,
            count=1,
            dtype="uint8",
            nodata=VOID,
            crs=place.crs,
            transform=place.transform,
            photometric="palette",
            compress="deflate",
            tiled=True,
            blockxsize=_BLOCK,
            blockysize=_BLOCK,
            bigtiff="if_safer",
        )
        self._file.write_colormap(1, {k: tuple(map(int, color)) for k, color in enumerate(palette)})
        self._file.update_tags(**{f"CLASS_{k}": name for k, name in enumerate(class_names)})

    @override
    def _write(self, labels: Bytes) -> None:
        # A tile that is written twice is compressed twice, and the first one stays in the file as waste.
        rows = np.concatenate([self._waiting, labels])
        last = self._begun + len(rows) == self.height
        whole = len(rows) if last else len(rows) // _BLOCK * _BLOCK
        window = ((self._begun, self._begun + whole), (0, rows.shape[1]))
        if whole:
            self._file.write(rows[:whole], 1, window=window)
        self._begun += whole
        self._waiting = rows[whole:]

    @override
    def _end(self, whole: bool) -> None:
        self._file.close()
