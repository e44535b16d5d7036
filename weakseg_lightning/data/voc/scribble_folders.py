"""Folders of scribbles: drawn from XML, PNG or masks, many files at a time, none of them half written."""

import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from weakseg_lightning.data.images.reading import image_size, read_labels
from weakseg_lightning.data.samples import BadSampleError
from weakseg_lightning.data.scribbles.simulate import simulate_scribbles
from weakseg_lightning.data.scribbles.strokes import (
    Stroke,
    connected_parts,
    draw_strokes,
    read_scribble_xml,
    read_stated_size,
    shorten,
    shorten_labels,
)
from weakseg_lightning.data.voc.datamodule import scribble_folder_name
from weakseg_lightning.data.voc.files import read_mask
from weakseg_lightning.energies.potts import VOID
from weakseg_lightning.files import replacing

__all__ = ["Drawing", "Outcome", "draw_all", "from_mask", "from_png", "from_xml", "write_labels"]

Labels = NDArray[np.uint8]

Drawing = Callable[[Path, float], Labels]
"""Makes the scribbles of a source file at a relative length; it can be sent to other processes."""


@dataclass(frozen=True)
class Outcome:
    """The outcome of one source file.

    Attributes:
        problem: why it was skipped; None if it was not.
        strokes: number of strokes, over all lengths.
        labelled: pixels with a label, over all lengths.
        pixels: all pixels, over all lengths.
    """

    problem: str | None = None
    strokes: int = 0
    labelled: int = 0
    pixels: int = 0


# ---- one file -----------------------------------------------------------------------------------------------


def from_xml(path: Path, length: float, class_names: Sequence[str], images: Path | None = None) -> Labels:
    """Draw the polylines of an XML file.

    Args:
        path: file in the format of ScribbleSup.
        length: fraction of each polyline that is kept.
        class_names: names of the classes, in the order of their indices.
        images: folder of the images, for files that do not state the size of their image.

    Returns:
        uint8 ``(H, W)``, 255 = unlabelled.

    Raises:
        BadSampleError: if the file cannot be used.
    """
    image = _find_image(images, path.stem) if images is not None else None
    size = image_size(image) if image is not None else read_stated_size(path)
    if size is None:
        raise BadSampleError(f"{path} does not state the size of its image: give `images`, the folder of the images")
    strokes = read_scribble_xml(path, class_names, size)
    kept = [Stroke(shorten(stroke.points, length), stroke.label) for stroke in strokes]
    return draw_strokes(kept, size[1], size[0])


def from_png(path: Path, length: float) -> Labels:
    """Shorten the strokes of a label map, see :func:`~weakseg_lightning.data.scribbles.strokes.shorten_labels`."""
    return shorten_labels(read_labels(path).numpy(), length)


def from_mask(path: Path, length: float, seed: int, minimum_area: int, stroke_area: int) -> Labels:
    """Simulate scribbles from a mask, see :func:`~weakseg_lightning.data.scribbles.simulate.simulate_scribbles`."""
    return simulate_scribbles(read_mask(path).numpy(), path.stem, seed, length, minimum_area, stroke_area)


def write_labels(path: Path, labels: Labels) -> None:
    """Write a label map as a gray PNG; a file of that name is replaced only when the new one is complete."""
    with replacing(path) as unfinished:
        Image.fromarray(labels).save(unfinished, format="PNG")


def _find_image(images: Path, name: str) -> Path:
    found = next((path for suffix in (".jpg", ".jpeg", ".png") if (path := images / f"{name}{suffix}").is_file()), None)
    if found is None:
        raise BadSampleError(f"{images} has no image {name}.jpg or {name}.png: put it there, or remove {name}.xml")
    return found


# ---- many files ---------------------------------------------------------------------------------------------


def draw_all(
    draw: Drawing, paths: Sequence[Path], lengths: Sequence[float], output: Path, processes: int = 1
) -> Iterator[Outcome]:
    """Draw the scribbles of many files at several lengths.

    Args:
        draw: makes the scribbles of a file.
        paths: the source files; their stems name the images.
        lengths: relative lengths; each has a folder, see ``scribble_folder_name`` of the data module.
        output: folder of these folders.
        processes: how many files are worked on at once.

    Yields:
        What became of each file, in order. A file that cannot be used is skipped, at all lengths.
    """
    folders = {length: output / scribble_folder_name(length) for length in lengths}
    for folder in folders.values():
        folder.mkdir(parents=True, exist_ok=True)
    work = partial(_draw_one, draw, folders)
    if processes == 1:
        yield from map(work, paths)
        return
    # Not forked: the parent has threads.
    with ProcessPoolExecutor(processes, get_context("spawn"), _leave_interrupts_to_the_parent) as pool:
        yield from pool.map(work, paths, chunksize=8)


def _draw_one(draw: Drawing, folders: dict[float, Path], path: Path) -> Outcome:
    try:
        drawn = {length: draw(path, length) for length in folders}
    except BadSampleError as error:
        return Outcome(problem=str(error))
    if any((labels == VOID).all() for labels in drawn.values()):
        return Outcome(problem=f"{path} has no labelled pixel: label some, or remove the file")
    for length, labels in drawn.items():
        write_labels(folders[length] / f"{path.stem}.png", labels)
    return Outcome(
        strokes=sum(1 for labels in drawn.values() for _ in connected_parts(labels)),
        labelled=sum(int((labels != VOID).sum()) for labels in drawn.values()),
        pixels=sum(labels.size for labels in drawn.values()),
    )


def _leave_interrupts_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
