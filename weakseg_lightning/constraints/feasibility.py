"""Contradictions between rules, found before training and named."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog

from weakseg_lightning.constraints.base import CompiledRule, ConstraintRule, check_facts, compile_rule, join
from weakseg_lightning.constraints.linear import ImageFacts, LinearConstraints

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

_AT_ONCE = 256
"""Images whose rules are compiled together."""

_TOLERANCE = 1e-6
"""Violations up to this fraction of a region are rounding (bounds have single precision)."""


@dataclass(frozen=True)
class _Problem:
    """The conditions of one image on the areas x of K classes in A atoms, which no region divides.

    Args:
        coefficients: ``(c, A * K)``: row c says ``coefficients @ x >= bounds``, in fractions of its region.
        bounds: ``(c,)``.
        masses: fraction of the image that each atom has, ``(A,)``.
        forbidden: classes that are not in an atom, and are not worth naming, ``(A * K,)``.
        absences: ``(s, A * K)``, what each of s further statements forbids.
        says: what the rows and then the absences say.
    """

    coefficients: Floats
    bounds: Floats
    masses: Floats
    forbidden: Flags
    absences: Flags
    says: tuple[str, ...]


def find_contradictions(rules: Sequence[ConstraintRule], facts: ImageFacts | Iterable[ImageFacts]) -> dict[str, str]:
    """Find the images whose hard constraints cannot hold together.

    Exact: a linear program in the areas of the classes in the atoms of the image's partition by all regions. Each
    contradiction is cut down to statements that all take part in it. That an image holds none of the classes that
    it is not tagged with goes without saying, unless a constraint wants such a class. Soft constraints contradict
    nothing. Images of which the same is known are looked at once.

    Args:
        rules: the rules.
        facts: what is known about the images, all at once or in batches; on the CPU, or it is brought there.

    Returns:
        For each image with a contradiction, its name and a sentence.

    Raises:
        ValueError: if a rule does not fit the facts.

    Example:
        >>> import torch
        >>> from weakseg_lightning.constraints import AreaBounds, Suppression
        >>> tags, valid = torch.tensor([[True, True]]), torch.ones(1, 41, 41, dtype=torch.bool)
        >>> facts = ImageFacts(["2008_000123"], ["background", "car"], tags, valid)
        >>> rules = [Suppression(), AreaBounds("background", upper=0.2), AreaBounds("car", upper=0.1)]
        >>> find_contradictions(rules, facts)["2008_000123"]
        'background <= 0.2 contradicts car <= 0.1 for image 2008_000123'
    """
    found: dict[str, str] = {}
    solved: dict[object, tuple[str, ...]] = {}
    for batch in [facts] if isinstance(facts, ImageFacts) else facts:
        check_facts(batch)
        for part in _parts(batch):
            compiled = [compile_rule(rule, part) for rule in rules]
            for image, case in _cases(compiled, join(compiled, part), part):
                if case.key not in solved:
                    solved[case.key] = _conflict(_problem(case, compiled, part.class_names))
                if solved[case.key]:
                    found[part.ids[image]] = _sentence(solved[case.key], part.ids[image])
    return found


def _sentence(conflict: tuple[str, ...], image: str) -> str:
    *others, last = conflict
    if not others:
        return f"{last} cannot hold for image {image}"
    if len(others) == 1:
        return f"{others[0]} contradicts {last} for image {image}"
    return f"{', '.join(others)} and {last} cannot hold together for image {image}"


def _parts(facts: ImageFacts) -> Iterator[ImageFacts]:
    """Split the facts into those of a few images at a time, on the CPU."""
    for start in range(0, len(facts.ids), _AT_ONCE):
        span = slice(start, start + _AT_ONCE)
        yield replace(
            facts,
            ids=facts.ids[span],
            tags=facts.tags[span].cpu(),
            valid=facts.valid[span].cpu(),
            sizes=None if facts.sizes is None else facts.sizes[span].cpu(),
            boxes=None if facts.boxes is None else [boxes.cpu() for boxes in facts.boxes[span]],
            masks={name: mask[span].cpu() for name, mask in facts.masks.items()},
        )


# ---- from constraints to problems -------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Case:
    """The parts of the hard constraints of one image; where they are equal for two images, so is the problem.

    Args:
        tags: ``(K,)``.
        coefficients: of the hard rows, ``(c, K)``.
        bounds: ``(c,)``.
        names: ``(c,)``.
        inside: whether an atom belongs to the region of a row, ``(c, A)``.
        masses: fraction of the image that each atom has, ``(A,)``.
        forbidden: for each rule, the classes that are not in an atom, ``(r, A, K)``.
    """

    tags: Flags
    coefficients: Floats
    bounds: Floats
    names: tuple[str, ...]
    inside: Flags
    masses: Floats
    forbidden: Flags

    @property
    def key(self) -> tuple[object, ...]:
        """The content, to tell this problem from others."""
        arrays = (self.tags, self.coefficients, self.bounds, self.inside, self.masses, self.forbidden)
        return (self.names, *(array.tobytes() for array in arrays))


def _cases(
    compiled: Sequence[CompiledRule], constraints: LinearConstraints, facts: ImageFacts
) -> Iterator[tuple[int, _Case]]:
    """The facts of each image that may have a contradiction."""
    valid, tags = facts.valid.flatten(1).numpy(), facts.tags.numpy()
    hard = (constraints.active & constraints.slack.isinf()).numpy()
    coefficients, bounds = constraints.coefficients.double().numpy(), constraints.bounds.double().numpy()
    region_of = None if constraints.region_of is None else constraints.region_of.numpy()
    regions = None if constraints.regions is None else constraints.regions.flatten(2).numpy()
    absent, absent_at = _absences(compiled, facts)
    # Whatever is not hard can give way, and the background can take every pixel that it is not kept from.
    kept_out = absent[:, :, 0].any(0) | np.any([planes[:, 0].any(1) for planes in absent_at.values()], axis=0)
    for image in np.flatnonzero(valid.any(1) & (hard.any(1) | kept_out)).tolist():
        rows, seen = np.flatnonzero(hard[image]), valid[image]
        planes = [planes[image][:, seen] for planes in absent_at.values()]
        where = np.full(len(rows), -1) if region_of is None else region_of[image, rows]
        used = np.unique(where[where >= 0])
        if regions is not None:
            planes.append(regions[image, used][:, seen])
        atoms, masses = _atoms(planes, int(seen.sum()))
        forbidden = np.repeat(absent[:, image, None], len(masses), 1)
        for number, rule in enumerate(absent_at):
            forbidden[rule] |= atoms[:, number * tags.shape[1] : (number + 1) * tags.shape[1]]
        inside = np.ones((len(rows), len(masses)), dtype=bool)
        inside[where >= 0] = atoms[:, len(absent_at) * tags.shape[1] :].T[np.searchsorted(used, where[where >= 0])]
        names = tuple(constraints.name(image, row) for row in rows.tolist())
        yield (
            image,
            _Case(tags[image], coefficients[image, rows], bounds[image, rows], names, inside, masses, forbidden),
        )


def _absences(compiled: Sequence[CompiledRule], facts: ImageFacts) -> tuple[Flags, dict[int, Flags]]:
    """Prohibitions of each rule: classes ``(r, B, K)``, and for some rules classes of pixels ``(B, K, H * W)``."""
    absent = np.zeros((len(compiled), *facts.tags.shape), dtype=bool)
    absent_at = {}
    for number, rule in enumerate(compiled):
        if rule.allowed is not None:
            absent[number] = ~rule.allowed.numpy()
        if rule.allowed_at is not None:
            shape = (*facts.tags.shape, *facts.valid.shape[1:])
            absent_at[number] = ~rule.allowed_at.expand(shape).flatten(2).numpy()
    return absent, absent_at


def _atoms(planes: Sequence[Flags], pixels: int) -> tuple[Flags, Floats]:
    """The parts of an image that no plane divides: on which side of each of S planes they lie ``(A, S)``; masses."""
    stacked = np.concatenate([np.zeros((0, pixels), dtype=bool), *planes])
    if not len(stacked):
        return np.zeros((1, 0), dtype=bool), np.ones(1)
    codes = np.ascontiguousarray(np.packbits(stacked, 0).T)
    _, first, counts = np.unique(codes.view(f"V{codes.shape[1]}")[:, 0], return_index=True, return_counts=True)
    return stacked[:, first].T, counts / pixels


def _problem(facts: _Case, compiled: Sequence[CompiledRule], class_names: Sequence[str]) -> _Problem:
    wanted = (facts.coefficients > 0).any(0)
    tacit = ~facts.tags & ~wanted
    share = facts.inside / (facts.inside @ facts.masses)[:, None]
    absences, says = [], list(facts.names)
    for rule, forbidden in zip(compiled, facts.forbidden, strict=True):
        for label in np.flatnonzero(forbidden.any(0) & ~tacit).tolist():
            absences.append(forbidden * (np.arange(len(tacit)) == label))
            says.append(rule.absence.replace("{class}", class_names[label]))
    size = facts.forbidden[0].size if len(facts.forbidden) else len(facts.masses) * len(tacit)
    return _Problem(
        (share[:, :, None] * facts.coefficients[:, None]).reshape(-1, size),
        facts.bounds,
        facts.masses,
        (facts.forbidden.any(0) & tacit).reshape(-1) if len(facts.forbidden) else np.zeros(size, dtype=bool),
        np.array(absences, dtype=bool).reshape(-1, size),
        tuple(says),
    )


# ---- linear programs --------------------------------------------------------------------------------------------


def _conflict(problem: _Problem) -> tuple[str, ...]:
    """Statements that cannot hold together though all but any one of them can; none where all can."""
    kept = None if _plainly_possible(problem) else _witnesses(problem, np.ones(len(problem.says), dtype=bool))
    if kept is None:
        return ()
    for statement in np.flatnonzero(kept):
        fewer = kept.copy()
        fewer[statement] = False
        kept = fewer if _witnesses(problem, fewer) is not None else kept
    return tuple(text for text, used in zip(problem.says, kept, strict=True) if used)


def _plainly_possible(problem: _Problem) -> bool:
    """Tell if all holds, where each row bounds one class of the whole image; False elsewhere (it saves most programs).

    Intervals hold fractions that sum to 1 if their lower ends sum to at most 1, and their upper ends to at least 1.
    """
    single = (problem.coefficients != 0).sum(1) == 1
    if len(problem.masses) > 1 or not single.all():
        return False
    closed = problem.forbidden | problem.absences.any(0)
    lower, upper = np.zeros(len(closed)), np.where(closed, 0.0, 1.0)
    label = (problem.coefficients != 0).argmax(1)
    factor = problem.coefficients[np.arange(len(label)), label]
    below, above = factor > 0, factor < 0
    np.maximum.at(lower, label[below], problem.bounds[below] / factor[below])
    np.minimum.at(upper, label[above], problem.bounds[above] / factor[above])
    return bool((lower <= upper).all() and lower.sum() <= 1 and upper.sum() >= 1)


def _witnesses(problem: _Problem, used: Flags) -> Flags | None:
    """Those of the statements in use that prove, by their dual variables, that they cannot all hold; None if they can.

    The program asks for the least total violation, so that it always has a solution.
    """
    count, atoms = len(problem.bounds), len(problem.masses)
    rows, absences = used[:count], used[count:]
    closed = problem.forbidden | problem.absences[absences].any(0)
    size, violations = len(closed), int(rows.sum()) + atoms
    cost = np.concatenate([np.zeros(size), np.ones(violations)])
    extra = np.eye(violations)
    inequalities = np.hstack([-problem.coefficients[rows], -extra[: int(rows.sum())]])
    totals = np.hstack([np.kron(np.eye(atoms), np.ones(size // atoms)), extra[int(rows.sum()) :]])
    most = np.concatenate([np.where(closed, 0.0, np.inf), np.full(violations, np.inf)])
    result = linprog(
        cost, inequalities, -problem.bounds[rows], totals, problem.masses, np.stack([np.zeros_like(most), most], 1)
    )
    if result.fun <= _TOLERANCE:
        return None
    proving = np.zeros_like(used)
    proving[np.flatnonzero(rows)] = result.ineqlin.marginals < -_TOLERANCE
    open_wanted = (result.upper.marginals[:size] < -_TOLERANCE) & ~problem.forbidden
    for absence in np.flatnonzero(absences):
        if (problem.absences[absence] & open_wanted).any():
            proving[count + absence] = True
            open_wanted &= ~problem.absences[absence]
    return proving
