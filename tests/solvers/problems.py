"""Random problems of constrained label distributions, and an independent solution of them by scipy, image by image."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import logsumexp

from weakseg_lightning.constraints import LinearConstraints

INFINITE = float("inf")
Array = NDArray[np.float64]
Row = tuple[Array, float, float, Array | None]  # coefficients, bound, slack, mask


@dataclass
class Problem:
    """One image: logits ``(K, H, W)``, rows, allowed classes ``(K,)`` or ``(K, H, W)``, and valid pixels ``(H, W)``."""

    logits: Array
    rows: list[Row]
    allowed: NDArray[np.bool_]
    valid: NDArray[np.bool_]

    def usable(self) -> NDArray[np.bool_]:
        """The classes that each pixel may take, ``(K, H, W)``."""
        allowed = self.allowed.reshape(len(self.logits), *([1, 1] if self.allowed.ndim == 1 else self.valid.shape))
        usable = np.broadcast_to(allowed, self.logits.shape).copy()
        usable[0] |= ~usable.any(0)
        return usable


def unit(classes: int, label: int, value: float = 1.0) -> Array:
    """Coefficients that pick one class."""
    return value * np.eye(classes)[label]


def tag_rows(classes: int, tags: list[int], rng: np.random.Generator) -> list[Row]:
    """The paper's rows for tags."""
    rows: list[Row] = [(unit(classes, 0), 0.3, INFINITE, None), (unit(classes, 0, -1), -0.7, INFINITE, None)]
    return rows + [(unit(classes, tag), float(rng.uniform(0.02, 0.1)), 2.0, None) for tag in tags]


def size_rows(classes: int, tags: list[int], rng: np.random.Generator) -> list[Row]:
    """Tags with one bit of size: the first is large, the others may be small."""
    rows = tag_rows(classes, [], rng)
    for index, tag in enumerate(tags):
        if index == 0 or rng.random() < 0.5:
            rows.append((unit(classes, tag), 0.1, INFINITE, None))
        else:
            rows += [(unit(classes, tag), 0.005, 2.0, None), (unit(classes, tag, -1), -0.01, INFINITE, None)]
    return rows


def random_box(shape: tuple[int, int], rng: np.random.Generator) -> Array:
    """A rectangle, sometimes empty."""
    mask = np.zeros(shape)
    (top, bottom), (left, right) = (np.sort(rng.integers(0, size + 1, 2)) for size in shape)
    mask[top:bottom, left:right] = 1
    return mask


def random_problem(kind: str, rng: np.random.Generator, size: int = 6) -> Problem:
    """A problem of a kind: tags, sizes, boxes, ratios, conflict, pixels."""
    classes = int(rng.integers(2, 7))
    shape = (int(rng.integers(1, size + 1)), int(rng.integers(1, size + 1)))
    logits = rng.choice([0.05, 1.0, 4.0]) * rng.normal(size=(classes, *shape))
    logits[0] += rng.choice([0.0, 3.0, 8.0])
    tags = sorted(rng.choice(np.arange(1, classes), int(rng.integers(1, min(classes, 5))), replace=False).tolist())
    allowed = np.isin(np.arange(classes), [0, *tags])
    valid = rng.random(shape) < rng.choice([0.7, 1.0])
    valid.flat[0] = True
    rows = size_rows(classes, tags, rng) if kind == "sizes" else tag_rows(classes, tags, rng)
    if kind == "boxes":
        rows += [(unit(classes, tag), 0.75, float(rng.choice([1.0, 3.0])), random_box(shape, rng)) for tag in tags]
    if kind == "ratios":
        rows += [(unit(classes, tag) - rng.uniform(0.1, 2) * unit(classes, 0), 0.0, 1.5, None) for tag in tags]
        rows.append((rng.normal(size=classes), float(rng.normal()), 3.0, None))
    if kind == "conflict":
        rows = [(rng.normal(size=classes), float(rng.normal()), float(rng.uniform(0, 4)), None) for _ in range(6)]
        rows += [(unit(classes, tag), 0.6, 2.0, random_box(shape, rng)) for tag in tags]
    if kind == "pixels":
        allowed = (rng.random((classes, *shape)) < 0.7) & allowed[:, None, None]
        rows = [(a, b, 2.0, mask) for a, b, _, mask in rows]
    return Problem(logits, rows, allowed, valid)


def pack(
    problems: list[Problem], dtype: torch.dtype = torch.float64
) -> tuple[torch.Tensor, LinearConstraints, torch.Tensor]:
    """A batch of problems: logits, constraints and valid pixels; what an image does not have is nan."""
    batch, classes = len(problems), max(len(p.logits) for p in problems)
    height, width = (max(p.valid.shape[axis] for p in problems) for axis in (0, 1))
    number = max(1, *(len(p.rows) for p in problems))
    logits = torch.full((batch, classes, height, width), torch.nan, dtype=dtype)
    valid = torch.zeros((batch, height, width), dtype=torch.bool)
    allowed = torch.zeros((batch, classes), dtype=torch.bool)
    allowed_at = torch.zeros((batch, classes, height, width), dtype=torch.bool)
    coefficients = torch.zeros((batch, number, classes), dtype=dtype)
    bounds, slack = (torch.full((batch, number), torch.nan, dtype=dtype) for _ in range(2))
    active = torch.zeros((batch, number), dtype=torch.bool)
    regions, region_of = torch.zeros((batch, number, height, width), dtype=torch.bool), torch.full((batch, number), -1)
    for b, problem in enumerate(problems):
        k, (h, w) = len(problem.logits), problem.valid.shape
        logits[b, :k, :h, :w] = torch.from_numpy(problem.logits)
        valid[b, :h, :w] = torch.from_numpy(problem.valid)
        allowed_at[b, :k, :h, :w] = torch.from_numpy(problem.usable())
        allowed[b, :k] = allowed_at[b, :k].flatten(1).any(1)
        for c, (a, bound, beta, mask) in enumerate(problem.rows):
            coefficients[b, c, :k], bounds[b, c], slack[b, c] = torch.from_numpy(a), bound, beta
            active[b, c] = True
            if mask is not None:
                regions[b, c, :h, :w], region_of[b, c] = torch.from_numpy(mask).bool(), c
    constraints = LinearConstraints(
        coefficients=coefficients,
        bounds=bounds,
        slack=slack,
        active=active,
        allowed=allowed,
        regions=regions,
        region_of=region_of,
        allowed_at=allowed_at,
        names=tuple(f"row {c}" for c in range(number)),
    )
    return logits, constraints, valid


def drawn(
    kinds: Sequence[str], count: int, seed: int, size: int = 6, dtype: torch.dtype = torch.float64
) -> tuple[list[Problem], tuple[torch.Tensor, LinearConstraints, torch.Tensor]]:
    """So many random problems of each kind, and the batch of all of them."""
    rng = np.random.default_rng(seed)
    problems = [random_problem(kind, rng, size) for kind in kinds for _ in range(count)]
    return problems, pack(problems, dtype)


def rows_of(
    rows: list[tuple[list[float], float, float]],
    allowed: torch.Tensor | list[bool] | None = None,
    images: int = 1,
    **others: Any,
) -> LinearConstraints:
    """Constraints that are the same for each image: coefficients, bound, slack."""
    coefficients, bounds, slack = (torch.tensor(part) for part in zip(*rows, strict=True))
    given = {
        "coefficients": coefficients.expand(images, -1, -1),
        "bounds": bounds.expand(images, -1),
        "slack": slack.expand(images, -1),
        "active": torch.ones(images, len(rows), dtype=torch.bool),
        "allowed": torch.as_tensor([True] * len(rows[0][0]) if allowed is None else allowed).expand(images, -1),
        "names": tuple(f"row {c}" for c in range(len(rows))),
        **dict.fromkeys(("regions", "region_of", "allowed_at")),
    }
    return LinearConstraints(**{**given, **others})


class Reference:
    """The dual of one image in plain numpy, double precision."""

    def __init__(self, problem: Problem, hardness: float = 1.0, max_dual: float = 1000.0) -> None:
        self.valid, self.hardness = problem.valid, hardness
        self.count = max(1, int(problem.valid.sum()))
        self.scores = np.where(problem.usable(), problem.logits, -np.inf)[:, problem.valid]
        masks = [np.ones(problem.valid.shape) if mask is None else mask for *_, mask in problem.rows]
        self.masks = np.array([mask[problem.valid] for mask in masks])
        self.rows = np.array([a for a, *_ in problem.rows])
        self.bounds = np.array([b for _, b, *_ in problem.rows])
        self.upper = np.array([min(beta, max_dual) if np.isinf(beta) else beta for _, _, beta, _ in problem.rows])

    def distributions(self, duals: Array) -> Array:
        """P at the valid pixels, ``(K, n)``."""
        scores = self.hardness * (self.scores + np.einsum("c,ck,cn->kn", duals, self.rows, self.masks))
        return np.exp(scores - logsumexp(scores, axis=0))

    def value(self, duals: Array) -> float:
        """The dual."""
        scores = self.hardness * (self.scores + np.einsum("c,ck,cn->kn", duals, self.rows, self.masks))
        reward = duals @ (self.bounds * self.masks.sum(1))
        return float(reward - logsumexp(scores, axis=0).sum() / self.hardness) / self.count

    def gradient(self, duals: Array) -> Array:
        """Its gradient."""
        shares = np.einsum("ck,kn,cn->c", self.rows, self.distributions(duals), self.masks)
        return (self.bounds * self.masks.sum(1) - shares) / self.count

    def residual(self, duals: Array) -> float:
        """Largest component of the projected gradient."""
        gradient = self.gradient(duals)
        outward = ((duals <= 0) & (gradient <= 0)) | ((duals >= self.upper) & (gradient >= 0))
        return float(np.abs(np.where(outward, 0, gradient)).max(initial=0.0))

    def solve(self) -> Array:
        """The dual variables, by L-BFGS-B."""
        found = minimize(
            lambda duals: -self.value(duals),
            np.zeros(len(self.bounds)),
            jac=lambda duals: -self.gradient(duals),
            bounds=[(0, upper) for upper in self.upper],
            method="L-BFGS-B",
            options={"ftol": 0, "gtol": 1e-10, "maxiter": 3000, "maxfun": 6000, "maxls": 50},
        )
        return np.asarray(found.x)

    def primal(self, probabilities: Array) -> float:
        """KL divergence and price of the slack, per pixel; its least value is the dual's greatest, less that at 0."""
        logs = self.hardness * self.scores - logsumexp(self.hardness * self.scores, axis=0)
        with np.errstate(divide="ignore", invalid="ignore"):
            divergence = np.where(probabilities > 0, probabilities * (np.log(probabilities) - logs), 0).sum()
        shares = np.einsum("ck,kn,cn->c", self.rows, probabilities, self.masks)
        short = np.maximum(0, self.bounds * self.masks.sum(1) - shares)
        return float(divergence / self.hardness + self.upper @ short) / self.count
