"""Common checks and conversions of the arguments of losses."""

from collections.abc import Sequence

import torch
from torch import Tensor


def check_mask(name: str, mask: Tensor | None, shape: Sequence[int]) -> None:
    """Raise if a mask is not bool, or not of a shape; None passes.

    Args:
        name: the argument.
        mask: what was given.
        shape: the shape that it must have.

    Raises:
        ValueError: says so.
    """
    if mask is not None and (mask.dtype != torch.bool or mask.shape != torch.Size(shape)):
        raise ValueError(f"`{name}` must be a bool {tuple(shape)}, got {mask.dtype} {tuple(mask.shape)}")


def precise(values: Tensor) -> Tensor:
    """Single precision in place of half; double stays."""
    return values if values.dtype == torch.float64 else values.float()
