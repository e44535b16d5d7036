"""`weakseg predict ... IMAGES`: any images, also larger than memory, from files to files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from weakseg_lightning.cli.commands.places import shown
from weakseg_lightning.cli.commands.predict.options import ImageOptions
from weakseg_lightning.cli.commands.predict.writer import ImageWriter
from weakseg_lightning.data.folder.labels import DrawnLabels
from weakseg_lightning.data.images.volumes import VolumeReader
from weakseg_lightning.errors import UserError, raise_as_users
from weakseg_lightning.modules import WeakSegModule
from weakseg_lightning.prediction.segmenter import Segmenter
from weakseg_lightning.solvers import Refinement
from weakseg_lightning.visualization.panels import Colors, voc_palette

__all__ = ["predict_images"]

_NOTICEABLE = 0.1


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
    drawn: DrawnLabels | None = None,
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
        drawn: what is drawn on the images, which `cut` keeps; by default nothing.

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
    writer = ImageWriter(segmenter, folder, options, (names, palette), overlays, volumes or VolumeReader(), drawn)
    bad = writer.run(images)
    done = len(images) - len(bad)
    print(f"Labeled {done} of {len(images)} images: predictions are in {shown(folder)}")
    if bad:
        print(f"Left out {len(bad)}: {', '.join(bad[:5])}{', ...' if len(bad) > 5 else ''}")
    if writer.difference > _NOTICEABLE:
        print(
            f"Neighboring tiles differ by up to {writer.difference:.2f} in a probability: the network sees further "
            "than the overlap; a larger --images.tile and --images.overlap lessen that"
        )
    return 1 if bad else 0


def _device(accelerator: str) -> Any:
    """The torch device of one of Lightning's accelerators."""
    if accelerator in ("auto", "cpu"):
        return accelerator
    if accelerator in ("gpu", "cuda") and torch.cuda.is_available():
        return "cuda"
    if accelerator in ("gpu", "mps") and torch.backends.mps.is_available():
        return torch.device("mps")
    raise UserError(f"`trainer.accelerator` is {accelerator}, which torch does not find here: take auto or cpu")
