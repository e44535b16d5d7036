"""The labels of `weakseg predict … --images.cut`: of the slices of a case together, of other images one by one."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from weakseg_lightning.data import BadSampleError
from weakseg_lightning.data.folder.labels import DrawnLabels
from weakseg_lightning.data.samples import CaseSlice
from weakseg_lightning.prediction.channel_rows import ChannelMapRows
from weakseg_lightning.prediction.cut import GraphCut, SlicesToCut, TooLargeError
from weakseg_lightning.prediction.rasters import MapRows, is_turned
from weakseg_lightning.prediction.segmenter import Segmenter
from weakseg_lightning.prediction.tiling import Block, MemoryRows, Rows, Span

__all__ = ["CutImage", "ImageCutter"]

Named = tuple[str, Path]


class CutImage(NamedTuple):
    """An image whose labels are known: its probabilities ``(K, H, W)``, and labels ``(H, W)``."""

    scores: NDArray[np.float32]
    labels: NDArray[np.uint8]

    def blocks(self, image: Rows) -> list[Block]:
        """The scores as those of one part, after reading the image."""
        height, width = self.labels.shape
        image.read(Span(0, height))
        return [Block(Span(0, height), Span(0, width), torch.from_numpy(self.scores))]


class ImageCutter:
    """Cuts images.

    Args:
        cut: finds the labels.
        segmenter: the trained network.
        opened: opens a file by rows.
        drawn: what is drawn on the images of the data's folder; None for nothing.

    Attributes:
        difference: the most by which neighboring tiles differed in a probability.
    """

    def __init__(
        self,
        cut: GraphCut,
        segmenter: Segmenter,
        opened: Callable[[Path], AbstractContextManager[Any]],
        drawn: DrawnLabels | None,
    ) -> None:
        self.cut = cut
        self.difference = 0.0
        self._segmenter = segmenter
        self._opened = opened
        self._drawn = drawn

    def groups(self, images: Mapping[str, Path]) -> Iterator[list[Named]]:
        """Yield the images that are cut together: the slices of a case in their order, others alone."""
        groups: dict[str, list[tuple[int, Named]]] = {}
        for name, path in images.items():
            case = self._case(path)
            group, place = (f"image {name}", 0) if case is None else (f"case {case.case}", case.place)
            groups.setdefault(group, []).append((place, (name, path)))
        yield from ([image for _, image in sorted(group)] for group in groups.values())

    def labels(self, images: Sequence[Named]) -> dict[str, CutImage | BadSampleError]:
        """Find the labels of a group by name, or the error for which an image has none."""
        case = self._case(images[0][1])
        together = SlicesToCut() if case is None else SlicesToCut(case.spacing)
        what = str(images[0][1]) if case is None else f"the case {case.case!r} of {len(images)} slices"
        found: dict[str, CutImage | BadSampleError] = {}
        taken = []
        for name, path in images:
            try:
                self._add(together, path, what, len(images))
                taken.append(name)
            except TooLargeError as error:
                return {name: error for name, _ in images}
            except BadSampleError as error:
                found[name] = error
        if not taken:
            return found
        try:
            cut = self.cut.labels(together, what)
        except BadSampleError as error:
            return {name: found.get(name, error) for name, _ in images}
        return found | {name: CutImage(*one) for name, *one in zip(taken, together.scores, cut, strict=True)}

    def _case(self, path: Path) -> CaseSlice | None:
        return None if self._drawn is None else self._drawn.case(path)

    def _add(self, together: SlicesToCut, path: Path, what: str, slices: int) -> None:
        """Score an image, and add it to those that are cut with it."""
        case = self._case(path)
        with self._opened(path) as image:
            height, width = image.height, image.width
            self.cut.require_fits(what, height * width * slices, self._segmenter.num_classes)
            pixels = image.read(Span(0, height))
            invalid = image.invalid(Span(0, height))
            on_map = isinstance(image, MapRows | ChannelMapRows)
        seeds = None if self._drawn is None else self._drawn.seeds(path)
        if seeds is not None and on_map and is_turned(path):
            raise BadSampleError(
                f"{path} lies on a map, and its EXIF data turn it, so that strokes have other places there: remove the "
                "tag Orientation"
            )
        scores = np.empty((self._segmenter.num_classes, height, width), dtype=np.float32)
        blend = self._segmenter.blocks(MemoryRows(pixels, None if invalid is None else ~invalid))
        for block in blend:
            scores[:, *block.place] = block.scores.numpy()
        self.difference = max(self.difference, blend.difference)
        channels = self._segmenter.channels
        picture = pixels if channels is None else channels.picture(pixels)
        together.add(scores, picture, seeds, invalid, None if case is None else case.place)
