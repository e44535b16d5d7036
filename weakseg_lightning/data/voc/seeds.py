"""Sources of the labelled pixels of a training image: files of scribbles, clicks, or the mask."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from typing_extensions import override

from weakseg_lightning.data.images.reading import image_size, read_labels
from weakseg_lightning.data.samples import BadSampleError
from weakseg_lightning.data.scribbles.strokes import Stroke, draw_strokes, read_scribble_xml, shorten, shorten_labels
from weakseg_lightning.data.weak_labels import Click, boxes_from_mask, draw_clicks, seeds_from_boxes
from weakseg_lightning.energies.potts import VOID

__all__ = ["ClickSeeds", "MaskSeeds", "PNGScribbles", "SeedReader", "XMLScribbles"]


class SeedReader(ABC):
    """Finds the seeds of an image by its name."""

    @abstractmethod
    def origin(self, name: str) -> str:
        """Say where the seeds of an image come from, for error messages."""

    @abstractmethod
    def read(self, name: str, mask: Tensor) -> Tensor:
        """Read the seeds of an image.

        Args:
            name: name of the image.
            mask: its mask, uint8 ``(H, W)``.

        Returns:
            uint8 ``(H, W)``, 255 = unlabelled.

        Raises:
            BadSampleError: if they cannot be used.
        """

    def find_problem(self, name: str, size: tuple[int, int]) -> str | None:
        """Look for a problem without reading everything; ``size`` is (width, height) of the image."""
        return None


@dataclass(frozen=True)
class PNGScribbles(SeedReader):
    """Scribbles as label maps: gray or palette PNGs, stored value = class, 255 or transparent = unlabelled.

    Args:
        folder: folder of ``<name>.png``.
        length: fraction of each stroke that is kept, about its middle; 0 leaves a click.
    """

    folder: Path
    length: float = 1.0

    @override
    def origin(self, name: str) -> str:
        return str(self.folder / f"{name}.png")

    @override
    def read(self, name: str, mask: Tensor) -> Tensor:
        labels = read_labels(self.folder / f"{name}.png")
        if self.length < 1:
            labels = torch.from_numpy(shorten_labels(labels.numpy(), self.length))
        return _some_label(labels, self.origin(name))

    @override
    def find_problem(self, name: str, size: tuple[int, int]) -> str | None:
        return find_size_problem(self.folder / f"{name}.png", size)


@dataclass(frozen=True)
class XMLScribbles(SeedReader):
    """Scribbles as polylines in the XML of ScribbleSup, drawn 3 pixels wide.

    Args:
        folder: folder of ``<name>.xml``.
        class_names: names of the classes, in the order of their indices.
        length: fraction of each polyline that is kept, about its middle; 0 leaves a click.
    """

    folder: Path
    class_names: Sequence[str]
    length: float = 1.0

    @override
    def origin(self, name: str) -> str:
        return str(self.folder / f"{name}.xml")

    @override
    def read(self, name: str, mask: Tensor) -> Tensor:
        height, width = mask.shape
        strokes = read_scribble_xml(self.folder / f"{name}.xml", self.class_names, (width, height))
        kept = [Stroke(shorten(stroke.points, self.length), stroke.label) for stroke in strokes]
        return _some_label(torch.from_numpy(draw_strokes(kept, height, width)), self.origin(name))

    @override
    def find_problem(self, name: str, size: tuple[int, int]) -> str | None:
        if (self.folder / f"{name}.xml").is_file():
            return None
        return f"{self.origin(name)} is missing: restore it, or take the image out of the split's list"


@dataclass(frozen=True)
class ClickSeeds(SeedReader):
    """Clicks, drawn as squares of 3 x 3.

    Args:
        clicks: clicks by the name of the image.
        files: names of the files that they come from, for error messages.
    """

    clicks: Mapping[str, Sequence[Click]]
    files: str

    @override
    def origin(self, name: str) -> str:
        return f"the entry {name!r} of {self.files}"

    @override
    def read(self, name: str, mask: Tensor) -> Tensor:
        height, width = mask.shape
        seeds = draw_clicks(self.clicks.get(name, ()), height, width)
        return _some_label(torch.from_numpy(seeds), self.origin(name))

    @override
    def find_problem(self, name: str, size: tuple[int, int]) -> str | None:
        if self.clicks.get(name):
            return None
        return f"{self.origin(name)} has no click: add one, or take the image out of the split's list"


@dataclass(frozen=True)
class MaskSeeds(SeedReader):
    """Seeds derived from the mask.

    Args:
        kind: ``"full"``: all of the mask; ``"tags"``: none; ``"box"``: background outside the boxes of all objects.
    """

    kind: Literal["full", "tags", "box"]

    @override
    def origin(self, name: str) -> str:
        return f"the seeds of {name!r}, from its mask,"

    @override
    def read(self, name: str, mask: Tensor) -> Tensor:
        if self.kind == "full":
            return mask
        if self.kind == "tags":
            return torch.full_like(mask, VOID)
        return seeds_from_boxes(boxes_from_mask(mask), *mask.shape, mask=mask)


def find_size_problem(path: Path, size: tuple[int, int]) -> str | None:
    """Compare the size of an annotation's file with that of its image, (width, height), from the file's header."""
    try:
        found = image_size(path)
    except BadSampleError as error:
        return str(error)
    if found == size:
        return None
    return f"{path} has {found[0]} x {found[1]} pixels, its image {size[0]} x {size[1]}: annotate the image at its size"


def _some_label(seeds: Tensor, origin: str) -> Tensor:
    if bool((seeds == VOID).all()):
        raise BadSampleError(f"{origin} has no labelled pixel: label some, or take the image out of the split's list")
    return seeds
