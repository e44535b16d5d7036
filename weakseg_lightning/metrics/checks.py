"""Checks of the arguments of metrics."""

import torch
from torch import Tensor

from weakseg_lightning.checks import at_least, between, one_of


def check_arguments(num_classes: int, ignore_index: int) -> None:
    """Raise for fewer than two classes, and for a class that is to be left out."""
    at_least("num_classes", num_classes, 2, "the background is one of them")
    if 0 <= ignore_index < num_classes:
        raise ValueError(f"`ignore_index` must not be one of the {num_classes} classes, got {ignore_index}")


def real_type(device: torch.device) -> torch.dtype:
    """The type that scores are computed in on a device."""
    return torch.float32 if device.type == "mps" else torch.float64  # Apple's GPUs have no float64


def check_maps(labels: Tensor, target: Tensor) -> None:
    """Raise for maps that are not of integers, or not of one shape."""
    for name, tensor in (("labels", labels), ("target", target)):
        if tensor.is_floating_point() or tensor.is_complex():
            message = f"`{name}` must hold integer classes, got {tensor.dtype}"
            raise TypeError(f"{message}; take the class of logits or probabilities with `.argmax(1)`")
    if labels.shape != target.shape:
        raise ValueError(f"`labels` must have the shape of `target`, {tuple(target.shape)}, got {tuple(labels.shape)}")


def check_range(name: str, values: Tensor, num_classes: int, other: str = "") -> None:
    """Raise for values outside 0..K-1; ``other`` says what else would have been right."""
    if not values.numel():
        return
    low, high = torch.stack(torch.aminmax(values)).tolist()  # one pass, one transfer from the device
    if low < 0 or high >= num_classes:
        wrong = low if low < 0 else high
        message = f"`{name}` must be classes 0 to {num_classes - 1}{other}, got {wrong}"
        raise ValueError(f"{message}; check `num_classes` against the data set's masks")


def check_trimap(definition: str, max_width: int) -> None:
    """Raise for an unknown definition, and for widths that a byte cannot tell apart."""
    one_of("definition", definition, ("void", "boundary"))
    between("max_width", max_width, 1, 254)
