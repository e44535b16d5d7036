"""What every refinement of predictions at test time takes and returns."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from weakseg_lightning.energies.potts import VOID


class Refinement(ABC):
    """Base class of refinements: they make predictions follow the image, after training and outside of it.

    A module uses the one that stands in its attribute `refinement` in every evaluation and prediction; `weakseg
    validate`, `test` and `predict` set it by ``--refine``. A subclass keeps each constructor argument, unchanged, under
    an attribute of the same name. What it needs and cannot find it says in the constructor, before anything runs.
    """

    @abstractmethod
    def refine(self, logits: Tensor, image: Tensor, valid: Tensor | None = None) -> Tensor:
        """Refine the predictions for a batch; each image stands for itself.

        Args:
            logits: scores at the image's size, float ``(B, K, H, W)``, any device and precision.
            image: RGB in 0..1, float ``(B, 3, H, W)``.
            valid: bool ``(B, H, W)``, False on padding, which neither changes nor has influence. None = no padding.

        Returns:
            Probabilities of the classes, float32 ``(B, K, H, W)``, on the logits' device; softmax on padding.

        Raises:
            ValueError: if the arguments do not fit together, or hold nan or infinite values.
        """


def check_refined(logits: Tensor, image: Tensor, valid: Tensor | None) -> Tensor:
    """Check the arguments of `Refinement.refine`.

    Args:
        logits: as there, here and below.
        image: likewise.
        valid: likewise.

    Returns:
        ``valid``, all True where it was None, on the logits' device.

    Raises:
        ValueError: if the arguments do not fit together, or hold nan or infinite values where valid.
    """
    shape = tuple(logits.shape)
    if logits.ndim != 4 or not logits.is_floating_point() or not 1 <= logits.shape[1] <= VOID:
        raise ValueError(f"`logits` must be a float (B, K, H, W), K up to {VOID}, got {logits.dtype} {shape}.")
    expected, plane = (shape[0], 3, *shape[2:]), (shape[0], *shape[2:])
    if tuple(image.shape) != expected or not image.is_floating_point():
        raise ValueError(
            f"`image` must be a float {expected}, RGB in 0..1 at the size of `logits`, "
            f"got {image.dtype} {tuple(image.shape)}."
        )
    if valid is None:
        valid = torch.ones(plane, dtype=torch.bool)
    if tuple(valid.shape) != plane or valid.dtype != torch.bool:
        raise ValueError(f"`valid` must be a bool {plane}, got {valid.dtype} {tuple(valid.shape)}.")
    valid = valid.to(logits.device)
    for name, values in (("logits", logits), ("image", image)):
        finite = values.isfinite().all(1).to(valid.device) | ~valid
        if not finite.all():
            images = (~finite).flatten(1).any(1).nonzero().flatten().tolist()
            raise ValueError(f"`{name}` must be finite, got nan or infinite values in images {images} of the batch.")
    return valid
