"""Images that lie on a map: their place, and label maps that keep it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from typing_extensions import override

from weakseg_lightning.data import BadSampleError
from weakseg_lightning.data.images.tiff import read_tiff_header
from weakseg_lightning.data.maps.places import Place, open_raster
from weakseg_lightning.energies.potts import VOID
from weakseg_lightning.files import replacing
from weakseg_lightning.prediction.outputs import Bytes, LabelFile

__all__ = ["GeoTiff", "Place", "is_map", "open_raster", "replacing_map"]

_GEO_KEYS = 34735  # the tag of a TIFF that names its coordinate system
_BLOCK = 256  # side of the tiles of a label map


def is_map(path: Path) -> bool:
    """Recognize images that rasterio finds a place on a map for, in the file or in one beside it.

    The place may be known by ground control points or a sensor model (RPC) alone.

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
            return not source.transform.is_identity or Place.of_whole(source).unwarped is not None
    except RasterioError:
        return False


def _has_geo_keys(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            header = read_tiff_header(file)
    except (OSError, ValueError):  # said where it is read as an image
        return False
    return header is not None and _GEO_KEYS in header.tags


def _placed(place: Place) -> dict[str, Any]:
    """A place as rasterio writes it; a TIFF has a transform or ground control points."""
    points, system = place.gcps
    known: dict[str, Any] = {"crs": place.crs, "transform": place.transform}
    if place.unwarped is not None:
        known = {"crs": system, "gcps": points} if points else {}
    return known if place.rpcs is None else known | {"rpcs": place.rpcs}


@contextmanager
def replacing_map(path: Path) -> Iterator[Path]:
    """Write a GeoTIFF as :func:`replacing` does.

    GDAL writes a coordinate system that the keys of a GeoTIFF cannot hold into a second file, ``<name>.aux.xml``, which
    is put beside ``path``.
    """
    with replacing(path) as unfinished:
        written, wanted = (file.with_name(f"{file.name}.aux.xml") for file in (unfinished, path))
        try:
            yield unfinished
            if written.exists():
                written.replace(wanted)
            else:
                wanted.unlink(missing_ok=True)  # that of an older file
        finally:
            written.unlink(missing_ok=True)


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
            photometric="palette",
            compress="deflate",
            tiled=True,
            blockxsize=_BLOCK,
            blockysize=_BLOCK,
            bigtiff="if_safer",
            **_placed(place),
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
