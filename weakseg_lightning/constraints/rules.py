"""Rules about classes and their areas."""

from dataclasses import dataclass
from math import inf

import torch
from typing_extensions import override

from weakseg_lightning.constraints.arguments import (
    Classes,
    Region,
    areas,
    bound_rows,
    check_bounds,
    check_classes,
    check_region,
    check_slack,
    class_indices,
    place_of,
    region_masks,
    rows_per_image,
)
from weakseg_lightning.constraints.base import CompiledRule, ConstraintRule, Rows
from weakseg_lightning.constraints.linear import ImageFacts
from weakseg_lightning.errors import UserError


@dataclass(frozen=True)
class Suppression(ConstraintRule):
    """Classes that an image is not tagged with do not occur in it.

    References:
        Pathak, Krähenbühl, Darrell: Constrained Convolutional Neural Networks for Weakly Supervised Segmentation,
        ICCV 2015, eq. 7.
    """

    @override
    def compile(self, facts: ImageFacts) -> CompiledRule:
        return CompiledRule(allowed=facts.tags, absence="{class} = 0 (not tagged)")


@dataclass(frozen=True)
class AreaBounds(ConstraintRule):
    """Bounds of the area of a class, or of several classes together, in the images that are tagged with one of them.

    Args:
        classes: a class by name or index; a list of classes, whose areas are added; or one of the words ``background``
            (class 0), ``present`` (each tagged foreground class by itself), ``foreground`` (all tagged foreground
            classes together), ``absent`` (each class without a tag by itself). A class that is called like one of the
            words is given by its index.
        lower: least fraction of the region, 0..1; null = none.
        upper: greatest fraction of the region, 0..1; null = none.
        slack: beta of eq. 6: the most that the constraint may add to a logit; null = it holds whatever it costs.
        region: where the area is measured: null = the whole image, ``[x1, y1, x2, y2]`` = this part of its width and
            height, or the name of a mask, bool ``(B, H, W)``, that a data module of your own adds to the batches.

    Raises:
        ValueError: if an argument is out of range, or the bounds exclude each other.

    References:
        Pathak et al., ICCV 2015, eq. 8 (``present``), 9 (``background``) and 10.
    """

    classes: Classes
    lower: float | None = None
    upper: float | None = None
    slack: float | None = None
    region: Region = None

    def __post_init__(self) -> None:
        """Check the arguments."""
        check_classes("classes", self.classes)
        check_bounds(self.lower, self.upper)
        check_slack(self.slack)
        check_region(self.region)

    @override
    def compile(self, facts: ImageFacts) -> CompiledRule:
        sums, regions = areas(self.classes, facts), region_masks(self.region, facts)
        return CompiledRule([bound_rows(sums, self.lower, self.upper, self.slack, place_of(self.region), regions)])


@dataclass(frozen=True)
class AreaRatio(ConstraintRule):
    """Bounds of the area of a class in relation to another, in the images that are tagged with both.

    ``lower * area(to) <= area(classes) <= upper * area(to)``

    Args:
        classes: a class by name or index, a list of classes, whose areas are added, ``background`` or ``foreground``.
        to: the class or classes to compare with, given as ``classes`` are.
        lower: least ratio, >= 0; null = none.
        upper: greatest ratio; null = none.
        slack: the most that the constraint may add to a logit of ``classes``; null = hard.
        region: where the areas are measured, see `AreaBounds`.

    Raises:
        ValueError: if an argument is out of range, or the bounds exclude each other.
    """

    classes: Classes
    to: Classes
    lower: float | None = None
    upper: float | None = None
    slack: float | None = None
    region: Region = None

    def __post_init__(self) -> None:
        """Check the arguments."""
        for name, given in (("classes", self.classes), ("to", self.to)):
            check_classes(name, given)
            if {"present", "absent"} & set(given if isinstance(given, list) else [given]):
                raise UserError(f"`{name}` must be a class, a list of classes, or 'foreground', got {given!r}")
        check_bounds(self.lower, self.upper, most=inf)
        check_slack(self.slack)
        check_region(self.region)

    @override
    def compile(self, facts: ImageFacts) -> CompiledRule:
        self._check_overlap(facts)
        one, other = areas(self.classes, facts), areas(self.to, facts, "to")
        name, reference = one.names[0] + place_of(self.region), other.names[0]
        reference = f"({reference})" if " + " in reference else reference
        coefficients, names = [], []
        if self.lower:
            coefficients.append(one.coefficients - self.lower * other.coefficients)
            names.append(f"{name} >= {self.lower:g} {reference}")
        if self.upper is not None:
            coefficients.append(self.upper * other.coefficients - one.coefficients)
            names.append(f"{name} <= {self.upper:g} {reference}")
        active = one.tagged & other.tagged
        regions = region_masks(self.region, facts)
        return CompiledRule([Rows(torch.cat(coefficients, 1), 0.0, active, names, self.slack, regions)])

    def _check_overlap(self, facts: ImageFacts) -> None:
        names, every = facts.class_names, set(range(1, len(facts.class_names)))
        one, other = (
            every if given in ("foreground", ["foreground"]) else set(class_indices(given, names, name))
            for name, given in (("classes", self.classes), ("to", self.to))
        )
        if one & other:
            shared = ", ".join(names[index] for index in sorted(one & other))
            raise UserError(f"`classes` and `to` must not share classes, but both hold {shared}")


@dataclass(frozen=True)
class SizeBuckets(ConstraintRule):
    """Bounds of the area of each tagged foreground class by the bucket that its size is known to be in.

    Classes whose size is not known (bucket -1) are left alone.

    Args:
        bounds: ``[lower, upper]`` as fractions of the image for each bucket, the smallest first:
            ``[[0, 0.01], [0.1, 1]]`` for the one bit "does the class cover more than a tenth of the image?".
        slack: the most that a constraint may add to a logit; null = hard.
        small_absent: whether classes of the first bucket are suppressed, whatever its bounds.

    Raises:
        ValueError: if a bound is out of range.

    References:
        Pathak et al., ICCV 2015, eq. 10 and section 7.3. The official code suppresses small classes.
    """

    bounds: list[tuple[float, float]]
    slack: float | None = None
    small_absent: bool = False

    def __post_init__(self) -> None:
        """Check the arguments."""
        if not self.bounds:
            raise UserError("`bounds` must hold [lower, upper] for each bucket, got none")
        for bucket, pair in enumerate(self.bounds):
            if len(pair) != 2 or not 0 <= pair[0] <= pair[1] <= 1:
                raise UserError(
                    f"`bounds` must be [lower, upper] with 0 <= lower <= upper <= 1 for each bucket, got {pair!r} for "
                    f"bucket {bucket}"
                )
        check_slack(self.slack)

    @override
    def compile(self, facts: ImageFacts) -> CompiledRule:
        sizes = facts.sizes
        if sizes is None:
            raise UserError(
                "SizeBuckets needs the sizes of the classes, which the data does not give: they come from full masks"
            )
        if sizes.device.type == "cpu" and bool((sizes >= len(self.bounds)).any()):
            raise UserError(
                f"`bounds` has {len(self.bounds)} buckets, but the data has sizes of bucket {int(sizes.max())}: give "
                "bounds for each bucket"
            )
        known = facts.tags[:, 1:] & (sizes[:, 1:] >= 0)
        small = known & (sizes[:, 1:] == 0) & self.small_absent
        table = torch.tensor(self.bounds, dtype=torch.float32, device=sizes.device)
        bounds = table[sizes[:, 1:].long().clamp(0, len(self.bounds) - 1)].movedim(2, 1)
        rows = rows_per_image(bounds, facts, self.slack, known & ~small)
        allowed = torch.cat([torch.ones_like(small[:, :1]), ~small], 1) if self.small_absent else None
        return CompiledRule(rows, allowed, absence="{class} = 0 (small)")
