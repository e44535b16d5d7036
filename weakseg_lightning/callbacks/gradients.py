"""Pictures of the directions in which regularizers and solvers pull the scores: figure 4 of the ADM paper."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from lightning.pytorch import LightningModule, Trainer
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor
from typing_extensions import override

from weakseg_lightning.callbacks.drawing import PanelCallback, boxes, classes_of, on_cpu, rendered, title_of
from weakseg_lightning.energies.potts import VOID
from weakseg_lightning.losses import DenseCRFLoss, GridPottsLoss, Regularizer, latent_cross_entropy
from weakseg_lightning.modules.core.batch_latent import allowed_labels
from weakseg_lightning.modules.core.guides import colors_of, guide_of
from weakseg_lightning.solvers import AlphaExpansion, Solver
from weakseg_lightning.visualization.panels import Palette, full_palette, overlay

_STRONG = 0.99
_READ = ("image", "colors", "guide", "seeds", "valid", "seed_labels")


class GradientPanels(PanelCallback):
    """Draws the gradient of regularized losses with respect to the scores, side by side, every few epochs.

    Whatever the run trains with, the network's scores for a training batch are handed to each of ``regularizers``
    (gradient descent on a relaxed energy, eq. 4) and of ``solvers`` (cross-entropy towards the labeling that a solver
    finds near the scores, seeds kept, eq. 7). A pixel gets the color of the class whose score a step of gradient
    descent raises most, the fuller the more it does; white means no gradient. Each picture has a scale of its own, as
    weights differ: full color is what the strongest hundredth of the pixels with a gradient reach.

    The pictures go to ``<run folder>/gradients/epoch_0003.png`` and to the loggers that take images, see
    :class:`~weakseg_lightning.callbacks.drawing.PanelCallback`.

    Args:
        regularizers: by the titles of their columns; Dense GD and Grid GD by default.
        solvers: by the titles of their columns; Grid ADM by default.
        num_images: images (rows) per picture.
        base: those of :class:`~weakseg_lightning.callbacks.drawing.PanelCallback`.

    Raises:
        ValueError: if a number is smaller than 1, or there is nothing to draw.

    References:
        Marin, Tang, Ben Ayed, Boykov: Beyond Gradient Descent for Regularized Segmentation Losses, CVPR 2019, figure 4.

    Example:
        >>> from lightning.pytorch import Trainer
        >>> trainer = Trainer(callbacks=[GradientPanels(num_images=2)], logger=False, enable_checkpointing=False)
    """

    name = "gradients"

    def __init__(
        self,
        regularizers: dict[str, Regularizer] | None = None,
        solvers: dict[str, Solver] | None = None,
        num_images: int = 3,
        **base: Any,
    ) -> None:
        super().__init__(num_images=num_images, **base)
        if regularizers is None:
            regularizers = {"Dense GD": DenseCRFLoss(), "Grid GD": GridPottsLoss()}
        if solvers is None:
            solvers = {"Grid ADM": AlphaExpansion()}
        if not regularizers and not solvers:
            raise ValueError("`regularizers` and `solvers` are both empty: there would be nothing to draw")
        self.regularizers = regularizers
        self.solvers = solvers

    @override
    def draw(self, trainer: Trainer, pl_module: LightningModule, batch: Any, predicted: Tensor) -> Image.Image:
        scores = predicted.float()
        gradients = self.gradients(scores, batch)
        return draw_gradients(batch, scores, gradients, *classes_of(trainer), title=title_of(trainer))

    def gradients(self, scores: Tensor, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Differentiate each term with respect to the scores.

        Args:
            scores: of the first b images of the batch, float ``(b, K, H, W)``.
            batch: the batch, b images or more.

        Returns:
            Gradients, ``(b, K, H, W)``, by the titles of the terms.
        """
        batch = {name: batch[name][: len(scores)] for name in _READ if name in batch}
        seeds, valid, label_set = batch["seeds"], batch["valid"], allowed_labels(batch, "seeds")
        found = {}
        for title, regularizer in self.regularizers.items():
            with torch.enable_grad():
                free = scores.detach().requires_grad_()
                term = regularizer(free, guide_of(regularizer, batch), valid)
                (found[title],) = torch.autograd.grad(term, free)
        for title, solver in self.solvers.items():
            image = guide_of(solver, batch)
            latent = solver.solve(scores.detach(), image, seeds=seeds, label_set=label_set, valid=valid).labels
            with torch.enable_grad():
                free = scores.detach().requires_grad_()
                term = latent_cross_entropy(free, latent, valid & (seeds == VOID))
                (found[title],) = torch.autograd.grad(term, free)
        return found


def descent_colors(gradient: Tensor, palette: Palette | None = None) -> npt.NDArray[np.uint8]:
    """Paint which class's score gradient descent raises most, and how much.

    Args:
        gradient: of a loss with respect to scores, ``(K, H, W)``.
        palette: one RGB color (0..255) per class; that of PASCAL VOC by default.

    Returns:
        uint8 ``(H, W, 3)``: white where there is no gradient, the class's color where it is among the largest.

    Example:
        >>> gradient = torch.tensor([[[1.0, 0.0]], [[-1.0, 0.0]]])
        >>> descent_colors(gradient).tolist()
        [[[128, 0, 0], [255, 255, 255]]]
    """
    strength, classes = (-gradient.detach().float().cpu()).max(0)
    colors = full_palette(palette)[classes.numpy()].astype(np.float64)
    some = strength[strength > 0]
    scale = float(some.quantile(_STRONG)) if 0 < some.numel() < 2**24 else 1.0  # torch's quantile takes no more
    share = (strength / scale).clamp(0, 1).numpy()[..., None]
    painted: npt.NDArray[np.uint8] = ((1 - share) * 255 + share * colors).round().astype(np.uint8)
    return painted


def draw_gradients(
    batch: Mapping[str, Tensor],
    scores: Tensor,
    gradients: Mapping[str, Tensor],
    class_names: Any = None,
    palette: Palette | None = None,
    title: str = "",
) -> Image.Image:
    """Draw images, predictions and gradients side by side.

    Args:
        batch: the batch that the scores belong to.
        scores: ``(b, K, H, W)``.
        gradients: ``(b, K, H, W)``, by the titles of their columns.
        class_names: names for the legend; numbers by default.
        palette: one RGB color (0..255) per class; that of PASCAL VOC by default.
        title: a line above the picture.

    Returns:
        RGB image.
    """
    count, columns = len(scores), ["image", "prediction", *gradients]
    labels = on_cpu(scores.argmax(1))
    figure = Figure(figsize=(2.4 * len(columns), 2.5 * count + 0.8), layout="constrained")
    grid = figure.subplots(count, len(columns), squeeze=False)
    for i, box in enumerate(boxes(batch, count)):
        image = on_cpu(colors_of(batch)[i])[:, *box]
        pictures = [overlay(image, torch.zeros(image.shape[1:], dtype=torch.uint8), palette, alpha=0)]
        pictures.append(overlay(image, labels[i][box], palette))
        painted = (descent_colors(gradient[i][:, *box], palette) for gradient in gradients.values())
        for axes, picture in zip(grid[i], [*pictures, *painted], strict=True):
            axes.imshow(np.asarray(picture), interpolation="nearest")
            axes.set_axis_off()
    for axes, name in zip(grid[0], columns, strict=True):
        axes.set_title(name, fontsize=9)
    _add_legend(figure, sorted(set(labels.flatten().tolist()) | _raised(gradients)), class_names, palette)
    figure.suptitle(title, fontsize=9, x=0.01, ha="left")
    return rendered(figure)


def _raised(gradients: Mapping[str, Tensor]) -> set[int]:
    """The classes that are drawn in a noticeable part of the pixels."""
    found: set[int] = set()
    for gradient in gradients.values():
        strength, classes = (-gradient).max(1)
        clear = strength > 0.2 * strength.amax((1, 2), keepdim=True)
        found |= set(classes[clear & (strength > 0)].tolist())
    return found


def _add_legend(figure: Figure, used: list[int], names: Any, palette: Palette | None) -> None:
    from matplotlib.patches import Patch

    colors = full_palette(palette) / 255
    patches = [Patch(facecolor=colors[k], edgecolor="gray", label=names[k] if names else str(k)) for k in used]
    legend = figure.legend(handles=patches, loc="outside lower left", ncols=8, fontsize=8, frameon=False)
    for text in legend.get_texts():
        text.set_parse_math(False)  # names of classes
