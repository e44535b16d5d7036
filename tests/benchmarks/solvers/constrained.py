"""Speed and accuracy of `ConstrainedLatent` on maps of 21 classes, against gradient ascent by the authors' rule.

The maps are smooth random fields like the outputs of networks at several stages of training; every image has
constraints that its softmax violates. The authors' rule (Pathak et al., ICCV 2015, released code): projected gradient
ascent, first step 1e5 / n, times 1.1 where the dual rose, else taken back and halved, until it changes by 1e-8 or
``--iterations``; with all 21 columns, suppression being rows as theirs, and with the present classes alone. One thread;
processor time, medians of interleaved repeats. Run from the project's root::

    python tests/benchmarks constrained --sizes 41 65
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from statistics import median

import numpy as np
import torch
from measuring import Clock, command_line, interleaved, markdown
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor

from weakseg_lightning import ConstrainedLatent
from weakseg_lightning.constraints import LinearConstraints

CLASSES = 21
# Amplitude of the fields, what is added to the background's, amplitude of the noise.
NETWORKS = {
    "untrained": (0.01, 0.0, 0.01),
    "random last layer": (0.3, 0.0, 0.1),
    "half trained": (2.0, 4.0, 0.3),
    "trained": (5.0, 8.0, 0.5),
    "confident": (12.0, 15.0, 1.0),
}
Row = tuple[NDArray[np.float64], float, float]


def main() -> None:
    """Print a line for each size, kind of constraints and network, and the summary of each size."""
    parser = command_line(__doc__)
    parser.add_argument("--sizes", nargs="+", type=int, default=[41, 65])
    parser.add_argument("--batch", type=int, default=12)
    parser.add_argument("--batches", type=int, default=4, help="of each network, for the numbers of evaluations")
    parser.add_argument("--repeats", type=int, default=5, help="of the times, on the first of these batches")
    parser.add_argument("--slow_batch", type=int, default=4, help="images for the times with all columns")
    parser.add_argument("--iterations", type=int, default=3000, help="limit of the authors' rule")
    parser.add_argument("--hardness", type=float, default=1.0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    titles = ("map", "constraints", "network", "evaluations: median, max", "residual", "ms per image")
    print(markdown([*titles, "21 columns", "present"], []))
    for size in options.sizes:
        lines = [line(size, sized, name, options) for sized in (False, True) for name in NETWORKS]
        evaluations = torch.cat([found.evaluations for found in lines]).float()
        print(
            f"{size}: evaluations median {evaluations.median():.0f}, max {evaluations.max():.0f}; "
            f"residual {max(found.residual for found in lines):.1e}; ms an image {median(f.ours for f in lines):.2f} "
            f"(max {max(f.ours for f in lines):.2f}); authors' rule takes {median(f.all_columns for f in lines):.0f} "
            f"(min {min(f.all_columns for f in lines):.0f}) times as long with all columns, "
            f"{median(f.present for f in lines):.1f} (min {min(f.present for f in lines):.1f}) with the present classes"
        )


@dataclass
class Found:
    """What was measured: milliseconds an image, and ratios."""

    evaluations: Tensor
    residual: float
    ours: float
    all_columns: float
    present: float


def line(size: int, sized: bool, name: str, options: argparse.Namespace) -> Found:
    """Measure one network and print it."""
    solver = ConstrainedLatent(hardness=options.hardness)
    rng = np.random.default_rng(size)
    batches = [active_batch(size, sized, name, options, rng) for _ in range(options.batches)]
    results = [solver.solve(*batch) for batch in batches]
    evaluations = torch.cat([result.evaluations for result in results])
    residual = max(float(result.residual.max()) for result in results)
    some = take(batches[0], torch.arange(options.slow_batch))
    wide, narrow = all_columns(*some), present_columns(*batches[0])
    runs: dict[str, tuple[Callable[[], object], int]] = {
        "ours": (lambda: solver.solve(*batches[0]), options.batch),
        "few": (lambda: solver.solve(*some), options.slow_batch),
        "all": (lambda: authors_rule(*wide, options), options.slow_batch),
        "present": (lambda: authors_rule(*narrow, options), options.batch),
    }
    times = interleaved({key: partial(milliseconds, *timed) for key, timed in runs.items()}, options.repeats)
    ours, few, slow, faster = (median(times[key]) for key in runs)
    found = Found(evaluations, residual, ours, slow / few, faster / ours)  # each on the same images
    print(
        f"| {size} | {'tags, sizes' if sized else 'tags'} | {name} | {evaluations.median()}, {evaluations.max()} | "
        f"{residual:.1e} | {ours:.2f} | {slow:.1f} ms, x{slow / few:.0f} | {faster:.2f} ms, x{faster / ours:.1f} |",
        flush=True,
    )
    return found


def milliseconds(run: Callable[[], object], images: int) -> float:
    """Processor time per image."""
    with Clock() as clock:
        run()
    return 1000 * clock.cpu / images


def authors_rule(logits: Tensor, rows: Tensor, bounds: Tensor, upper: Tensor, options: argparse.Namespace) -> Tensor:
    """Projected gradient ascent on the dual by the authors' rule; images that have stopped are dropped: the duals."""
    logits = logits * options.hardness
    found, images = torch.zeros_like(bounds), torch.arange(len(bounds))
    duals, step = torch.zeros_like(bounds), torch.full_like(bounds[:, :1], 1e5 / logits.shape[2])
    value, gradient = dual(logits, rows, bounds, duals, options.hardness)
    for _ in range(options.iterations):
        trial = torch.minimum((duals + step * gradient).clamp(min=0), upper)
        new, ahead = dual(logits, rows, bounds, trial, options.hardness)
        rose = new >= value
        done = (new - value).abs() <= 1e-8
        step = step * torch.where(rose, 1.1, 0.5)[:, None]
        duals, gradient = (torch.where(rose[:, None], a, b) for a, b in ((trial, duals), (ahead, gradient)))
        value = torch.where(rose, new, value)
        if bool(done.any()):
            found[images[done]] = duals[done]
            images, logits, rows, bounds, upper, duals, step, value, gradient = (
                t[~done] for t in (images, logits, rows, bounds, upper, duals, step, value, gradient)
            )
            if len(images) == 0:
                break
    found[images] = duals
    return found


def dual(logits: Tensor, rows: Tensor, bounds: Tensor, duals: Tensor, hardness: float) -> tuple[Tensor, Tensor]:
    """Value and gradient of the dual."""
    scores = logits + hardness * (duals[:, None] @ rows).mT
    total = scores.logsumexp(1, keepdim=True)
    shares = (scores - total).exp_().mean(2)
    value = (duals * bounds).sum(1).double() - total[:, 0].mean(1, dtype=torch.float64) / hardness
    return value, bounds - (rows @ shares[:, :, None])[:, :, 0]


def all_columns(logits: Tensor, constraints: LinearConstraints) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """All 21 columns; a row ``-p_l >= 0`` for each class that is absent."""
    absent = (~constraints.allowed).float()
    rows = torch.cat([constraints.coefficients * constraints.active[:, :, None], torch.diag_embed(-absent)], dim=1)
    bounds = torch.cat([constraints.bounds * constraints.active, torch.zeros_like(absent)], dim=1)
    upper = torch.cat([constraints.slack * constraints.active.float().clamp(min=1e-30), absent * 1e30], dim=1)
    return logits.flatten(2), rows, bounds, upper


def present_columns(logits: Tensor, constraints: LinearConstraints) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The classes that an image may hold, and as many columns as the image with the most of them has."""
    order = constraints.allowed.byte().argsort(dim=1, descending=True, stable=True)
    order = order[:, : int(constraints.allowed.sum(1).max())]
    scores = logits.flatten(2).gather(1, order[:, :, None].expand(-1, -1, logits[0, 0].numel()))
    scores = scores.masked_fill(~constraints.allowed.gather(1, order)[:, :, None], -1e4)
    rows = constraints.coefficients.gather(2, order[:, None].expand(-1, constraints.bounds.shape[1], -1))
    return scores, rows, constraints.bounds, constraints.slack


def active_batch(
    size: int, sized: bool, name: str, options: argparse.Namespace, rng: np.random.Generator
) -> tuple[Tensor, LinearConstraints]:
    """A batch of images whose softmax violates their constraints."""
    solver = ConstrainedLatent(hardness=options.hardness, max_evaluations=1)
    kept: list[tuple[Tensor, list[Row], list[int]]] = []
    for _ in range(40 * options.batch):
        tags = sorted(rng.choice(np.arange(1, CLASSES), rng.integers(1, 6), replace=False).tolist())
        image = field(size, name, rng), image_rows(tags, sized, rng), tags
        if not solver.solve(*pack([image])).converged[0]:
            kept.append(image)
        if len(kept) == options.batch:
            return pack(kept)
    raise SystemExit(f"too few images of a network `{name}` violate their constraints")


def field(size: int, name: str, rng: np.random.Generator) -> Tensor:
    """Logits of one image."""
    amplitude, bias, noise = NETWORKS[name]
    smooth = np.stack([gaussian_filter(rng.normal(size=(size, size)), size / 10) for _ in range(CLASSES)])
    scores = amplitude * smooth / smooth.std(axis=(1, 2), keepdims=True) + noise * rng.normal(size=smooth.shape)
    scores[0] += bias
    return torch.from_numpy(scores).float()


def image_rows(tags: list[int], sized: bool, rng: np.random.Generator) -> list[Row]:
    """The paper's rows: for tags, or for tags with one bit of size, at least one class being large."""
    unit = np.eye(CLASSES)
    rows: list[Row] = [(unit[0], 0.3, np.inf), (-unit[0], -0.7, np.inf)]
    large = [index == 0 or rng.random() < 0.5 for index in range(len(tags))]
    for tag, big in zip(tags, large, strict=True):
        if not sized:
            rows.append((unit[tag], 0.05, 2.0))
        else:
            rows.append((unit[tag], 0.1, np.inf) if big else (-unit[tag], -0.01, np.inf))
    return rows


def pack(images: list[tuple[Tensor, list[Row], list[int]]]) -> tuple[Tensor, LinearConstraints]:
    """A batch."""
    number = max(len(rows) for _, rows, _ in images)
    coefficients, allowed = torch.zeros(len(images), number, CLASSES), torch.zeros(len(images), CLASSES).bool()
    bounds, slack = torch.zeros(len(images), number), torch.zeros(len(images), number)
    active = torch.zeros(len(images), number).bool()
    for b, (_, rows, tags) in enumerate(images):
        allowed[b, [0, *tags]] = True
        active[b, : len(rows)] = True
        for c, (a, bound, beta) in enumerate(rows):
            coefficients[b, c], bounds[b, c], slack[b, c] = torch.from_numpy(a), bound, beta
    names = tuple(f"row {c}" for c in range(number))
    constraints = LinearConstraints(coefficients, bounds, slack, active, allowed, None, None, None, names)
    return torch.stack([scores for scores, _, _ in images]), constraints


def take(batch: tuple[Tensor, LinearConstraints], images: Tensor) -> tuple[Tensor, LinearConstraints]:
    """Some images of a batch without regions."""
    logits, constraints = batch
    parts = {f.name: getattr(constraints, f.name) for f in fields(constraints)}
    return logits[images], LinearConstraints(**{n: t[images] if isinstance(t, Tensor) else t for n, t in parts.items()})


if __name__ == "__main__":
    main()
