"""Pictures of what the decomposition takes an image apart into."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor
from typing_extensions import override

from weakseg_lightning.callbacks.drawing import (
    boxes,
    classes_of,
    evaluating,
    in_last_epoch,
    keep_picture,
    log_picture,
    on_cpu,
)
from weakseg_lightning.callbacks.files import run_folder


class ImageletPanels(Callback):
    """Draws the per-class images and mask-lets of a training batch every few epochs.

    A row an image: the image, what the parts put together give, then for the background and each class that the image
    is tagged with the mask-let in grey (white = 1) and the part ``M_k X_k`` that it lets through. The picture shows the
    first batch of epochs 0, n, 2n ... and of the last one, after its step, in evaluation mode, and goes to
    ``<run folder>/imagelets/epoch_0003.png`` and to the loggers that take images.

    Args:
        every_n_epochs: epochs from one picture to the next.
        num_images: images (rows) a picture.

    Raises:
        ValueError: if an argument is smaller than 1.
    """

    def __init__(self, every_n_epochs: int = 1, num_images: int = 4) -> None:
        for name, value in (("every_n_epochs", every_n_epochs), ("num_images", num_images)):
            if value < 1:
                raise ValueError(f"`{name}` must be at least 1, got {value}; to draw none, leave ImageletPanels out")
        self.every_n_epochs = every_n_epochs
        self.num_images = num_images

    @override
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse a module that takes nothing apart.

        Raises:
            TypeError: if its network has no per-class images.
        """
        if not callable(getattr(getattr(pl_module, "net", None), "decompose", None)):
            raise TypeError(f"ImageletPanels needs a DecomposeReconstructModule, got {type(pl_module).__name__}")

    @override
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Draw the first batch of the epoch, if it is the epoch's turn."""
        epoch = trainer.current_epoch
        if batch_idx != 0 or not (epoch % self.every_n_epochs == 0 or in_last_epoch(trainer)):
            return
        folder = run_folder(trainer)  # on every rank: it is broadcast
        images = batch["image"][: self.num_images]
        with evaluating(trainer, pl_module, images):
            logits, imagelets = pl_module.net.decompose(images)  # type: ignore[operator, union-attr]
        if trainer.is_global_zero:
            names = classes_of(trainer)[0] or [str(k) for k in range(logits.shape[1])]
            picture = imagelet_picture(batch, logits.softmax(1), imagelets, names)
            if not getattr(trainer, "fast_dev_run", False):  # which leaves nothing on the disk
                keep_picture(picture, folder / "imagelets" / f"epoch_{epoch:04d}.png")
            log_picture(picture, trainer, "imagelets")


def imagelet_picture(batch: dict[str, Any], masks: Tensor, imagelets: Tensor, names: list[str]) -> Image.Image:
    """Draw mask-lets and parts of the first images of a batch.

    Args:
        batch: the batch; ``image``, ``tags`` and ``valid`` are used.
        masks: M, ``(N, K, H, W)``, of its first N images.
        imagelets: X, ``(N, K, 3, H, W)``.
        names: names of the K classes.

    Returns:
        RGB image.
    """
    masks, parts, images = on_cpu(masks), on_cpu(masks[:, :, None] * imagelets), on_cpu(batch["image"])
    rows = []
    for i, box in enumerate(boxes(batch, len(masks))):
        row = {"image": images[i], "recomposed": parts[i].sum(0)}
        for k in batch["tags"][i].nonzero().flatten().tolist():
            row |= {f"mask: {names[k]}": masks[i, k].expand(3, -1, -1), f"part: {names[k]}": parts[i, k]}
        rows.append({title: _pixels(picture[:, *box]) for title, picture in row.items()})
    return _drawn(rows)


def _pixels(picture: Tensor) -> npt.NDArray[np.uint8]:
    values: npt.NDArray[np.uint8] = (picture.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    return values


def _drawn(rows: Sequence[Mapping[str, npt.NDArray[np.uint8]]]) -> Image.Image:
    """Draw rows of pictures, each with its title above it."""
    columns = max(map(len, rows))
    figure = Figure(figsize=(1.8 * columns, 2.0 * len(rows)), layout="constrained")
    grid: Any = figure.subplots(len(rows), columns, squeeze=False)
    for cell in grid.flat:
        cell.set_axis_off()
    for line, row in zip(grid, rows, strict=True):
        for (title, pixels), axes in zip(row.items(), line, strict=False):
            axes.imshow(pixels, interpolation="nearest")
            axes.set_title(title, fontsize=8)
    written = io.BytesIO()
    figure.savefig(written, format="png", dpi=110)
    return Image.open(written).convert("RGB")
