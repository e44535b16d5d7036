"""A trained network as a function from an image to labels."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from weakseg_lightning.channels import Channels
from weakseg_lightning.checks import at_least
from weakseg_lightning.data.images.volumes import SLICE
from weakseg_lightning.data.text import counted
from weakseg_lightning.modules import WeakSegModule
from weakseg_lightning.prediction.loading import load_module
from weakseg_lightning.prediction.scoring import Scorer
from weakseg_lightning.prediction.tiling import Blend, MemoryRows, Rows, Span, spans
from weakseg_lightning.solvers import Refinement

Image = npt.NDArray[Any] | Tensor

_FAR = 50.0  # no value of a volume whose bulk is 0 to 1


class Segmenter:
    """Labels images of any size with a trained network.

    An image larger than a tile is predicted in tiles that overlap; probabilities are blended there with weights that
    sum to one. Outside the overlaps the result is that of the whole image, if the network sees no further than the
    overlap is wide and treats all places alike (LargeFOV, FCN32s, U-Net); everywhere, if it sees no further than a
    quarter of it. DeepLab and PSPNet pool the whole image, and encoders with squeeze-and-excitation too: there tiles
    are an approximation, as crops in training are.

    Args:
        checkpoint: a checkpoint that ``weakseg fit`` wrote, or a module.
        device: what the network runs on; a GPU by default, if there is one.
        tile: side of the tiles in pixels; images up to this size are predicted whole.
        overlap: what neighboring tiles share, in pixels, up to half of ``tile``; a little less with ``flip``.
        flip: average with the prediction for the mirror image.
        scales: average over the image resized by these factors.
        refinement: refines the prediction of each tile, as ``MeanField()``.

    Raises:
        ValueError: if an argument is out of range, or the file is no checkpoint of this package.
        FileNotFoundError: if there is no such checkpoint.

    Example:
        >>> segmenter = Segmenter("runs/adm_grid/version_0/checkpoints/last.ckpt")  # doctest: +SKIP
        >>> labels = segmenter(image)  # uint8 (H, W, 3) to uint8 (H, W)  # doctest: +SKIP
    """

    def __init__(
        self,
        checkpoint: str | Path | WeakSegModule,
        device: Literal["auto", "cpu", "cuda"] | torch.device = "auto",
        tile: int = 1024,
        overlap: int = 256,
        flip: bool = False,
        scales: Sequence[float] = (1.0,),
        refinement: Refinement | None = None,
    ) -> None:
        module = checkpoint if isinstance(checkpoint, WeakSegModule) else load_module(checkpoint)
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        at_least("tile", tile, 1)
        self.scorer = Scorer(module.to(device), flip, scales, refinement)
        self.tile = tile
        self.overlap = overlap
        alignment = self.scorer.alignment
        spans(2 * tile, tile, overlap, alignment)  # checks both
        for less in range(1, alignment if flip else 1):  # every width that an image may have
            try:
                spans(2 * tile, tile - less, overlap, alignment)
            except ValueError as error:
                raise ValueError(
                    f"`overlap` is too large for mirror images, got {overlap} of {tile} (tiles of this network begin "
                    f"and end at multiples of {alignment}): take a larger tile or a smaller overlap"
                ) from error

    @property
    def num_classes(self) -> int:
        """Classes K, background included."""
        return self.scorer.module.num_classes

    @property
    def class_names(self) -> list[str]:
        """Names of the classes that the network was trained on, background first; numbers in old checkpoints."""
        return list(self.scorer.module.names_or_numbers)

    @property
    def channels(self) -> Channels | None:
        """The channels of the images that the network was trained on; None for RGB."""
        return self.scorer.module.channels

    def __call__(self, image: Image) -> npt.NDArray[np.uint8]:
        """Label every pixel.

        Args:
            image: RGB, uint8 ``(H, W, 3)``; or the channels that the network was trained on, in the values of their
                files, ``(H, W, C)``. Volumes without `channels` have none of their own: slices, with their neighbors as
                channels, are given as fractions, 0 and 1 at the percentiles 0.1 and 99.9 of the volume (of uint8, 0 and
                255).

        Returns:
            Classes, uint8 ``(H, W)``; also of pixels without data, which an array does not tell from others.

        Raises:
            ValueError: if the image is not of this form, or holds what is no number.
        """
        return self.label_rows(_rows_of(image, self.channels))

    def probabilities(self, image: Image) -> npt.NDArray[np.float32]:
        """Score every pixel of an image as above: probabilities, float32 ``(K, H, W)``."""
        return self.score_rows(_rows_of(image, self.channels))

    def label_rows(self, image: Rows) -> npt.NDArray[np.uint8]:
        """Label an image as it was read for the network, channels scaled; ``(H, W)``."""
        labels = np.empty((image.height, image.width), dtype=np.uint8)
        for block in self.blocks(image):
            # the same as `argmax`, in a seventh to a third of the time on a CPU
            labels[block.place] = block.scores.max(0).indices.numpy()
        return labels

    def score_rows(self, image: Rows) -> npt.NDArray[np.float32]:
        """Score an image as it was read for the network: probabilities, ``(K, H, W)``."""
        found = np.empty((self.num_classes, image.height, image.width), dtype=np.float32)
        for block in self.blocks(image):
            found[:, *block.place] = block.scores.numpy()
        return found

    def blocks(self, image: Rows) -> Blend:
        """Score an image that is read incrementally.

        Args:
            image: gives its rows, from the top.

        Returns:
            Iterates over the finished parts, whose scores are probabilities: from the top and, within the same rows,
            from the left.
        """
        alignment = self.scorer.alignment
        rows = spans(image.height, self.tile, self.overlap, alignment)
        # In a mirror image the network's cells begin at the right border: tiles end at such a cell, too.
        less = (self.tile - image.width) % alignment if self.scorer.flip else 0
        columns = spans(image.width, self.tile - less, self.overlap, alignment)
        return Blend(rows, columns, _TileScores(image, self.scorer))


class _TileScores:
    """Scores of a tile; the rows of an image are read once for all tiles in them."""

    def __init__(self, image: Rows, scorer: Scorer) -> None:
        self.image = image
        self.scorer = scorer
        self._rows: Span | None = None
        self._band = np.empty((0, 0, 3), dtype=np.uint8)
        self._valid: npt.NDArray[np.bool_] | None = None

    def __call__(self, rows: Span, columns: Span) -> Tensor:
        if rows != self._rows:
            self._band, self._rows = self.image.read(rows), rows
            invalid = self.image.invalid(rows)
            self._valid = None if invalid is None or not invalid.any() else ~invalid
        tile = np.ascontiguousarray(self._band[:, columns.start : columns.stop])
        valid = None if self._valid is None else torch.from_numpy(self._valid[:, columns.start : columns.stop])
        return self.scorer(torch.from_numpy(tile).permute(2, 0, 1), valid)


def _rows_of(image: Image, channels: Channels | None) -> MemoryRows:
    if isinstance(image, str | Path):
        raise ValueError(f"`image` must be an array, got the path {str(image)!r}: read it, or use `weakseg predict`")
    pixels = image.detach().cpu().numpy() if isinstance(image, Tensor) else np.asarray(image)
    if channels is not None:
        if pixels.ndim != 3 or pixels.shape[2] != len(channels.names) or not pixels.size:
            wanted = f"(H, W, {len(channels.names)}) of the channels {', '.join(channels.names)}"
            raise ValueError(f"`image` must be {wanted}, got {pixels.shape}")
        if pixels.dtype.kind not in "buif":
            raise ValueError(f"`image` must hold real numbers, got {pixels.dtype}")
        if wrong := int((~np.isfinite(pixels)).any(-1).sum()):
            raise ValueError(f"`image` holds {counted(wrong, 'pixel')} with values that are no numbers: fill them in")
        if channels.given == [SLICE] and (most := float(np.abs(pixels).max())) > _FAR:
            raise ValueError(
                f"`image` holds values up to {most:g}, expected slices of a volume as fractions: 0 and 1 at its "
                "percentiles 0.1 and 99.9 (of uint8, 0 and 255)"
            )
        planes = [*np.moveaxis(pixels, -1, 0)]
        if channels.given != [SLICE] and (doubt := channels.doubt(planes)) is not None:
            warnings.warn(f"`image` {doubt}", stacklevel=3)
        return MemoryRows(channels.scaled(planes).permute(1, 2, 0).numpy())
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise ValueError(f"`image` must be RGB, uint8 (H, W, 3), got {pixels.dtype} {pixels.shape}")
    return MemoryRows(pixels)
