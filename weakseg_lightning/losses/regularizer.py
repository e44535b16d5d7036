"""Regularizers: terms of a loss that need no labels, only the image and what the network says about it."""

from abc import ABC, abstractmethod
from typing import Any, Literal

import torch
from torch import Tensor, nn
from typing_extensions import override

from weakseg_lightning.losses.arguments import check_mask

BuildIn = Literal["step", "workers"]


class Regularizer(nn.Module, ABC):
    """Base class of regularizers: what :class:`weakseg_lightning.modules.RegularizedLossModule` adds to cross-entropy.

    A subclass writes :attr:`term` and :meth:`forward`, and keeps each constructor argument, unchanged, under an
    attribute of the same name, so that checkpoints can write it down. One that needs something expensive of the image
    alone writes :meth:`build` too; with ``build_in = "workers"`` the workers that load the data build it.
    """

    term: str
    """Name of the term: it is logged as ``train_<term>``."""

    build_in: BuildIn = "step"
    """Place where :meth:`build` runs: in the training ``step``, or in the ``workers`` that load the data."""

    @abstractmethod
    @override
    def forward(self, logits: Tensor, image: Tensor, valid: Tensor | None = None, built: Any = None) -> Tensor:
        """Compute the weighted term.

        Args:
            logits: scores, float ``(B, K, H, W)``.
            image: RGB in 0..1, float ``(B, 3, H, W)``.
            valid: bool ``(B, H, W)``, False on padding, which has no influence. None = no padding.
            built: what :meth:`build` made of this image; None = it has to be made.

        Returns:
            A scalar; 0 with zero gradient where there is nothing to regularize.
        """

    def build(self, image: Tensor, valid: Tensor | None = None) -> Any:
        """Make what depends on the image alone, for :meth:`forward`; something with ``to(device)``. None by default."""
        return None


def check_regularized(logits: Tensor, image: Tensor, valid: Tensor | None) -> Tensor:
    """Check the arguments of a regularizer.

    Args:
        logits: scores, float ``(B, K, H, W)``.
        image: RGB in 0..1, float ``(B, 3, H, W)``.
        valid: bool ``(B, H, W)`` or None.

    Returns:
        ``valid``, all True where it was None.

    Raises:
        ValueError: if they do not fit together.
    """
    shape = tuple(logits.shape)
    if logits.ndim != 4 or not logits.is_floating_point():
        raise ValueError(f"`logits` must be a float (B, K, H, W), got {logits.dtype} {shape}")
    if tuple(image.shape) != (shape[0], 3, *shape[2:]) or not image.is_floating_point():
        expected = f"a float {(shape[0], 3, *shape[2:])}, RGB in 0..1 at the size of `logits`"
        raise ValueError(f"`image` must be {expected}, got {image.dtype} {tuple(image.shape)}")
    plane = (shape[0], *shape[2:])
    check_mask("valid", valid, plane)
    return torch.ones(plane, dtype=torch.bool, device=logits.device) if valid is None else valid
