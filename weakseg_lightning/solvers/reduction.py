"""From logits and constraints to dual problems: checked, and without the classes and rows that no image uses."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from weakseg_lightning.constraints import LinearConstraints
from weakseg_lightning.solvers.dual import Dual


@dataclass(frozen=True)
class Reduced:
    """The dual problems of a batch, and the way back.

    Args:
        dual: the problems; images that are not ``open`` have no rows.
        classes: int64 ``(B, k)``, the classes that the k columns of the problems stand for, all different.
        rows: int64 ``(B, c)``, the rows likewise.
        areas: number of valid pixels in the region of each of these rows, ``(B, c)``, at least 1.
        present: bool ``(B, N)``, the pixels that have a distribution; None = all.
        sound: bool ``(B,)``, False where logits are not finite.
        all_sound: whether there are none.
        open: bool ``(B,)``, whether there is anything to solve.
    """

    dual: Dual
    classes: Tensor
    rows: Tensor
    areas: Tensor
    present: Tensor | None
    sound: Tensor
    all_sound: bool
    open: Tensor


def reduce_problem(
    logits: Tensor, constraints: LinearConstraints, valid: Tensor | None, hardness: float, max_dual: float
) -> Reduced:
    """Reduce a batch to the classes and rows that its images use.

    Args:
        logits: ``(B, K, H, W)`` with at least one image and pixel.
        constraints: of that batch.
        valid: bool ``(B, H, W)``; None = all.
        hardness: factor of the logits and of the dual variables.
        max_dual: upper bound of the duals of hard rows, in units of the logits.

    Returns:
        The problems; their dual variables are in units of ``hardness`` times the logits.
    """
    present = None if valid is None or bool(valid.all()) else valid.flatten(1)
    usable, used = _usable(constraints, present)
    classes, rows = _first(used), _first(constraints.active)
    there, active = used.gather(1, classes), constraints.active.gather(1, rows)
    scores, sound, all_sound = _scores(logits, classes, ~there, usable, present, hardness)
    wide = torch.float32 if logits.device.type == "mps" else torch.float64
    is_open = sound & (used.sum(1) > 1) & constraints.active.any(1)
    masks, region = _regions(constraints, rows, present)
    numbers = torch.full((len(logits), 1), scores.shape[2], device=logits.device) if masks is None else masks.sum(2)
    pixels = numbers[:, :1].to(wide).clamp(min=1)
    areas = numbers.gather(1, region).to(wide)
    coefficients = constraints.coefficients.gather(1, rows[:, :, None].expand(-1, -1, logits.shape[1]))
    coefficients = coefficients.gather(2, classes[:, None].expand(-1, rows.shape[1], -1)).to(wide)
    coefficients = coefficients.masked_fill_(~active[:, :, None], 0)
    share = areas / pixels
    least = coefficients.masked_fill(~there[:, None], torch.inf).amin(2) * share
    most = coefficients.masked_fill(~there[:, None], -torch.inf).amax(2) * share
    upper = constraints.slack.gather(1, rows).to(wide)
    upper = upper.masked_fill(upper.isinf(), max_dual) * hardness
    if numbers.shape[1] > 1:
        where = functional.one_hot(region, numbers.shape[1])[:, :, :, None]
        spread = (where * coefficients[:, :, None]).flatten(2)
    dual = Dual(
        logits=scores,
        masks=None if masks is None else masks.to(scores.dtype),
        rows=coefficients if numbers.shape[1] == 1 else spread,
        target=constraints.bounds.gather(1, rows).to(wide).masked_fill_(~active, 0) * share,
        upper=upper.masked_fill_(~(active & is_open[:, None]), 0),
        least=least,
        span=most - least,
        pixels=pixels[:, 0],
    )
    return Reduced(dual, classes, rows, areas.clamp(min=1), present, sound, all_sound, is_open)


def check_problem(logits: Tensor, constraints: LinearConstraints, valid: Tensor | None) -> None:
    """Check what `DistributionSolver.solve` is given.

    Raises:
        ValueError: if shapes, types, devices or values do not fit.
    """
    if logits.ndim != 4 or not logits.is_floating_point() or logits.shape[1] < 1:
        raise ValueError(f"`logits` must be a float (B, K, H, W), got {logits.dtype} {tuple(logits.shape)}.")
    batch, classes, height, width = logits.shape
    rows, plane = constraints.bounds.shape[-1] if constraints.bounds.ndim else 0, (height, width)
    device = logits.device
    for name, shape in (("coefficients", (batch, rows, classes)), ("bounds", (batch, rows)), ("slack", (batch, rows))):
        _check(f"constraints.{name}", getattr(constraints, name), "float", shape, device)
    _check("constraints.active", constraints.active, "bool", (batch, rows), device)
    _check("constraints.allowed", constraints.allowed, "bool", (batch, classes), device)
    if len(constraints.names) != rows:
        raise ValueError(f"`constraints.names` must name each of the {rows} rows, got {len(constraints.names)} names.")
    if constraints.allowed_at is not None:
        _check("constraints.allowed_at", constraints.allowed_at, "bool", (batch, classes, *plane), device)
    if valid is not None:
        _check("valid", valid, "bool", (batch, *plane), device)
    if (constraints.regions is None) != (constraints.region_of is None):
        raise ValueError("`constraints.regions` and `constraints.region_of` must be given together, got one of them.")
    if constraints.regions is not None and constraints.region_of is not None:
        number = constraints.regions.shape[1] if constraints.regions.ndim == 4 else 0
        _check("constraints.regions", constraints.regions, "bool", (batch, number, *plane), device)
        _check("constraints.region_of", constraints.region_of, "int64", (batch, rows), device)
    _check_values(constraints)


def _check(name: str, tensor: Tensor, kind: str, shape: tuple[int, ...], device: torch.device) -> None:
    fits = tensor.is_floating_point() if kind == "float" else tensor.dtype == getattr(torch, kind)
    if not fits or tensor.shape != shape:
        raise ValueError(f"`{name}` must be a {kind} {shape}, got {tensor.dtype} {tuple(tensor.shape)}.")
    if tensor.device != device:
        raise ValueError(f"`{name}` must be on the device of `logits`, {device}, got {tensor.device}; move it there.")


def _check_values(constraints: LinearConstraints) -> None:
    """One look at the values, so that a device is waited for once."""
    finite = constraints.coefficients.isfinite().all(2) & constraints.bounds.isfinite() & (constraints.slack >= 0)
    if constraints.regions is not None and constraints.region_of is not None:
        finite &= (constraints.region_of >= -1) & (constraints.region_of < constraints.regions.shape[1])
    wrong = constraints.active & ~finite
    if bool(wrong.any()):
        image, row = wrong.nonzero()[0].tolist()
        raise ValueError(
            f"`constraints` must have finite coefficients and bounds, a slack >= 0 and regions that exist; row "
            f"'{constraints.names[row]}' of image {image} has not."
        )


def take_rows(table: Tensor, index: Tensor) -> Tensor:
    """Return ``table[b, index[b, j]]`` for ``(B, K, N)`` and int64 ``(B, k)``."""
    batch, size, width = table.shape
    first = torch.arange(0, batch * size, size, device=table.device)[:, None]
    return table.reshape(-1, width).index_select(0, (index + first).flatten()).view(batch, -1, width)


def _usable(constraints: LinearConstraints, present: Tensor | None) -> tuple[Tensor | None, Tensor]:
    """Which classes each pixel may take ``(B, K, N)``, None = those of its image; and those that each image uses."""
    if constraints.allowed_at is None:
        used = constraints.allowed.clone()
        used[:, 0] |= ~used.any(1)
        return None, used
    usable = constraints.allowed[:, :, None] & constraints.allowed_at.flatten(2)
    usable[:, 0] |= ~usable.any(1)
    used = (usable if present is None else usable & present[:, None]).any(2)
    used[:, 0] |= ~used.any(1)
    return usable, used


def _scores(
    logits: Tensor, classes: Tensor, absent: Tensor, usable: Tensor | None, present: Tensor | None, hardness: float
) -> tuple[Tensor, Tensor, bool]:
    """The logits of the classes used, -inf where they may not be taken; which images have finite ones, and if all."""
    scores = take_rows(logits.flatten(2), classes)
    scores = scores.to(torch.float64 if logits.dtype == torch.float64 else torch.float32)
    if hardness != 1:
        scores = scores * hardness
    unused = absent.flatten().nonzero()[:, 0]
    scores.view(-1, scores.shape[2]).index_fill_(0, unused, 0)
    closed = None if usable is None else ~take_rows(usable, classes)
    if closed is not None:
        scores = scores.masked_fill_(closed, 0)
    if present is not None:
        scores = scores.masked_fill_(~present[:, None], 0)
    sound = scores.sum((1, 2)).isfinite()
    if not (all_sound := bool(sound.all())):
        sound = scores.isfinite().flatten(1).all(1)  # a sum may overflow
        scores = torch.where(sound[:, None, None], scores, 0)
    scores.view(-1, scores.shape[2]).index_fill_(0, unused, -torch.inf)
    if closed is not None:
        scores = scores.masked_fill_(closed, -torch.inf)
    return scores, sound, all_sound


def _first(table: Tensor) -> Tensor:
    """For bool ``(B, K)``, the places of what is True, then others, as many as any image needs: int64 ``(B, k)``."""
    order = torch.arange(table.shape[1], 0, -1, device=table.device)
    return (table * order).topk(max(1, int(table.sum(1).max()))).indices


def _regions(constraints: LinearConstraints, rows: Tensor, present: Tensor | None) -> tuple[Tensor | None, Tensor]:
    """The masks ``(B, R, N)``, the whole image first, None if there is no other; and the region of each row."""
    if constraints.regions is None or constraints.region_of is None:
        return (None if present is None else present[:, None]), torch.zeros_like(rows)
    regions = constraints.regions.flatten(2)
    whole = torch.ones_like(regions[:, 0]) if present is None else present
    masks = torch.cat([whole[:, None], regions & whole[:, None]], dim=1)
    return masks, constraints.region_of.gather(1, rows) + 1
