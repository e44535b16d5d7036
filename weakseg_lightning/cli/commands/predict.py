"""`weakseg predict ... IMAGES`: any images, also larger than memory, from files to files."""

import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from weakseg_lightning.callbacks.pictures import check_writable, file_stem
from weakseg_lightning.cli.commands.places import shown
from weakseg_lightning.data import BadSampleError
from weakseg_lightning.data.images.nifti import is_volume, volume_name
from weakseg_lightning.data.images.volumes import VolumeReader
from weakseg_lightning.energies.potts import VOID
from weakseg_lightning.errors import UserError, raise_as_users
from weakseg_lightning.files import replacing
from weakseg_lightning.modules import WeakSegModule
from weakseg_lightning.prediction.channel_rows import ChannelMapRows, open_channels
from weakseg_lightning.prediction.geojson import require_crs, write_geojson
from weakseg_lightning.prediction.maps import GeoTiff, Place
from weakseg_lightning.prediction.objects import ImageObjects, ObjectTable, VolumeObjects
from weakseg_lightning.prediction.outputs import LabelFile, LabelRows, PalettePng, Reduced, WatchedRows
from weakseg_lightning.prediction.polygons import CocoPolygons, require_rasterio
from weakseg_lightning.prediction.rasters import MapRows, open_rows
from weakseg_lightning.prediction.regions import Region
from weakseg_lightning.prediction.segmenter import Segmenter
from weakseg_lightning.prediction.tiling import Block, Span
from weakseg_lightning.prediction.volumes import predict_volume
from weakseg_lightning.solvers import Refinement
from weakseg_lightning.visualization.panels import Colors, overlay, voc_palette

__all__ = ["ImageOptions", "predict_images"]

_OVERLAY = 4096  # longest side of an overlay, in pixels
_NOTICEABLE = 0.1


@dataclass(frozen=True)
class ImageOptions:
    """Settings of `weakseg predict` for the IMAGES that stand on the command line.

    An image larger than a tile is predicted in tiles that overlap; probabilities are blended there. Labels of images
    that lie on a map, as GeoTIFFs and virtual rasters (VRT) do, are GeoTIFFs at the same place, which need the package
    rasterio; where the image has no data, they have none. Volumes (NIfTI) are labeled by slices; their labels are
    volumes in their space.

    Args:
        tile: side of the tiles in pixels; images up to this size are predicted whole.
        overlap: what neighboring tiles share, in pixels, up to half of `tile`.
        flip: average with the prediction for the mirror image.
        scales: average over the image resized by these factors, as [0.75, 1, 1.25].
        probabilities: write probabilities, too, as NumPy files of float16 (K, H, W); of volumes (K, slices, H, W).
        polygons: write the regions of all images as polygons, too, in one JSON file in COCO's format.
        objects: write a table of the connected objects of all images, too, in one CSV file: class, area, box, center,
            mean color or means of the channels; of images that lie on a map, also center and area in its units (the
            area in square meters where these are degrees). Those of volumes are connected in 3-D: also slices, volume
            in mm3, center in space, means of the files' values.
        geojson: write the regions of each image as polygons, too, in longitude and latitude (WGS 84), as GeoJSON; for
            images with a coordinate system alone. They are not cut at the antimeridian.
        window: the part of each image that is predicted, [column, row, width, height] in pixels; what is written begins
            there.
        bounds: the same in the coordinates of images that lie on a map, [left, bottom, right, top].
    """

    tile: int = 1024
    overlap: int = 256
    flip: bool = False
    scales: tuple[float, ...] = (1.0,)
    probabilities: bool = False
    polygons: bool = False
    objects: bool = False
    geojson: bool = False
    window: tuple[int, int, int, int] | None = None
    bounds: tuple[float, float, float, float] | None = None


def predict_images(
    images: dict[str, Path],
    module: WeakSegModule,
    folder: Path,
    options: ImageOptions,
    overlays: bool = True,
    accelerator: str = "auto",
    refinement: Refinement | None = None,
    classes: tuple[Sequence[str], Colors] | None = None,
    volumes: VolumeReader | None = None,
) -> int:
    """Label images and write the results; files that cannot be read are named and left out.

    Args:
        images: files by their names.
        module: the trained network.
        folder: folder for the results.
        options: how and what.
        overlays: whether to draw overlays, of at most 4096 pixels a side.
        accelerator: as Lightning's trainer has it.
        refinement: refines the prediction of each tile.
        classes: names and colors; by default the names that the network was trained on, and PASCAL VOC's colors.
        volumes: reads volumes as the network was trained on them; by default slices along the thickest axis.

    Returns:
        The exit status: 0, or 1 if a file was left out.

    Raises:
        UserError: if the network is of another number of classes.
        OSError: if the results cannot be written.
    """
    device = _device(accelerator)
    with raise_as_users("Segmenter"):
        segmenter = Segmenter(module, device, options.tile, options.overlap, options.flip, options.scales, refinement)
    names, palette = classes or (segmenter.class_names, voc_palette(segmenter.num_classes))
    if len(names) != segmenter.num_classes:
        raise UserError(
            f"the checkpoint has {segmenter.num_classes} classes, the data {len(names)}: "
            "give the config.yaml of its run"
        )
    writer = _Writer(segmenter, folder, options, (names, palette), overlays, volumes or VolumeReader())
    bad = writer.run(images)
    done = len(images) - len(bad)
    print(f"Labelled {done} of {len(images)} images: predictions are in {shown(folder)}")
    if bad:
        print(f"Left out {len(bad)}: {', '.join(bad[:5])}{', ...' if len(bad) > 5 else ''}")
    if writer.difference > _NOTICEABLE:
        print(
            f"Neighboring tiles differ by up to {writer.difference:.2f} in a probability: the network sees further "
            "than the overlap; a larger --images.tile and --images.overlap lessen that"
        )
    return 1 if bad else 0


class _Writer:
    """Writes labels, and what else is wanted, of one file after the other."""

    def __init__(
        self,
        segmenter: Segmenter,
        folder: Path,
        options: ImageOptions,
        classes: tuple[Sequence[str], Colors],
        overlays: bool,
        volumes: VolumeReader,
    ) -> None:
        self.segmenter = segmenter
        self.volumes = volumes
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
        for kind in self.kinds:
            check_writable(folder / kind)

    def run(self, images: dict[str, Path]) -> list[str]:
        """Label all images; the names of those that cannot be read."""
        bad = []
        with _progress() as progress:
            files = progress.add_task("images", total=len(images))
            for name, path in images.items():
                try:
                    self._predict(name, path, progress)
                except BadSampleError as error:
                    bad.append(name)
                    progress.console.print(f"weakseg: left out: {error}", markup=False, highlight=False, soft_wrap=True)
                progress.advance(files)
        if self.polygons is not None:
            with replacing(self.folder / "polygons.json") as path:
                self.polygons.write(path)
        if self.objects is not None:
            with replacing(self.folder / "objects.csv") as path:
                self.objects.write(path)
        return bad

    def _predict_volume(self, name: str, path: Path, progress: Progress) -> None:
        if self.not_of_volumes:
            options = ", ".join(f"--images.{option}" for option in self.not_of_volumes)
            raise BadSampleError(f"{path} is a volume, which {options} cannot be used for: leave it out")
        stem = file_stem(name)
        target = self.folder / "labels" / f"{stem}.nii.gz"
        chances = self.folder / "probabilities" / f"{stem}.npy" if "probabilities" in self.kinds else None
        objects = VolumeObjects(self.volumes.head(path))
        slices = progress.add_task(name[-30:].replace("[", "("), total=self.volumes.head(path).depth)
        for one in predict_volume(self.segmenter, self.volumes, path, target, chances):
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

    def _predict(self, name: str, path: Path, progress: Progress) -> None:
        if is_volume(path):
            self._predict_volume(name, path, progress)
            return
        stem = file_stem(name)
        with self._opened(path) as image, ExitStack() as stack:
            on_map = image if isinstance(image, MapRows | ChannelMapRows) else None
            place = None if on_map is None else on_map.place
            if "geojson" in self.kinds:
                require_crs(path, place)
            size = image.height, image.width
            labels, file = self._label_file(stack, stem, size, place)
            small = Reduced(*size, _OVERLAY), Reduced(*size, _OVERLAY, channels=3, show=self._show)
            objects = None if self.objects is None else ImageObjects(image.width)
            watched = WatchedRows(image, small[1], keep=objects is not None)
            blend = self.segmenter.blocks(watched)
            chances = self._probabilities(stack, stem, size)
            rows = LabelRows(image.width)
            tiles = progress.add_task(name[-30:].replace("[", "("), total=len(blend))
            for block in blend:
                if chances is not None:
                    _put(chances, block)
                if (complete := rows.add(block)) is not None:
                    if on_map is not None:
                        _leave_out(on_map.invalid(block.rows), complete, chances, block.rows)
                    file.write(complete)
                    small[0].add(block.rows.start, complete)
                    if objects is not None:
                        objects.add(complete, watched.take(block.rows))
                progress.advance(tiles)
            progress.remove_task(tiles)
        self.difference = max(self.difference, blend.difference)
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
        return open_rows(path, region=self.region, invalid_color=self.segmenter.neutral_color)

    def _label_file(
        self, stack: ExitStack, stem: str, size: tuple[int, int], place: Place | None
    ) -> tuple[Path, LabelFile]:
        """Open the file of an image's labels, which is finished with the stack."""
        height, width = size
        palette = voc_palette()
        palette[: len(self.palette)] = self.palette
        path = self.folder / "labels" / f"{stem}.{'png' if place is None else 'tif'}"
        target = stack.enter_context(replacing(path))
        if place is None:
            return path, stack.enter_context(PalettePng(target, width, height, palette))
        return path, stack.enter_context(GeoTiff(target, width, height, palette, place, self.names))

    def _probabilities(self, stack: ExitStack, stem: str, size: tuple[int, int]) -> Any:
        if "probabilities" not in self.kinds:
            return None
        path = stack.enter_context(replacing(self.folder / "probabilities" / f"{stem}.npy"))
        shape = (self.segmenter.num_classes, *size)
        return np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=shape)


def _shown_name(name: str, path: Path) -> str:
    """An image's name in tables: with its suffix, and below the given folder."""
    if "/" not in name:
        return path.name
    return name + (path.name.removeprefix(volume_name(path)) if is_volume(path) else path.suffix)


def _put(chances: Any, block: Block) -> None:
    rows, columns = block.rows, block.columns
    chances[:, rows.start : rows.stop, columns.start : columns.stop] = block.scores.numpy()


def _leave_out(invalid: Any, labels: Any, chances: Any, rows: Span) -> None:
    """Labels and probabilities of some rows where the image has no data."""
    labels[invalid] = VOID
    if chances is not None:
        chances[:, rows.start : rows.stop][:, invalid] = np.nan


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())


def _device(accelerator: str) -> Any:
    """The torch device of one of Lightning's accelerators."""
    if accelerator in ("auto", "cpu"):
        return accelerator
    if accelerator in ("gpu", "cuda") and torch.cuda.is_available():
        return "cuda"
    if accelerator in ("gpu", "mps") and torch.backends.mps.is_available():
        return torch.device("mps")
    raise UserError(f"`trainer.accelerator` is {accelerator}, which torch does not find here: take auto or cpu")
