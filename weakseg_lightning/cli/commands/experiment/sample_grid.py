"""`weakseg experiment sample-grid`: images with and without a class, beside what a trained network labels."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from PIL import Image
from torch import Tensor

from weakseg_lightning.checks import at_least
from weakseg_lightning.cli.commands.evaluation import choose, find_device, load_trained, predict_labels
from weakseg_lightning.cli.commands.places import shown
from weakseg_lightning.data import SegmentationDataModule, SegmentationDataset
from weakseg_lightning.errors import UserError
from weakseg_lightning.modules import WeakSegModule
from weakseg_lightning.modules.core.guides import colors_of
from weakseg_lightning.visualization.panels import overlay

__all__ = ["grid_of", "sample_grid"]

Split = Literal["train", "val"]

_COLUMNS = 10


def sample_grid(
    run: Path,
    checkpoint: Path | None = None,
    class_name: str | None = None,
    images: int = 50,
    tile: int = 96,
    seed: int = 0,
    root: str | None = None,
    output: Path | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    allow_other_classes: bool = False,
) -> None:
    """Draw what a trained network labels in images with a class, and in images without it.

    Figures 2 and 3 of the decomposition report: train.png and val.png each hold two squares, images on the left, the
    same with the labels laid over them on the right; those that show the class come first, then as many without it.

    Args:
        run: folder of the run, as runs/decompose_dog/version_0.
        checkpoint: the checkpoint whose network labels; RUN/checkpoints/last.ckpt by default.
        class_name: the class; the first after the background by default.
        images: how many images of either kind, or all if there are fewer.
        tile: side of each image in the picture, in pixels.
        seed: which images are drawn.
        root: folder of the data set, if it is not where the run had it.
        output: folder for the pictures; RUN/samples by default.
        device: what the network runs on; a GPU by default, if there is one.
        allow_other_classes: go on where the classes of the data have other names than those of the checkpoint.
    """
    at_least("images", images, 1)
    at_least("tile", tile, 1)
    used = checkpoint or run / "checkpoints" / "last.ckpt"
    module, data = load_trained(run, used, root, "fit", allow_other_classes)
    module.to(find_device(device))
    label = _label(class_name, data.class_names)
    folder = output or run / "samples"
    folder.mkdir(parents=True, exist_ok=True)
    splits: tuple[Split, ...] = ("train", "val")
    for split in splits:
        _draw(module, data, split, label, images, tile, seed).save(folder / f"{split}.png")
    print(f"train.png and val.png are in {shown(folder)}.")


def _label(name: str | None, names: Sequence[str]) -> int:
    if name is None:
        return 1
    if name not in names[1:]:
        raise UserError(f"`class_name`: {name!r} is none of the classes {', '.join(names[1:])}")
    return names.index(name)


def _draw(
    module: WeakSegModule, data: SegmentationDataModule, split: Split, label: int, images: int, tile: int, seed: int
) -> Image.Image:
    """The picture of one split."""
    found = data.whole_images(split)
    rows: list[tuple[Image.Image, Image.Image]] = []
    for batch, labels in predict_labels(module, found, _chosen(found, label, images, seed), f"{split} images"):
        image = colors_of(batch)[0]
        rows.append((_tile(image, None, tile, data), _tile(image, labels[0], tile, data)))
    return grid_of(rows, tile)


def _chosen(found: SegmentationDataset, label: int, images: int, seed: int) -> list[int]:
    """Images that show the class, then those that do not."""
    tagged = [bool(found.source.labels(index).tags[label]) for index in range(len(found))]
    kinds = ([index for index, tag in enumerate(tagged) if tag == kind] for kind in (True, False))
    return [kind[place] for kind in kinds for place in choose(len(kind), images, seed)]


def _tile(image: Tensor, labels: Tensor | None, tile: int, data: SegmentationDataModule) -> Image.Image:
    """The middle square of an image, with labels laid over it if there are any."""
    side = min(image.shape[-2:])
    top, left = ((length - side) // 2 for length in image.shape[-2:])
    cut = (slice(top, top + side), slice(left, left + side))
    shown_labels = torch.zeros(side, side, dtype=torch.uint8) if labels is None else labels[cut]
    picture = overlay(image[:, *cut], shown_labels, data.palette, 0.0 if labels is None else 0.65)
    return picture.resize((tile, tile), Image.Resampling.LANCZOS)


def grid_of(rows: Sequence[tuple[Image.Image, Image.Image]], tile: int) -> Image.Image:
    """Put pairs of tiles into two grids of ten columns, side by side.

    Args:
        rows: pairs of pictures ``tile`` x ``tile``, the first for the left grid.
        tile: side of a picture in pixels.

    Returns:
        RGB image of ``21 tile`` x ``ceil(len(rows) / 10) tile`` pixels: a tile's width lies between the grids.
    """
    height = -(-len(rows) // _COLUMNS) * tile
    sheet = Image.new("RGB", ((2 * _COLUMNS + 1) * tile, height), "white")
    for place, pair in enumerate(rows):
        row, column = divmod(place, _COLUMNS)
        for picture, first in zip(pair, (0, _COLUMNS + 1), strict=True):
            sheet.paste(picture, ((first + column) * tile, row * tile))
    return sheet
