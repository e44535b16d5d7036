"""From logits and constraints to dual problems, without the classes and rows that no image uses."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from weakseg_lightning.constraints import LinearConstraints
from weakseg_lightning.devices import to_device
from weakseg_lightning.solvers.constrained.dual import Array, Dual

Index = NDArray[np.int64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Reduced:
    """The dual problems of a batch, and the way back.

    Args:
        dual: the problems; images that are not ``open`` have no rows.
        classes: ``(B, k)``, the classes that the k columns of the problems stand for, all different.
        rows: ``(B, c)``, the rows that the c rows of the problems stand for.
        areas: number of valid pixels in the region of each of these rows, ``(B, c)``, at least 1.
        present: bool ``(B, N)``, the pixels that have a distribution; None = all.
        sound: bool ``(B,)``, False where logits are not finite.
        open: bool ``(B,)``, whether there is anything to solve.
    """

    dual: Dual
    classes: Index
    rows: Index
    areas: Array
    present: Tensor | None
    sound: Mask
    open: Mask


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
    here = constraints.on_host
    exists = here.active.numpy()
    given, least_of_rows, slack_of_rows = map(_host, (here.coefficients, here.bounds, here.slack))
    classes, rows = _first(used), _first(exists)
    there, active = np.take_along_axis(used, classes, 1), np.take_along_axis(exists, rows, 1)
    scores, sound = _scores(logits, classes, there, usable, present, hardness)
    masks, region = _regions(constraints, rows, present)
    areas = np.full((len(used), 1), float(scores.shape[2])) if masks is None else _host(masks.sum(2))
    pixels = np.maximum(areas[:, :1], 1)
    area = np.take_along_axis(areas, region, 1)
    fraction = area / pixels
    image = np.arange(len(used))[:, None]
    coefficients = given[image[:, :, None], rows[:, :, None], classes[:, None]]
    coefficients[~active] = 0
    bounds, slack = least_of_rows[image, rows], slack_of_rows[image, rows]
    least = np.where(there[:, None], coefficients, np.inf).min(2) * fraction
    upper = np.where(np.isinf(slack), max_dual, slack) * hardness
    is_open = sound & (used.sum(1) > 1) & exists.any(1)
    dual = Dual(
        all_logits=scores,
        masks=None if masks is None else masks.to(scores.dtype),
        rows=_spread(coefficients, region, areas.shape[1]),
        target=np.where(active, bounds, 0) * fraction,
        upper=np.where(active & is_open[:, None], upper, 0),
        least=least,
        span=np.where(there[:, None], coefficients, -np.inf).max(2) * fraction - least,
        pixels=pixels[:, 0],
    )
    return Reduced(dual, classes, rows, np.maximum(area, 1), present, sound, is_open)


def _host(tensor: Tensor) -> Array:
    return np.asarray(tensor.cpu().numpy(), dtype=np.float64)


def _spread(coefficients: Array, region: Index, number: int) -> Array:
    """Put the coefficients ``(B, c, k)`` of each row where its region is among R: ``(B, c, R k)``."""
    if number == 1:
        return coefficients
    own = region[:, :, None] == np.arange(number)
    spread = own[:, :, :, None] * coefficients[:, :, None]
    return np.asarray(spread.reshape(*region.shape, number * coefficients.shape[2]))


def flat_rows(index: Index, size: int, device: torch.device) -> Tensor:
    """Return the places of the rows ``index[b, j]`` of each image in a table of ``B * size`` rows."""
    places = index + np.arange(0, len(index) * size, size)[:, None]
    return to_device(torch.from_numpy(places.ravel()), device)


def _take(table: Tensor, index: Index) -> Tensor:
    """Return ``table[b, index[b, j]]`` for ``(B, K, N)`` and ``(B, k)``."""
    batch, size, width = table.shape
    return table.reshape(-1, width).index_select(0, flat_rows(index, size, table.device)).view(batch, -1, width)


def _first(table: Mask) -> Index:
    """For bool ``(B, K)``, the places of what is True, then others, as many as any image needs: ``(B, k)``."""
    return np.argsort(~table, axis=1, kind="stable")[:, : int(table.sum(1).max())]


def _usable(constraints: LinearConstraints, present: Tensor | None) -> tuple[Tensor | None, Mask]:
    """The classes that each pixel may take ``(B, K, N)``, None = those of its image; and those that each image uses."""
    if constraints.allowed_at is None:
        usable, some = None, constraints.on_host.allowed
    else:
        usable = constraints.allowed[:, :, None] & constraints.allowed_at.flatten(2)
        usable[:, 0] |= ~usable.any(1)
        some = (usable if present is None else usable & present[:, None]).any(2)
    used = some.cpu().numpy().copy()
    used[:, 0] |= ~used.any(1)
    return usable, used


def _scores(
    logits: Tensor, classes: Index, there: Mask, usable: Tensor | None, present: Tensor | None, hardness: float
) -> tuple[Tensor, Mask]:
    """The logits of the classes used, -inf where they may not be taken; and which images have finite ones."""
    scores = _take(logits.flatten(2), classes)
    scores = scores.to(_type_of_scores(logits, hardness))
    scores = scores * hardness if hardness != 1 else scores
    absent = to_device(torch.from_numpy(np.flatnonzero(~there)), logits.device)
    closed = None if usable is None else ~_take(usable if present is None else usable | ~present[:, None], classes)
    scores.view(-1, scores.shape[2]).index_fill_(0, absent, 0)
    for hidden in (closed, None if present is None else ~present[:, None]):
        scores = scores if hidden is None else scores.masked_fill_(hidden, 0)
    sound = scores.sum((1, 2)).isfinite().cpu()
    if not sound.all():
        sound = scores.isfinite().flatten(1).all(1).cpu()  # a sum may overflow
        scores = torch.where(to_device(sound, scores.device)[:, None, None], scores, 0)
    scores.view(-1, scores.shape[2]).index_fill_(0, absent, -torch.inf)
    return scores if closed is None else scores.masked_fill_(closed, -torch.inf), sound.numpy()


def _type_of_scores(logits: Tensor, hardness: float) -> torch.dtype:
    """Double precision also where hardness multiplies the rounding of scores, if the device has it."""
    double = logits.dtype == torch.float64 or (hardness > 1 and logits.device.type != "mps")
    return torch.float64 if double else torch.float32


def _regions(constraints: LinearConstraints, rows: Index, present: Tensor | None) -> tuple[Tensor | None, Index]:
    """The masks ``(B, R, N)``, the whole image first, None if there is no other; and the region of each row."""
    if constraints.regions is None or constraints.on_host.region_of is None:
        return (None if present is None else present[:, None]), np.zeros_like(rows)
    regions = constraints.regions.flatten(2)
    whole = torch.ones_like(regions[:, :1]) if present is None else present[:, None]
    masks = torch.cat([whole, regions & whole], dim=1)
    return masks, np.take_along_axis(constraints.on_host.region_of.numpy(), rows, 1) + 1
