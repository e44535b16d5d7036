"""Common arguments of rules: classes, bounds, slack, regions; checked, and found in the facts of a batch."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import torch
from torch import Tensor

from weakseg_lightning.checks import between, finite_above, finite_at_least
from weakseg_lightning.constraints.base import Rows
from weakseg_lightning.constraints.linear import ImageFacts
from weakseg_lightning.devices import to_device
from weakseg_lightning.errors import UserError, closest

Classes = list[str | int] | int | str
"""A class by name or index, several taken together, or ``background``, ``foreground``, ``present``, ``absent``."""

Region = list[float] | str | None
"""None = the whole image; ``[x1, y1, x2, y2]`` as fractions of its width and height; or the name of a mask."""

_WORDS = ("background", "foreground", "present", "absent")


# ---- checks in constructors -------------------------------------------------------------------------------------


def check_bounds(lower: float | None, upper: float | None, most: float = 1) -> None:
    """Check a pair of bounds in 0..most.

    Raises:
        ValueError: if one is out of range, they exclude each other, or say nothing.
    """
    for name, bound in (("lower", lower), ("upper", upper)):
        if bound is not None and most == inf:
            finite_at_least(name, bound, 0)
        elif bound is not None:
            between(name, bound, 0, most, "it is a fraction")
    if lower is not None and upper is not None and lower > upper:
        raise UserError(f"`lower` must not exceed `upper`, got {lower} > {upper}")
    if not lower and (upper is None or upper >= most):
        raise UserError(f"`lower` or `upper` must be given, above 0 or below 1; {lower} and {upper} say nothing")


def check_slack(slack: float | None) -> None:
    """Check a slack.

    Raises:
        ValueError: if it is not above 0.
    """
    if slack is not None:
        finite_above("slack", slack, 0, "null makes a hard constraint")


def check_classes(name: str, classes: Classes) -> None:
    """Check what can be checked of a set of classes before their names are known.

    Raises:
        ValueError: if it is empty, or names a class twice.
    """
    listed = classes if isinstance(classes, list) else [classes]
    if not listed or "" in listed:
        raise UserError(f"`{name}` must name a class or several, got {classes!r}")
    if len(set(listed)) < len(listed):
        raise UserError(f"`{name}` must name each class once, got {classes!r}")
    if len(listed) > 1 and (words := {"foreground", "present", "absent"} & set(listed)):
        raise UserError(f"`{name}` must be {words.pop()!r} alone or a list of classes, got {classes!r}")


def check_region(region: Region) -> None:
    """Check a region.

    Raises:
        ValueError: if it is no box within 0..1.
    """
    if region is None or (isinstance(region, str) and region):
        return
    if isinstance(region, list) and len(region) == 4 and not any(isinstance(end, str) for end in region):
        x1, y1, x2, y2 = region
        if 0 <= x1 < x2 <= 1 and 0 <= y1 < y2 <= 1:
            return
    raise UserError(
        "`region` must be [x1, y1, x2, y2] as fractions of the image, 0 <= x1 < x2 <= 1 and 0 <= y1 < y2 <= 1, or the "
        f"name of a mask, or null, got {region!r}"
    )


# ---- classes of a batch -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Areas:
    """Sums of classes that rows are about.

    Args:
        coefficients: 1 where a class belongs to the sum, float ``(B or 1, C, K)``.
        tagged: images that hold one of the classes, bool ``(B, C)``.
        names: names of the C sums.
    """

    coefficients: Tensor
    tagged: Tensor
    names: tuple[str, ...]


def areas(classes: Classes, facts: ImageFacts, argument: str = "classes") -> Areas:
    """Find the sums of classes that a rule is about.

    Args:
        classes: what the rule was given.
        facts: the batch.
        argument: the rule's argument, for messages.

    Raises:
        ValueError: if there is no such class.
    """
    tags, names = facts.tags, tuple(facts.class_names)
    each = torch.eye(len(names), device=tags.device)[None, 1:]
    word = classes[0] if isinstance(classes, list) and len(classes) == 1 else classes
    if word == "present":
        return Areas(each, tags[:, 1:], names[1:])
    if word == "absent":
        return Areas(each, ~tags[:, 1:], names[1:])
    if word == "foreground":
        together = tags.float()[:, None].clone()
        together[..., 0] = 0
        return Areas(together, tags[:, 1:].any(1, keepdim=True), ("foreground",))
    indices = class_indices(classes, names, argument)
    named = torch.zeros(len(names))
    named[indices] = 1
    together = to_device(named, tags.device)[None, None]
    present = (tags & (together[0] > 0)).any(1, keepdim=True)
    return Areas(together, present, (" + ".join(names[i] for i in indices),))


def class_indices(classes: Classes, names: Sequence[str], argument: str) -> list[int]:
    """Indices of classes that are given by name or index.

    Raises:
        ValueError: if there is no such class, or one is named twice.
    """
    listed = classes if isinstance(classes, list) else [classes]
    indices = [class_index(one, names, f"`{argument}`", _WORDS) for one in listed]
    if len(set(indices)) < len(indices):
        raise UserError(f"`{argument}` must name each class once, got {classes!r}")
    return indices


def class_index(given: str | int, names: Sequence[str], where: str, words: Sequence[str] = ()) -> int:
    """Index of a class that is given by name or index.

    Raises:
        ValueError: if there is no such class; begins with ``where``, and may suggest one of ``words``.
    """
    if given == "background":
        return 0
    if isinstance(given, str) and given in names:
        return list(names).index(given)
    if isinstance(given, int) or given.isdecimal():
        if 0 <= int(given) < len(names):
            return int(given)
        raise UserError(f"{where} must name one of the classes 0..{len(names) - 1}, got {given}")
    near = closest(given, [*names, *words])
    hint = f"did you mean {near!r}?" if near else f"the classes are {', '.join(names)}"
    raise UserError(f"{where} must name a class, got {given!r}: {hint}")


def bound_rows(
    sums: Areas,
    lower: float | None,
    upper: float | None,
    slack: float | None,
    place: str = "",
    regions: Tensor | None = None,
) -> Rows:
    """Rows ``lower <= area <= upper`` for each sum, where its classes are tagged.

    Args:
        sums: the areas.
        lower: fraction of the region, None or 0 = no such rows.
        upper: fraction of the region, None or 1 = no such rows.
        slack: None = hard.
        place: where the area is, for the names.
        regions: bool ``(B, 1, H, W)``; None = the whole image.
    """
    parts = []
    if lower:
        parts.append((sums.coefficients, lower, tuple(f"{name}{place} >= {lower:g}" for name in sums.names)))
    if upper is not None and upper < 1:
        parts.append((-sums.coefficients, -upper, tuple(f"{name}{place} <= {upper:g}" for name in sums.names)))
    bounds = [torch.full((1, len(sums.names)), bound, device=sums.tagged.device) for _, bound, _ in parts]
    return Rows(
        torch.cat([coefficients for coefficients, _, _ in parts], 1),
        torch.cat(bounds, 1),
        sums.tagged.repeat(1, len(parts)),
        tuple(name for _, _, names in parts for name in names),
        slack,
        regions,
    )


def rows_per_image(bounds: Tensor, facts: ImageFacts, slack: float | None, known: Tensor | bool = True) -> list[Rows]:
    """Rows ``lower <= area <= upper`` for the last C classes, with bounds that differ from image to image.

    Args:
        bounds: lower and upper fractions of the image, float ``(B, 2, C)``; 0 and 1 say nothing.
        facts: the batch.
        slack: None = hard.
        known: bool ``(B, C)``, the bounds that count.
    """
    lower, upper = bounds.unbind(1)
    names = facts.class_names[-bounds.shape[2] :]
    each = torch.eye(len(facts.class_names), device=bounds.device)[None, -len(names) :]
    return [
        Rows(each, lower, (lower > 0) & known, [f"{name} >= {{bound}}" for name in names], slack),
        Rows(-each, -upper, (upper < 1) & known, [f"{name} <= {{bound}}" for name in names], slack),
    ]


# ---- regions of a batch -----------------------------------------------------------------------------------------


def place_of(region: Region) -> str:
    """Name the region as the name of a row does."""
    if region is None:
        return ""
    return f" in {region}" if isinstance(region, str) else f" in [{', '.join(f'{end:g}' for end in region)}]"


def region_masks(region: Region, facts: ImageFacts) -> Tensor | None:
    """Masks of a region, bool ``(B, 1, H, W)``; None = the whole image.

    Raises:
        ValueError: if there is no mask of its name.
    """
    if region is None:
        return None
    if isinstance(region, str):
        if region not in facts.masks:
            names = ", ".join(sorted(facts.masks)) or "none"
            raise UserError(f"`region` must be the name of a mask, got {region!r}: the data has {names}")
        return facts.masks[region][:, None]
    columns, rows = (_extent(facts.valid.any(axis)) for axis in (1, 2))
    ends = torch.tensor(list(region), device=facts.valid.device)
    sides = [start + end * length for end, (start, length) in zip(ends, (columns, rows) * 2, strict=True)]
    return box_masks(torch.stack(sides, -1)[:, None], *facts.valid.shape[1:])


def box_masks(boxes: Tensor, height: int, width: int) -> Tensor:
    """Cells of a map whose centers lie in boxes; where none does along a side, the cell of the box's own center.

    Args:
        boxes: ``x1, y1, x2, y2`` in cells, float ``(B, R, 4)``; nan stands for no box.
        height: height of the map in cells.
        width: width of the map in cells.

    Returns:
        bool ``(B, R, H, W)``; empty for boxes beside the map.
    """
    x1, y1, x2, y2 = boxes.unbind(-1)
    return _covered(y1, y2, height)[..., :, None] & _covered(x1, x2, width)[..., None, :]


def _covered(start: Tensor, end: Tensor, count: int) -> Tensor:
    """Mark those of ``count`` cells that lie between two ends, bool ``(..., count)``."""
    cells = torch.arange(count, device=start.device)
    centers = cells + 0.5
    inside = (centers >= start[..., None]) & (centers < end[..., None])
    beside = ~((end > 0) & (start < count) & (end >= start))
    middle = ((start.clamp(min=0) + end.clamp(max=count)) / 2).floor().clamp(max=count - 1)
    nearest = (cells == middle[..., None]) & ~inside.any(-1, keepdim=True)
    return (inside | nearest) & ~beside[..., None]


def _extent(flags: Tensor) -> tuple[Tensor, Tensor]:
    """First index and number of the cells from the first to the last flag, float ``(B,)`` each."""
    count = flags.shape[1]
    first = flags.float().argmax(1)
    last = count - 1 - flags.flip(1).float().argmax(1)
    return first.float(), (last - first + 1).float()
