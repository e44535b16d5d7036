"""Writes what `weakseg predict` finds in IMAGES: labels, and what else is wanted."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from weakseg_lightning.callbacks.pictures import check_writable, file_stem
from weakseg_lightning.cli.commands.predict.cutting import CutImage, ImageCutter
from weakseg_lightning.cli.commands.predict.options import ImageOptions
from weakseg_lightning.data import BadSampleError
from weakseg_lightning.data.folder.labels import DrawnLabels
from weakseg_lightning.data.images.nifti import is_volume
from weakseg_lightning.data.images.volumes import VolumeReader
from weakseg_lightning.data.text import counted
from weakseg_lightning.energies.potts import VOID
from weakseg_lightning.errors import UserError
from weakseg_lightning.files import replacing
from weakseg_lightning.prediction.channel_rows import ChannelMapRows, open_channels
from weakseg_lightning.prediction.geojson import require_crs, write_geojson
from weakseg_lightning.prediction.maps import GeoTiff, Place, replacing_map
from weakseg_lightning.prediction.objects import ImageObjects, ObjectTable, VolumeObjects
from weakseg_lightning.prediction.outputs import (
    LabelFile,
    LabelRows,
    PalettePng,
    Reduced,
    WatchedRows,
    open_probabilities,
)
from weakseg_lightning.prediction.polygons import CocoPolygons, require_rasterio
from weakseg_lightning.prediction.rasters import MapRows, open_rows
from weakseg_lightning.prediction.regions import Region
from weakseg_lightning.prediction.segmenter import Segmenter
from weakseg_lightning.prediction.tiling import Blend, Block, Span
from weakseg_lightning.prediction.volumes import predict_volume
from weakseg_lightning.visualization.panels import Colors, overlay, voc_palette

__all__ = ["ImageWriter"]

_OVERLAY = 4096  # longest side of an overlay, in pixels
_LONGEST = 220  # bytes of the 255 of a file name: suffixes and the marks of unfinished files are the rest


class ImageWriter:
    """Writes labels, and what else is wanted, of one file after the other."""

    def __init__(
        self,
        segmenter: Segmenter,
        folder: Path,
        options: ImageOptions,
        classes: tuple[Sequence[str], Colors],
        overlays: bool,
        volumes: VolumeReader,
        drawn: DrawnLabels | None = None,
    ) -> None:
        self.segmenter = segmenter
        self.volumes = volumes
        self.drawn = drawn
        cut = options.graph_cut()
        self.cutter = None if cut is None else ImageCutter(cut, segmenter, self._opened, drawn)
        others = ("polygons", "geojson", "window", "bounds")
        self.not_of_volumes = [name for name in others if getattr(options, name)]
        self.folder = folder
        self.names, self.palette = classes
        self.polygons = CocoPolygons(self.names) if options.polygons else None
        self.objects = ObjectTable(self.names, segmenter.channels) if options.objects else None
        self.region = Region(options.window, options.bounds)
        self._show = None if segmenter.channels is None else segmenter.channels.picture
        if options.geojson:
            require_rasterio()
        wanted = {"overlays": overlays, "probabilities": options.probabilities, "geojson": options.geojson}
        self.kinds = ["labels", *(kind for kind, is_wanted in wanted.items() if is_wanted)]
        self.difference = 0.0
        self._done = 0
        for kind in self.kinds:
            check_writable(folder / kind)

    def run(self, images: dict[str, Path]) -> list[str]:
        """Label all images; the names of those that cannot be read.

        The tables of what is done are also written where the run is ended by an error.

        Raises:
            UserError: if names are too long for files.
            OSError: if the results cannot be written.
        """
        _require_short(images)
        try:
            bad = self._label(images)
        except BaseException:
            if self._done:
                self._write_tables()
            raise
        self._write_tables()
        return bad

    def _label(self, images: dict[str, Path]) -> list[str]:
        bad: list[str] = []
        last: BadSampleError | None = None
        with _progress() as progress:
            files = progress.add_task("images", total=len(images))
            for name, path, ready in self._with_labels(images):
                try:
                    self._predict(name, path, progress, ready)
                    self._done += 1
                except BadSampleError as error:
                    bad.append(name)
                    if error is not last:  # that of a case is told once
                        text = f"weakseg: left out: {error}"
                        progress.console.print(text, markup=False, highlight=False, soft_wrap=True)
                    last = error
                progress.advance(files)
        return bad

    def _write_tables(self) -> None:
        if self.polygons is not None:
            with replacing(self.folder / "polygons.json") as path:
                self.polygons.write(path)
        if self.objects is not None:
            with replacing(self.folder / "objects.csv") as path:
                self.objects.write(path)

    def _with_labels(self, images: dict[str, Path]) -> Iterator[tuple[str, Path, CutImage | BadSampleError | None]]:
        """The images, with their labels where these are known before they are written."""
        if self.cutter is None:
            yield from ((name, path, None) for name, path in images.items())
            return
        for group in self.cutter.groups(images):
            ready = {} if is_volume(group[0][1]) else self.cutter.labels(group)
            self.difference = max(self.difference, self.cutter.difference)
            for name, path in group:
                yield name, path, ready.pop(name, None)

    def _predict_volume(self, name: str, path: Path, progress: Progress) -> None:
        if self.not_of_volumes:
            options = ", ".join(f"--images.{option}" for option in self.not_of_volumes)
            raise BadSampleError(f"{path} is a volume, which {options} cannot be used for: leave it out")
        stem = file_stem(name)
        target = self.folder / "labels" / f"{stem}.nii.gz"
        probabilities = self.folder / "probabilities" / f"{stem}.npy" if "probabilities" in self.kinds else None
        objects = VolumeObjects(self.volumes.header(path))
        slices = progress.add_task(name[-30:].replace("[", "("), total=self.volumes.header(path).depth)
        drawn = None if self.drawn is None else partial(self.drawn.seeds, path)
        cut = None if self.cutter is None else self.cutter.cut
        for one in predict_volume(self.segmenter, self.volumes, path, target, probabilities, cut, drawn):
            if "overlays" in self.kinds:
                self._write_overlay(f"{stem}_slice_{one.number}", one.picture, one.labels)
            if self.objects is not None:
                objects.add(one.labels, np.stack(self.volumes.values(path, one.number), axis=-1))
            progress.advance(slices)
        progress.remove_task(slices)
        if self.objects is not None:
            self.objects.add_volume(_shown_name(name, path), objects, self.volumes.value_names)

    def _write_overlay(self, stem: str, pixels: Any, labels: Any) -> None:
        with replacing(self.folder / "overlays" / f"{stem}.jpg") as target:
            overlay(pixels, labels, self.palette).save(target, format="JPEG", quality=92, subsampling=0)

    def _predict(self, name: str, path: Path, progress: Progress, ready: CutImage | BadSampleError | None) -> None:
        if isinstance(ready, BadSampleError):
            raise ready
        if is_volume(path):
            self._predict_volume(name, path, progress)
            return
        stem = file_stem(name)
        with self._opened(path) as image, ExitStack() as stack:
            place = image.place if isinstance(image, MapRows | ChannelMapRows) else None
            if "geojson" in self.kinds:
                require_crs(path, place)
            size = image.height, image.width
            labels, file = self._label_file(stack, stem, size, place)
            small = Reduced(*size, _OVERLAY), Reduced(*size, _OVERLAY, channels=3, show=self._show)
            objects = None if self.objects is None else ImageObjects(image.width)
            watched = WatchedRows(image, small[1], keep=objects is not None)
            blocks = self.segmenter.blocks(watched) if ready is None else ready.blocks(watched)
            probabilities = self._probabilities(stack, stem, size)
            rows = LabelRows(image.width)
            tiles = progress.add_task(name[-30:].replace("[", "("), total=len(blocks))
            for block in blocks:
                if probabilities is not None:
                    _put(probabilities, block)
                if (complete := rows.add(block) if ready is None else ready.labels) is not None:
                    if (invalid := image.invalid(block.rows)) is not None:
                        _leave_out(invalid, complete, probabilities, block.rows)
                    file.write(complete)
                    small[0].add(block.rows.start, complete)
                    if objects is not None:
                        objects.add(complete, watched.take(block.rows))
                progress.advance(tiles)
            progress.remove_task(tiles)
        if isinstance(blocks, Blend):
            self.difference = max(self.difference, blocks.difference)
        if "overlays" in self.kinds:
            self._write_overlay(stem, small[1].pixels, small[0].pixels)
        if "geojson" in self.kinds:
            with replacing(self.folder / "geojson" / f"{stem}.geojson") as target:
                write_geojson(target, labels, self.names)
        shown_name = _shown_name(name, path)
        if self.polygons is not None:
            self.polygons.add(shown_name, labels)
        if self.objects is not None and objects is not None:
            self.objects.add(shown_name, objects, place)

    def _opened(self, path: Path) -> AbstractContextManager[Any]:
        if self.segmenter.channels is not None:
            return open_channels(path, self.segmenter.channels, self.region)
        return open_rows(path, region=self.region)

    def _label_file(
        self, stack: ExitStack, stem: str, size: tuple[int, int], place: Place | None
    ) -> tuple[Path, LabelFile]:
        """Open the file of an image's labels, which is finished with the stack."""
        height, width = size
        palette = voc_palette()
        palette[: len(self.palette)] = self.palette
        path = self.folder / "labels" / f"{stem}.{'png' if place is None else 'tif'}"
        if place is None:
            target = stack.enter_context(replacing(path))
            return path, stack.enter_context(PalettePng(target, width, height, palette))
        target = stack.enter_context(replacing_map(path))
        return path, stack.enter_context(GeoTiff(target, width, height, palette, place, self.names))

    def _probabilities(self, stack: ExitStack, stem: str, size: tuple[int, int]) -> Any:
        if "probabilities" not in self.kinds:
            return None
        path = stack.enter_context(replacing(self.folder / "probabilities" / f"{stem}.npy"))
        return open_probabilities(path, (self.segmenter.num_classes, *size))


def _shown_name(name: str, path: Path) -> str:
    """An image's file in tables: with as many folders as its name has."""
    return Path(*path.parts[-len(Path(name).parts) :]).as_posix()


def _require_short(images: dict[str, Path]) -> None:
    """Raise ``UserError`` if names are too long for files."""
    long = [path for name, path in images.items() if len(os.fsencode(file_stem(name))) > _LONGEST]
    if long:
        raise UserError(
            f"names of {counted(len(long), 'image')} are too long for files of results, as that of {long[0]}: name the "
            "folders that hold the images instead of one far above them, or rename these"
        )


def _put(probabilities: Any, block: Block) -> None:
    rows, columns = block.rows, block.columns
    probabilities[:, rows.start : rows.stop, columns.start : columns.stop] = block.scores.numpy()


def _leave_out(invalid: Any, labels: Any, probabilities: Any, rows: Span) -> None:
    """Labels and probabilities of some rows where the image has no data."""
    labels[invalid] = VOID
    if probabilities is not None:
        probabilities[:, rows.start : rows.stop][:, invalid] = np.nan


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())
