"""Segmentation from seeds alone: color models of the classes and a grid Potts energy, alternately."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from operator import itemgetter
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import override

from weakseg_lightning.checks import at_least, at_least_and_below, finite_at_least
from weakseg_lightning.devices import to_device, to_host
from weakseg_lightning.energies.potts import VOID, GridPotts
from weakseg_lightning.errors import UserError
from weakseg_lightning.solvers.base import Solver, SolverResult
from weakseg_lightning.solvers.potts.alpha_expansion import AlphaExpansion
from weakseg_lightning.solvers.potts.color_models import ColorMixture, ColorTable
from weakseg_lightning.solvers.problem import IMPOSSIBLE, Problem

_NO_SEEDS = "the image has no seeds"


@dataclass(frozen=True)
class GrabCut(Solver):
    """GrabCut from scribbles, scores or both, for any number of classes.

    Minimizes alternately over color models theta and labelings x with ``x_p`` = the seed's class at seeds

        ``E(x, theta) = sum_p U_p(x_p) + sum_{pq in N} w_pq [x_p != x_q]``,

    ``U_p(k) = -log P(I_p | theta_k) - score_weight * log softmax_k(scores_p)``: each class gets a mixture of Gaussians
    in RGB, first from its seeds, then from the pixels that it has; the solver labels the image again; until nothing
    changes. A fraction ``outliers`` of each class may have any color.

    With ``score_weight`` 0 the scores say nothing but how many classes there are, and an image without seeds is not
    solved: its labels are 255, `SolverResult.message` says so. With more, a class without seeds begins with the pixels
    where its score is the best of those that may be used: seeds are not needed.

    A class that may be used but has neither begins with the colors of all pixels without a label that may have it; of
    several such, the first takes what is theirs. One whose pixels are all lost keeps its model. An image whose label
    set holds one class is all of that class.

    In the result, ``sweeps`` counts the rounds, ``converged`` says whether the labeling stood still before
    ``max_rounds``, and energies count ``U_p(x_p) + log sum_k exp(-U_p(k))`` for each pixel.

    Args:
        solver: minimizes over labelings; its scores are ``-U``, its Potts weight is that of w; alpha-expansion with
            weight 50 by default.
        components: Gaussians in the mixture of each class, at most.
        outliers: fraction of each class whose colors are spread evenly, in [0, 1). It bounds what a color can say that
            no seed has.
        max_rounds: at most so many rounds; 1 leaves the models those that they begin with.
        score_weight: how much the scores count against the colors, >= 0; with 0 they are not read.

    Raises:
        ValueError: if an argument is out of its range.

    References:
        Rother, Kolmogorov, Blake, GrabCut: Interactive Foreground Extraction using Iterated Graph Cuts, SIGGRAPH 2004.
        Boykov and Jolly, Interactive Graph Cuts for Optimal Boundary and Region Segmentation, ICCV 2001.

    Example:
        >>> image = torch.tensor([0.1, 0.1, 0.1, 0.9, 0.9]).expand(1, 3, 1, 5)
        >>> seeds = torch.tensor([[[0, 255, 255, 255, 1]]])
        >>> GrabCut(AlphaExpansion(GridPotts(1.0))).solve(torch.zeros(1, 2, 1, 5), image, seeds=seeds).labels
        tensor([[[0, 0, 0, 1, 1]]], dtype=torch.uint8)
    """

    solver: Solver = AlphaExpansion(GridPotts(50.0))  # noqa: RUF009 (frozen)
    components: int = 5
    outliers: float = 0.05
    max_rounds: int = 10
    score_weight: float = 0.0

    label_set_on_host: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check the arguments."""
        at_least("components", self.components, 1)
        at_least("max_rounds", self.max_rounds, 1)
        at_least_and_below("outliers", self.outliers, 0, 1)
        finite_at_least("score_weight", self.score_weight, 0)
        if getattr(getattr(self.solver, "potts", None), "needs_guide", False):
            raise UserError("`solver.potts.edges` must be contrast: color models and edges see one image; take it")

    @override
    def _solve(self, scores: Tensor, image: Tensor, problem: Problem) -> SolverResult:
        device, began = scores.device, time.perf_counter()
        scores, image, problem = self._on_host(scores, image, problem)
        fetched = time.perf_counter()
        single = [slice(i, i + 1) for i in range(len(image))]
        found = _joined([self._solve_one(scores[one], image[one], problem.map(itemgetter(one))) for one in single])
        solved = time.perf_counter()
        labels = to_device(found.labels, device)
        return replace(found, labels=labels, transfer_seconds=fetched - began + time.perf_counter() - solved)

    def _on_host(self, scores: Tensor, image: Tensor, problem: Problem) -> tuple[Tensor, Tensor, Problem]:
        """Bring to the CPU, where colors are counted, what its rounds need: a device is waited for once."""
        used = scores if self.score_weight > 0 else scores[:, :0]
        optional = {name: getattr(problem, name) for name in ("initial", "allowed_at")}
        given = {name: tensor for name, tensor in optional.items() if tensor is not None}
        used, image, seeds, valid, *moved = to_host(used, image, problem.seeds, problem.valid, *given.values())
        problem.require_known(seeds, valid)
        at_hand = optional | dict(zip(given, moved, strict=True))
        return used, image, Problem(seeds, problem.known, valid, known=problem.known, **at_hand)

    def _solve_one(self, scores: Tensor, image: Tensor, problem: Problem) -> SolverResult:
        seeds, valid = problem.seeds[0].numpy(), problem.valid[0].numpy()
        given = self.score_weight * scores.log_softmax(1) if self.score_weight > 0 else None
        if given is None and int(problem.allowed[0].sum()) == 1:
            given = torch.zeros(problem.allowed.shape[:2] + seeds.shape)
        if given is None and not ((seeds != VOID) & valid).any():
            return _unsolved(problem.seeds)
        models = _Models(ColorTable.of(image[0].numpy()), self.components, self.outliers)
        labels = np.where(seeds != VOID, seeds, problem.start()[0].numpy())
        if given is not None:
            usable = given.masked_fill(~problem.allowed[:, :, None, None], -torch.inf)
            best = usable[0].numpy().argmax(0)  # a fifth of the time of torch's
            labels = np.where((labels == VOID) & ~np.isin(best, labels[valid]), best.astype(np.uint8), labels)
        at = problem.allowed_at
        classes = problem.allowed[0].nonzero().flatten().tolist()
        possible = {name: np.True_ if at is None else at[0, name].numpy() for name in classes}
        before: Tensor | None = None
        for round_ in range(self.max_rounds):  # noqa: B007 - the last one counts
            models.fit(labels, possible, valid)
            colors = problem.restricted(models.log_likelihoods(problem.allowed.shape[1])[None])
            result = self.solver.solve(
                colors if given is None else colors + given,
                image,
                seeds=problem.seeds,
                label_set=problem.allowed,
                valid=problem.valid,
                initial=before,
            )
            found = result.labels[0].numpy()
            stable = bool((found == labels)[valid].all())
            labels, before = found, result.labels
            if stable or result.message[0]:
                break
        return replace(
            result,
            sweeps=torch.tensor([round_ + 1]),
            converged=torch.tensor([stable and not result.message[0]]),
            lower_bound=torch.full_like(result.lower_bound, torch.nan),  # the solver's is that of its models alone
        )


@dataclass
class _Models:
    """Color models of an image's classes."""

    table: ColorTable
    components: int
    outliers: float
    of_class: dict[int, ColorMixture] = field(default_factory=dict)

    def fit(self, labels: NDArray[np.uint8], possible: Mapping[int, Any], valid: NDArray[np.bool_]) -> None:
        """Fit each class to its pixels; the first time, one without pixels to those without a label that may have it.

        Args:
            labels: uint8 ``(H, W)``, 255 where there is none.
            possible: the classes, and which pixels may have them, bool ``(H, W)`` or True.
            valid: bool ``(H, W)``.
        """
        for name, places in possible.items():
            counts = self.table.count((labels == name) & valid)
            if not counts.any() and name not in self.of_class:
                unlabeled = (labels == VOID) & valid & places
                counts = self.table.count(unlabeled if unlabeled.any() else valid)
            if counts.any():
                self.of_class[name] = ColorMixture.fitted(self.table.colors, counts, self.components)

    def log_likelihoods(self, num_classes: int) -> Tensor:
        """Log-likelihood of each pixel's color in each class, float ``(K, H, W)``."""
        scores = np.full((num_classes, *self.table.index.shape), IMPOSSIBLE, dtype=np.float32)
        for name, mixture in self.of_class.items():
            density = mixture.log_density(self.table.colors)
            if self.outliers > 0:  # the unit cube of colors has volume 1
                density = np.logaddexp(np.log1p(-self.outliers) + density, np.log(self.outliers))
            scores[name] = density[self.table.index]
        return torch.from_numpy(scores)


def _unsolved(seeds: Tensor) -> SolverResult:
    labels, unknown = torch.full_like(seeds, VOID), torch.full((1,), torch.nan, dtype=torch.float64)
    no = torch.zeros(1, dtype=torch.bool)
    return SolverResult(labels, unknown, unknown, no.long(), no, unknown, (_NO_SEEDS,))


def _joined(results: list[SolverResult]) -> SolverResult:
    """Results of single images as one of the batch."""
    names = ("labels", "unary", "pairwise", "sweeps", "converged", "lower_bound")
    parts: dict[str, Any] = {name: torch.cat([getattr(result, name) for result in results]) for name in names}
    return SolverResult(**parts, message=tuple(text for result in results for text in result.message))
