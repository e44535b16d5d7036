"""The published sets of constraints, by name."""

from typing import Literal, get_args

from weakseg_lightning.checks import one_of
from weakseg_lightning.constraints.arguments import check_bounds
from weakseg_lightning.constraints.base import ConstraintRule
from weakseg_lightning.constraints.boxes import BoundingBoxes
from weakseg_lightning.constraints.rules import AreaBounds, SizeBuckets, Suppression
from weakseg_lightning.errors import UserError

PresetName = Literal["tags", "tags_size", "tags_size_released", "boxes", "random_crops"]

_LARGE = 0.1
"""Fraction of the image from which a class counts as large (section 5)."""


def preset(
    name: PresetName,
    foreground_lower: float | None = None,
    background_lower: float | None = None,
    background_upper: float | None = None,
) -> list[ConstraintRule]:
    """Rules of the constrained CNN.

    All suppress the classes that an image is not tagged with. Further:

    - ``tags``: each tagged foreground class covers at least 0.05 of the image (beta 2), the background 0.3 to 0.7.
    - ``tags_size``, as the paper has it: classes known to be large cover at least 0.1, small ones at most 0.01 (beta 2,
      or an image of small classes alone would contradict the bound of the background), the background 0.3 to 0.7.
    - ``tags_size_released``, as the official code has it: small classes are suppressed, large ones cover at least 0.1,
      the background 0.2 to 0.7; all hard. It goes with a hardness of 1000.
    - ``boxes``: 0.75 of each box is of its class (beta 2), which does not occur outside its boxes.
    - ``random_crops``: as ``tags``, on the tags of the crop.

    Args:
        name: which.
        foreground_lower: a_l of eq. 8: of tagged classes, where sizes are known of large ones; None = as above.
        background_lower: a_0 of eq. 9.
        background_upper: b_0 of eq. 9. The ablation (table 4, with sizes) starts from 0.1, 0.2, 0.7.

    Returns:
        The rules.

    Raises:
        ValueError: if there is no such preset, a bound is out of range, or ``boxes`` is given bounds.

    References:
        Pathak, Krähenbühl, Darrell: Constrained Convolutional Neural Networks for Weakly Supervised Segmentation,
        ICCV 2015, sections 5, 7.3, 7.4 and table 4 of the supplement.

    Example:
        >>> [type(rule).__name__ for rule in preset("tags")]
        ['Suppression', 'AreaBounds', 'AreaBounds']
        >>> ablation = preset("tags_size", foreground_lower=0.1, background_lower=0.2, background_upper=0.7)
    """
    one_of("name", name, get_args(PresetName))
    bounds = {
        "foreground_lower": foreground_lower,
        "background_lower": background_lower,
        "background_upper": background_upper,
    }
    given = [argument for argument, bound in bounds.items() if bound is not None]
    if name == "boxes":
        if given:
            raise UserError(f"`{given[0]}` says nothing to the preset 'boxes', which bounds no area: leave it out")
        return [Suppression(), BoundingBoxes()]
    released = name == "tags_size_released"
    least = (0.2 if released else 0.3) if background_lower is None else background_lower
    most = 0.7 if background_upper is None else background_upper
    check_bounds(least, most)
    background = AreaBounds("background", least, most)
    if name in ("tags", "random_crops"):
        lower = 0.05 if foreground_lower is None else foreground_lower
        return [Suppression(), AreaBounds("present", lower, slack=2.0), background]
    large = (_LARGE if foreground_lower is None else foreground_lower, 1.0)
    if released:
        return [Suppression(), SizeBuckets([(0.0, _LARGE), large], small_absent=True), background]
    sizes = SizeBuckets([(0.0, 0.01), large], slack=2.0)
    return [Suppression(), sizes, background]
