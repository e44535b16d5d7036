"""Pictures of what the decomposition takes an image apart into."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from lightning.pytorch import LightningModule, Trainer
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor
from typing_extensions import override

from weakseg_lightning.callbacks.drawing import PanelCallback, boxes, classes_of, on_cpu, rendered


class ImageletPanels(PanelCallback):
    """Draws the per-class images and mask-lets of a training batch every few epochs.

    One row per image: the image, what the parts put together give, then for the background and each class that the
    image is tagged with the mask-let in gray (white = 1) and the part ``M_k X_k`` that it lets through. The pictures go
    to ``<run folder>/imagelets/epoch_0003.png`` and to the loggers that take images, see
    :class:`~weakseg_lightning.callbacks.drawing.PanelCallback`.
    """

    name = "imagelets"

    @override
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Require a module that takes images apart.

        Raises:
            TypeError: if its network has no per-class images.
        """
        if not callable(getattr(getattr(pl_module, "net", None), "decompose", None)):
            raise TypeError(f"ImageletPanels needs a DecomposeReconstructModule, got {type(pl_module).__name__}")

    @override
    def predict(self, pl_module: LightningModule, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits ``(b, K, H, W)`` and per-class images ``(b, K, 3, H, W)``."""
        found: tuple[Tensor, Tensor] = pl_module.net.decompose(images)  # type: ignore[operator, union-attr]
        return found

    @override
    def draw(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, predicted: tuple[Tensor, Tensor]
    ) -> Image.Image:
        logits, imagelets = predicted
        names = classes_of(trainer)[0] or [str(k) for k in range(logits.shape[1])]
        return imagelet_picture(batch, logits.softmax(1), imagelets, names)


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
            axes.set_title(title, fontsize=8, parse_math=False)
    return rendered(figure)
