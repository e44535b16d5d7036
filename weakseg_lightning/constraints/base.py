"""The base of the rules of the language, and how the rules of a run become one set of linear constraints."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from math import inf

import torch
from torch import Tensor

from weakseg_lightning.constraints.linear import ImageFacts, LinearConstraints
from weakseg_lightning.errors import UserError


@dataclass(frozen=True)
class Rows:
    """C linear inequalities for each image of a batch, see `LinearConstraints`.

    Sizes of 1 stand for all: coefficients ``(1, C, K)`` are those of every image.

    Args:
        coefficients: float ``(B, C, K)``.
        bounds: float ``(B, C)``, or one number; a fraction of the region's valid pixels.
        active: bool ``(B, C)``: the images for which a row exists.
        names: what the C rows say. ``{class}`` and ``{bound}`` stand for the class and the bound where these depend on
            the image.
        slack: the most that a row may add to a logit, > 0; None = the row is hard.
        regions: bool ``(B, C, H, W)``, or ``(B, 1, H, W)`` for all rows; None = the whole image.
    """

    coefficients: Tensor
    bounds: Tensor | float
    active: Tensor
    names: Sequence[str]
    slack: float | None = None
    regions: Tensor | None = None


@dataclass(frozen=True)
class CompiledRule:
    """The statements of a rule about the images of a batch.

    Args:
        rows: linear inequalities, in one or more groups.
        allowed: bool ``(B, K)``, False for classes that the image does not hold; None = the rule forbids none.
        allowed_at: bool ``(B, K, H, W)``, the same for each pixel.
        absence: what ``allowed`` and ``allowed_at`` say of a class that they forbid, for messages.
    """

    rows: Sequence[Rows] = ()
    allowed: Tensor | None = None
    allowed_at: Tensor | None = None
    absence: str = "{class} = 0"


class ConstraintRule(ABC):
    """Base class of the rules that say what is known about images; subclass it for facts of your own.

    A subclass is a frozen dataclass, or keeps each constructor argument, unchanged, under an attribute of the same
    name, so that checkpoints can write it down; it checks what it can before any image is seen.

    Example:
        >>> class AtMostHalf(ConstraintRule):
        ...     "No foreground class covers more than half of an image."
        ...
        ...     def compile(self, facts):
        ...         every_class = -torch.eye(len(facts.class_names))[None, 1:]
        ...         names = [f"{name} <= 0.5" for name in facts.class_names[1:]]
        ...         return CompiledRule([Rows(every_class, -0.5, facts.tags[:, 1:], names)])
        >>> images = ImageFacts(["a"], ["background", "dog"], torch.ones(1, 2).bool(), torch.ones(1, 4, 4).bool())
        >>> compile_constraints([AtMostHalf()], images).names
        ('dog <= 0.5',)
    """

    @abstractmethod
    def compile(self, facts: ImageFacts) -> CompiledRule:
        """Write the rule as linear constraints on the label distributions of a batch.

        It runs in every training step: use tensor operations on the device of ``facts.tags``, and read no value
        back from it.

        Args:
            facts: what is known about the images.

        Raises:
            ValueError: if the rule names a class or region that there is not, or needs what is not known.
        """

    def check(self, ids: Sequence[str], class_names: Sequence[str]) -> None:
        """Compare the rule with the data set, once, before training. Most rules have nothing to compare.

        Args:
            ids: names of all training images.
            class_names: names of the K classes, background first.

        Raises:
            ValueError: if they do not fit together.
        """
        return


def compile_constraints(rules: Sequence[ConstraintRule], facts: ImageFacts) -> LinearConstraints:
    """Join what all rules say about a batch.

    A class may occur where every rule allows it. Rows without a meaning are switched off: those whose region is empty;
    soft ones that want area for suppressed classes alone; those about the background alone in images that may hold
    nothing else. Hard rows that want area for suppressed classes stay, see
    :func:`~weakseg_lightning.constraints.find_contradictions`.

    Args:
        rules: the rules.
        facts: what is known about the images.

    Returns:
        The constraints, on the device of ``facts.tags``.

    Raises:
        ValueError: if a rule does not fit the facts, or the shapes of the facts contradict each other.

    Example:
        >>> from weakseg_lightning.constraints import AreaBounds, Suppression
        >>> tags, valid = torch.tensor([[True, True, False]]), torch.ones(1, 41, 41, dtype=torch.bool)
        >>> facts = ImageFacts(["a"], ["background", "cat", "dog"], tags, valid)
        >>> rules = [Suppression(), AreaBounds("background", 0.3, 0.7), AreaBounds("present", 0.05, slack=2.0)]
        >>> constraints = compile_constraints(rules, facts)
        >>> [name for name, active in zip(constraints.names, constraints.active[0]) if active]
        ['background >= 0.3', 'background <= 0.7', 'cat >= 0.05']
        >>> constraints.allowed
        tensor([[ True,  True, False]])
    """
    check_facts(facts)
    return join([compile_rule(rule, facts) for rule in rules], facts)


def compile_rule(rule: ConstraintRule, facts: ImageFacts) -> CompiledRule:
    """Compile one rule, and check the shapes of what it says.

    Raises:
        ValueError: if they do not fit the facts; names the rule.
    """
    compiled = rule.compile(facts)
    batch, classes = facts.tags.shape
    plane = tuple(facts.valid.shape[1:])
    _check_shape(rule, "allowed", compiled.allowed, (batch, classes))
    _check_shape(rule, "allowed_at", compiled.allowed_at, (batch, classes, *plane))
    for rows in compiled.rows:
        count = len(rows.names)
        _check_shape(rule, "coefficients", rows.coefficients, (batch, count, classes))
        _check_shape(rule, "bounds", torch.as_tensor(rows.bounds), (batch, count))
        _check_shape(rule, "active", rows.active, (batch, count))
        _check_shape(rule, "regions", rows.regions, (batch, count, *plane))
    return compiled


def join(compiled: Sequence[CompiledRule], facts: ImageFacts) -> LinearConstraints:
    """Join what compiled rules say, see :func:`compile_constraints`."""
    rows = [group for rule in compiled for group in rule.rows if group.names]
    allowed = torch.ones_like(facts.tags)
    for rule in compiled:
        allowed = allowed if rule.allowed is None else allowed & rule.allowed
    coefficients = _joined([(group.coefficients, group) for group in rows], facts, allowed.shape[1:])
    bounds = _joined([(group.bounds, group) for group in rows], facts)
    slack = _joined([(inf if group.slack is None else group.slack, group) for group in rows], facts)
    active = _joined([(group.active, group) for group in rows], facts).bool()
    regions, region_of = _regions(rows, facts)
    active = active & ~_meaningless(coefficients, bounds, slack, allowed)
    if regions is not None and region_of is not None:
        filled = torch.cat([regions.flatten(2).any(2), torch.ones_like(active[:, :1])], 1)  # -1 takes the last
        active = active & filled.gather(1, region_of % filled.shape[1])
    return LinearConstraints(
        coefficients,
        bounds,
        slack,
        active,
        allowed,
        regions,
        region_of,
        _allowed_at(compiled, facts),
        tuple(name for group in rows for name in group.names),
        tuple(facts.class_names),
    )


def check_facts(facts: ImageFacts) -> None:
    """Check that what is known about a batch has one shape.

    Raises:
        ValueError: if it has not.
    """
    batch, classes = len(facts.ids), len(facts.class_names)
    tags, valid, sizes = facts.tags, facts.valid, facts.sizes
    if tags.shape != (batch, classes) or tags.dtype != torch.bool:
        raise UserError(f"`tags` must be a bool {(batch, classes)}, got {tags.dtype} {tuple(tags.shape)}")
    if valid.ndim != 3 or valid.shape[0] != batch or valid.dtype != torch.bool:
        raise UserError(f"`valid` must be a bool ({batch}, H, W), got {valid.dtype} {tuple(valid.shape)}")
    if sizes is not None and (sizes.shape != tags.shape or sizes.is_floating_point()):
        raise UserError(f"`sizes` must be an integer {(batch, classes)}, got {sizes.dtype} {tuple(sizes.shape)}")
    if facts.boxes is not None and len(facts.boxes) != batch:
        raise UserError(f"`boxes` must hold one tensor per image, {batch}, got {len(facts.boxes)}")
    for name, mask in facts.masks.items():
        if mask.shape != valid.shape or mask.dtype != torch.bool:
            raise UserError(
                f"`masks[{name!r}]` must be a bool {tuple(valid.shape)}, got {mask.dtype} {tuple(mask.shape)}"
            )


def _check_shape(rule: ConstraintRule, name: str, tensor: Tensor | None, shape: tuple[int, ...]) -> None:
    if tensor is None:
        return
    got = tuple(tensor.shape)
    short = name == "bounds" and not got
    if not short and (len(got) != len(shape) or any(a not in (1, b) for a, b in zip(got, shape, strict=True))):
        raise UserError(
            f"{type(rule).__name__}.compile must give `{name}` of the shape {shape} (1 in place of any size stands for "
            f"all), got {got}"
        )


def _joined(parts: Sequence[tuple[Tensor | float, Rows]], facts: ImageFacts, width: Sequence[int] = ()) -> Tensor:
    """The values of all groups of rows, float ``(B, C, *width)``."""
    batch, device = len(facts.ids), facts.tags.device
    expanded = [torch.zeros((batch, 0, *width), device=device)]
    for values, group in parts:
        # A number is filled in there, not copied from here, for which the device would have to be waited for.
        filled = values if isinstance(values, Tensor) else torch.full((), values, device=device)
        tensor = torch.as_tensor(filled, dtype=torch.float32, device=device)
        expanded.append(tensor.expand(batch, len(group.names), *width))
    return torch.cat(expanded, 1)


def _meaningless(coefficients: Tensor, bounds: Tensor, slack: Tensor, allowed: Tensor) -> Tensor:
    """Rows that cannot do anything in an image, bool ``(B, C)``."""
    soft = slack.isfinite()
    used = coefficients != 0
    wanted = coefficients > 0
    none_left = ~(used & allowed[:, None]).any(2)
    none_wanted_left = wanted.any(2) & ~(wanted & allowed[:, None]).any(2)
    only_background = ~allowed[:, 1:].any(1, keepdim=True) & ~used[:, :, 1:].any(2)
    return (none_left & (soft | (bounds <= 0))) | (none_wanted_left & soft) | only_background


def _regions(rows: Sequence[Rows], facts: ImageFacts) -> tuple[Tensor | None, Tensor | None]:
    """The regions of all rows ``(B, R, H, W)`` without padding, and which of them each row takes ``(B, C)``."""
    device, batch = facts.tags.device, facts.tags.shape[0]
    masks: list[Tensor] = []
    indices: list[Tensor] = []
    found = 0
    for group in rows:
        count = len(group.names)
        if group.regions is None:
            indices.append(torch.full((count,), -1, device=device))
            continue
        regions = group.regions.expand(batch, *group.regions.shape[1:]) & facts.valid[:, None]
        indices.append(found + torch.arange(count, device=device) % regions.shape[1])
        masks.append(regions)
        found += regions.shape[1]
    if not masks:
        return None, None
    return torch.cat(masks, 1), torch.cat(indices).expand(batch, -1)


def _allowed_at(compiled: Sequence[CompiledRule], facts: ImageFacts) -> Tensor | None:
    planes = [rule.allowed_at for rule in compiled if rule.allowed_at is not None]
    if not planes:
        return None
    shape = (*facts.tags.shape, *facts.valid.shape[1:])
    return reduce(torch.logical_and, planes).expand(shape)
