"""The guide of a batch: the map of regions or boundaries that pairwise terms look at in place of the image."""

import warnings
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from weakseg_lightning.devices import in_unit_range
from weakseg_lightning.errors import UserError

Batch = dict[str, Any]

_REMEDY = "give maps of regions or boundaries with the data (`guides` of FolderDataModule), or set `edges: contrast`"


def guide_of(part: object, batch: Batch) -> Tensor:
    """The tensor that a solver or regularizer takes as its image: the guide where its Potts weights are made of that.

    Args:
        part: a solver or regularizer, with a ``GridPotts`` as its attribute ``potts`` if it has one.
        batch: the batch: ``image`` ``(B, 3, H, W)`` and, if the data bring one, ``guide`` ``(B, 1, H, W)``.

    Returns:
        The colors of the image, or the guide as float32.

    Raises:
        ValueError: if the part needs a guide and the batch has none.
    """
    if not _needs_guide(part):
        return colors_of(batch)
    if "guide" not in batch:
        raise UserError(f"the batch has no `guide`, which the `potts` of {type(part).__name__} needs: {_REMEDY}")
    guide: Tensor = batch["guide"]
    return guide.float()


def colors_of(batch: Mapping[str, Any]) -> Tensor:
    """The images as pairwise terms and pictures see them, float ``(B, 3, H, W)`` in 0..1.

    Args:
        batch: the batch: ``image`` and, of other channels than RGB, ``colors``, the three that are chosen.
    """
    image = in_unit_range(batch["image"])
    return image[:, batch["colors"][0]].clamp(0, 1) if "colors" in batch else image


def check_guides(parts: Mapping[str, object], data: object) -> None:
    """Raise if a part needs a guide, and the data say that they bring none; warn if no part looks at theirs.

    Args:
        parts: the solver and the regularizer, or None, by the arguments that they are given by.
        data: the data module of the run.

    Raises:
        ValueError: names the option and the ways out.
    """
    needing = [name for name, part in parts.items() if _needs_guide(part)]
    if needing and not getattr(data, "has_guides", True):
        lacking = f"needs a guide, which {type(data).__name__} does not bring: {_REMEDY}"
        raise UserError(f"`{needing[0]}.potts.edges` {lacking}")
    if not needing and getattr(data, "has_guides", False):
        warnings.warn(
            "`data.guides` are read but nothing looks at them: set `edges: regions` or `boundaries` of the `potts` of "
            "the solver or regularizer",
            stacklevel=2,
        )


def _needs_guide(part: object) -> bool:
    return bool(getattr(getattr(part, "potts", None), "needs_guide", False))
