"""`weakseg predict` without IMAGES: label maps of images that lie on a map become GeoTIFFs at their places."""

import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from lightning.pytorch import Trainer
from PIL import Image

from weakseg_lightning.callbacks import PredictionWriter
from weakseg_lightning.callbacks.pictures import file_stem
from weakseg_lightning.channels import Channels
from weakseg_lightning.data import BadSampleError, SampleSource, SegmentationDataModule
from weakseg_lightning.energies.potts import VOID
from weakseg_lightning.prediction.channel_rows import ChannelMapRows, open_channels
from weakseg_lightning.prediction.maps import GeoTiff, is_map, replacing_map
from weakseg_lightning.prediction.rasters import MapRows, is_turned, open_rows
from weakseg_lightning.prediction.regions import Region
from weakseg_lightning.prediction.tiling import Span
from weakseg_lightning.visualization.panels import Colors, voc_palette

__all__ = ["place_predictions", "place_run"]

_STRIP = 256  # rows that are read at once


def place_run(trainer: Trainer, data: SegmentationDataModule, channels: Channels | None) -> None:
    """Do so with what a trainer has written, see :func:`place_predictions`."""
    for writer in trainer.callbacks if trainer.is_global_zero else []:  # type: ignore[attr-defined]
        if isinstance(writer, PredictionWriter):
            place_predictions(data.predict_source(), writer.folder / "labels", data.class_names, data.palette, channels)


def place_predictions(
    source: SampleSource, folder: Path, class_names: Sequence[str], palette: Colors, channels: Channels | None
) -> None:
    """Replace PNGs of labels by what `weakseg predict ... IMAGES` writes, where the images lie on a map.

    Args:
        source: the images.
        folder: the PNGs.
        class_names: names of the classes, background first.
        palette: their colors.
        channels: of the images that the network was trained on; None for RGB.
    """
    colors = voc_palette()
    colors[: len(palette)] = palette
    for index, name in enumerate(source.ids):
        path, png = Path(source.origin(index, "image")), folder / f"{file_stem(name)}.png"
        try:
            if png.is_file() and path.is_file() and is_map(path):
                _place(path, png, class_names, colors, channels)
        except BadSampleError as error:
            warnings.warn(f"{png} has no place on a map: {error}", stacklevel=2)


def _place(path: Path, png: Path, class_names: Sequence[str], colors: Colors, channels: Channels | None) -> None:
    with Image.open(png) as file:
        labels = np.array(file)
    with _opened(path, channels) as image:
        if (image.height, image.width) != labels.shape or is_turned(path):
            turned = "its EXIF data turn it: remove the tag Orientation"
            raise BadSampleError(f"{path} has {image.width} x {image.height} pixels there, {turned}")
        if not isinstance(image, MapRows | ChannelMapRows):
            return
        _leave_out(image, labels)
        place = image.place
    height, width = labels.shape
    with (
        replacing_map(png.with_suffix(".tif")) as target,
        GeoTiff(target, width, height, colors, place, class_names) as placed,
    ):
        placed.write(labels)
    png.unlink()


def _opened(path: Path, channels: Channels | None) -> AbstractContextManager[Any]:
    return open_rows(path) if channels is None else open_channels(path, channels, Region())


def _leave_out(image: MapRows | ChannelMapRows, labels: npt.NDArray[np.uint8]) -> None:
    """Write no label where an image has no data."""
    for start in range(0, image.height, _STRIP):
        rows = Span(start, min(start + _STRIP, image.height))
        image.read(rows)
        labels[start : rows.stop][image.invalid(rows)] = VOID
