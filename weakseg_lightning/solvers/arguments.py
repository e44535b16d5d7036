"""Arguments of solvers and refinements: their types, shapes, devices and values."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from weakseg_lightning.constraints import LinearConstraints
from weakseg_lightning.energies.potts import VOID


def check_constraints(logits: Tensor, constraints: LinearConstraints, valid: Tensor | None) -> None:
    """Check the arguments of `DistributionSolver.solve`.

    Raises:
        ValueError: if shapes, types, devices or values do not fit.
    """
    check_logits(logits)
    batch, classes, *plane = logits.shape
    rows = constraints.bounds.shape[-1] if constraints.bounds.ndim else 0
    regions, region_of, device = constraints.regions, constraints.region_of, logits.device
    if (regions is None) != (region_of is None):
        raise ValueError("`constraints.regions` and `constraints.region_of` must be given together, got one of them")
    number = regions.shape[1] if regions is not None and regions.ndim == 4 else 0
    if len(constraints.names) != rows:
        raise ValueError(f"`constraints.names` must name each of the {rows} rows, got {len(constraints.names)} names")
    for name, kind, shape in (
        ("coefficients", "float", (batch, rows, classes)),
        ("bounds", "float", (batch, rows)),
        ("slack", "float", (batch, rows)),
        ("active", "bool", (batch, rows)),
        ("allowed", "bool", (batch, classes)),
        ("allowed_at", "bool", (batch, classes, *plane)),
        ("regions", "bool", (batch, number, *plane)),
        ("region_of", "int64", (batch, rows)),
    ):
        check_tensor(f"constraints.{name}", getattr(constraints, name), kind, shape, device)
    check_tensor("valid", valid, "bool", (batch, *plane), device)
    _check_values(constraints)


def check_refined(logits: Tensor, image: Tensor, valid: Tensor | None) -> Tensor:
    """Check the arguments of `Refinement.refine`.

    Returns:
        ``valid``, all True where it was None, on the logits' device.

    Raises:
        ValueError: if the arguments do not fit together, or hold nan or infinite values where valid.
    """
    check_logits(logits)
    batch, _, *size = logits.shape
    check_tensor("image", image, "float", (batch, 3, *size))
    if valid is None:
        valid = torch.ones((batch, *size), dtype=torch.bool)
    check_tensor("valid", valid, "bool", (batch, *size))
    valid = valid.to(logits.device)
    for name, values in (("logits", logits), ("image", image)):
        finite = values.isfinite().all(1).to(valid.device) | ~valid
        if not finite.all():
            images = (~finite).flatten(1).any(1).nonzero().flatten().tolist()
            raise ValueError(f"`{name}` must be finite, got nan or infinite values in images {images} of the batch")
    return valid


def check_tensor(
    name: str,
    tensor: Tensor | None,
    kind: str,
    shape: tuple[int, ...],
    device: torch.device | None = None,
    owner: str = "logits",
) -> None:
    """Check the type, shape and device of a tensor.

    Args:
        name: the argument, as users write it.
        tensor: what was given; None passes.
        kind: float, integer, or the name of a dtype of torch.
        shape: its shape.
        device: its device; None = any.
        owner: the argument whose device that is.

    Raises:
        ValueError: says what does not fit.
    """
    if tensor is None:
        return
    if tensor.shape != shape or not _is(tensor, kind):
        article = "an" if kind.startswith("int") else "a"
        raise ValueError(f"`{name}` must be {article} {kind} {shape}, got {tensor.dtype} {tuple(tensor.shape)}")
    if device is not None and tensor.device != device:
        raise ValueError(f"`{name}` must be on the device of `{owner}`, {device}, got {tensor.device}; move it there")


def as_bytes(mask: Tensor) -> NDArray[np.uint8]:
    """Return a bool tensor as an array of 0 and 1, without a copy where it is contiguous and on the CPU."""
    array: NDArray[np.uint8] = mask.cpu().contiguous().view(torch.uint8).numpy()
    return array


def check_logits(logits: Tensor) -> None:
    """Raise ``ValueError`` if scores are not float ``(B, K, H, W)`` with 1 to 255 classes."""
    if logits.ndim != 4 or not logits.is_floating_point() or not 1 <= logits.shape[1] <= VOID:
        raise ValueError(
            f"`logits` must be a float (B, K, H, W) with 1 to {VOID} classes, got {logits.dtype} {tuple(logits.shape)}"
        )


def _is(tensor: Tensor, kind: str) -> bool:
    if kind == "float":
        return tensor.is_floating_point()
    if kind == "integer":
        return not (tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool)
    return bool(tensor.dtype == getattr(torch, kind))


def _check_values(constraints: LinearConstraints) -> None:
    """Check all values of the active rows."""
    constraints = constraints.on_host
    finite = constraints.coefficients.isfinite().all(2) & constraints.bounds.isfinite() & (constraints.slack >= 0)
    if constraints.regions is not None and constraints.region_of is not None:
        finite &= (constraints.region_of >= -1) & (constraints.region_of < constraints.regions.shape[1])
    wrong = constraints.active & ~finite
    if bool(wrong.any()):
        image, row = wrong.nonzero()[0].tolist()
        raise ValueError(
            f"`constraints` must have finite coefficients and bounds, a slack >= 0 and regions that exist; row "
            f"'{constraints.name(image, row)}' of image {image} has not"
        )
