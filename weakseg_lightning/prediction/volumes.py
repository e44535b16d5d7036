"""Volumes as a trained network labels them: slice by slice, into the space of the image."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from weakseg_lightning.channels import Channels
from weakseg_lightning.data.images.volumes import SLICE, VolumeReader
from weakseg_lightning.data.samples import BadSampleError
from weakseg_lightning.files import replacing
from weakseg_lightning.prediction.cut import GraphCut, SlicesToCut
from weakseg_lightning.prediction.outputs import open_probabilities
from weakseg_lightning.prediction.segmenter import Segmenter
from weakseg_lightning.prediction.tiling import MemoryRows

__all__ = ["LabeledSlice", "predict_volume"]


class LabeledSlice(NamedTuple):
    """A slice that is labeled.

    Attributes:
        number: its place in their order, from 0.
        picture: the slice as RGB, uint8 ``(H, W, 3)``.
        labels: classes, uint8 ``(H, W)``.
    """

    number: int
    picture: NDArray[np.uint8]
    labels: NDArray[np.uint8]


def predict_volume(
    segmenter: Segmenter,
    reader: VolumeReader,
    path: Path,
    target: Path,
    probabilities: Path | None = None,
    cut: GraphCut | None = None,
    drawn: Callable[[int], Tensor | None] | None = None,
) -> Iterator[LabeledSlice]:
    """Label a volume and write its labels, uint8 in the shape, space and order of voxels of the image.

    Args:
        segmenter: the trained network.
        reader: reads the slices, along the axis and with the neighbors and channels that the network was trained with.
        path: the volume.
        target: ``.nii.gz``, written when the last slice is taken.
        probabilities: ``.npy`` for the probabilities, float16 ``(K, slices, H, W)``; None for none.
        cut: finds the labels of the whole volume; None to take the most probable ones.
        drawn: gives what is drawn on a slice, for the cut; None for nothing.

    Yields:
        Each slice in its order.

    Raises:
        BadSampleError: if the volume cannot be read, or has other channels than the network was trained on.
        OSError: if the results cannot be written.
    """
    header, found = reader.header(path), list[NDArray[np.uint8]]()
    shape = (segmenter.num_classes, header.depth, *header.size[::-1])
    with ExitStack() as stack:
        stored = None
        if probabilities is not None:
            unfinished = stack.enter_context(replacing(probabilities))
            stored = open_probabilities(unfinished, shape)
        if cut is not None:
            cut.require_fits(path, header.depth * header.size[0] * header.size[1], segmenter.num_classes)
        together, pictures = SlicesToCut(header.distances), list[NDArray[np.uint8]]()
        for index in range(header.depth):
            image, picture = _slice(reader, path, index, segmenter.channels)
            if stored is None and cut is None:
                with _naming(path):
                    found.append(segmenter.label_rows(image))
            else:
                with _naming(path):
                    scores = segmenter.score_rows(image)
                if stored is not None:
                    stored[:, index] = scores
                if cut is not None:
                    together.add(scores, picture, None if drawn is None else drawn(index))
                    pictures.append(picture)
                    continue
                found.append(torch.from_numpy(scores).max(0).indices.numpy().astype(np.uint8))
            yield LabeledSlice(index, picture, found[-1])
        if cut is not None:
            found += list(cut.labels(together, str(path)))
            yield from map(LabeledSlice, range(header.depth), pictures, found)
        header.write_labels(target, found)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Leave out a volume whose values are so far away that the network's scores are no numbers."""
    try:
        yield
    except ValueError as error:
        raise BadSampleError(f"{path} cannot be labeled: {error}") from error


def _slice(
    reader: VolumeReader, path: Path, index: int, channels: Channels | None
) -> tuple[MemoryRows, NDArray[np.uint8]]:
    """A slice as the network takes it, and as a picture."""
    if channels is None and not reader.has_channels:
        gray = np.repeat(reader.gray(path, index)[..., None], 3, axis=-1)
        return MemoryRows(gray), gray
    planes = reader.planes(path, index)
    if channels is None or len(channels.names) != len(planes):
        trained = "RGB" if channels is None else ", ".join(channels.names)
        raise BadSampleError(
            f"{path} is read in {len(planes)} channels, the network was trained on {trained}: give the config.yaml of "
            "its run"
        )
    if channels.given != [SLICE] and (doubt := channels.doubt(planes)) is not None:
        warnings.warn(f"{path} {doubt}", stacklevel=2)
    scaled = channels.scaled(planes).permute(1, 2, 0).numpy()
    return MemoryRows(scaled), channels.picture(scaled)
