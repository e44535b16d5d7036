"""Discrete minimization of the grid Potts energy by alpha-expansion."""

import time
from dataclasses import dataclass, replace
from typing import ClassVar, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import override

from weakseg_lightning._native import _core
from weakseg_lightning.checks import at_least, finite_at_least, one_of
from weakseg_lightning.devices import to_device
from weakseg_lightning.energies.potts import VOID, GridPotts
from weakseg_lightning.solvers.base import Solver, SolverResult
from weakseg_lightning.solvers.potts.host import failure_messages, potts_batch
from weakseg_lightning.solvers.potts.lower_bound import potts_lower_bound
from weakseg_lightning.solvers.potts.softmax import precise_potentials, split_softmax
from weakseg_lightning.solvers.problem import Problem, Start, check_labels, check_problem
from weakseg_lightning.solvers.threads import check_num_threads, default_num_threads


@dataclass(frozen=True)
class AlphaExpansion(Solver):
    """alpha-expansion on the pixel grid, by graph cuts in compiled code.

    Minimizes, for each image, over labelings x with ``x_p`` = the seed's class at seeds,

        ``E(x) = sum_p U_p(x_p) + sum_{pq in N} w_pq [x_p != x_q]``,

    ``U_p(k) = -unary_weight * log softmax_k(logits_p)``, N the 4- or 8-grid without padding, ``w_pq`` from `GridPotts`.

    What is guaranteed:
        - Two allowed labels: the global minimum, by two cuts, whatever the start; among several minima the one with the
          fewest pixels of the higher label. `SolverResult.lower_bound` comes from their flows and certifies it.
        - More labels, ``converged=True``: no expansion move (any set of pixels switching to one allowed label) lowers
          the energy. Then E is at most the unary plus twice the pairwise energy of the best labeling; on images
          it is mostly within a fraction of a percent of the optimum (`bound_optimality_gap` tells; where it is not,
          try another ``start``). The first sweep does nearly all the work.
        - ``converged=False`` without a message: ``max_sweeps`` was reached; raise it (results after 2 sweeps differ
          from the final energy by parts per million). With a message: the image was not solved, its labels are 255.
        - Ties keep the label a pixel has. The result does not depend on ``num_threads``; nor (but for ``zeros``) on how
          the labels are numbered, unless two cost the same or are the cheapest on equally many pixels or blocks.
        - The cut works on integers: edges and potentials are rounded to 2^-26 of the image's largest edge weight.
          Edges much weaker than that against the strongest are dropped. Energies are computed in double precision.

    How it works: each move is a minimum cut on the implicit grid, found by a pseudoflow algorithm; integers throughout.
    In a sweep labels move in order of the pixels whose unary term they minimize, the most first.
    A pixel becomes a node of the graph when flow first looks at it, and sources are looked for along the borders
    between labels alone, so that a move which changes little touches little. The flow of a label's last move stands
    where nothing has changed since. Seeds, padding and labels that an image may not use cost no nodes.

    What it starts from: by default the same energy is minimized first over labelings that are constant on blocks of
    4 x 4 pixels, and before that on blocks of 16 x 16 and so on; what is left to the pixels are the borders. Two labels
    are solved from there by letting 0 take what pays, then 1: nothing is better, as E(a or x) + E(a and x) is at most
    E(a) + E(x) for any labelings a and x.

    What it costs: time nearly linear in the pixels that the moves look at; more for larger weights and for scores that
    are noise (the worst case is that of pseudoflow, O(n^2 log n) per move, n pixels). Restrict the labels to those of
    the image (``label_set``). Images of a batch run in parallel, without the GIL; the scores of CPU tensors are read in
    place, from other devices only those of allowed labels travel. About 90 bytes per pixel and thread, kept for the
    next call.

    Warning:
        With large Potts weights against the unary term and few or no seeds, thin and small objects are cut off (the
        shrinking bias): lower ``potts.weight`` or raise ``unary_weight``. A label set taken from a crop rather than
        from the whole image floods the crop with one class.

    Args:
        potts: the pairwise weights.
        unary_weight: factor of the unary term, >= 0.
        max_sweeps: at most so many passes over the labels, >= 1.
        start: labeling to start from, where `solve` is not told one by its argument ``initial``: ``coarse``, the
            result for blocks of 4 x 4 pixels, which costs little and mostly ends sooner and lower than the others;
            ``argmin`` of the unary term over the allowed labels; ``zeros`` (the background); ``initial`` insists on
            that argument. Where the start names no allowed label, argmin stands in.
        num_threads: threads for the images of a batch, >= 1; None = the process's CPU cores divided by the ranks on
            this machine; in training less one for each process that loads data, down to half of them.

    Raises:
        ValueError: if an argument is out of its range.

    References:
        Boykov, Veksler, Zabih, Fast Approximate Energy Minimization via Graph Cuts, PAMI 2001.
        Kolmogorov, Zabih, What Energy Functions Can Be Minimized via Graph Cuts?, PAMI 2004.
        Hochbaum, The Pseudoflow Algorithm: A New Algorithm for the Maximum-Flow Problem, Operations Research 2008.
        Marin et al., Beyond Gradient Descent for Regularized Segmentation Losses, CVPR 2019, eq. 8.

    Example:
        >>> logits = torch.tensor([[[[2.0, 0.1, 2.0]], [[0.0, 0.2, 0.0]]]])
        >>> AlphaExpansion(GridPotts(weight=1.0)).solve(logits, torch.zeros(1, 3, 1, 3)).labels
        tensor([[[0, 0, 0]]], dtype=torch.uint8)
    """

    potts: GridPotts = GridPotts()  # noqa: RUF009 (frozen)
    unary_weight: float = 1.0
    max_sweeps: int = 5
    start: Start = "coarse"
    num_threads: int | None = None

    label_set_on_host: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check the arguments."""
        finite_at_least("unary_weight", self.unary_weight, 0)
        at_least("max_sweeps", self.max_sweeps, 1)
        one_of("start", self.start, get_args(Start))
        check_num_threads(self.num_threads)

    @override
    def _solve(self, scores: Tensor, image: Tensor, problem: Problem) -> SolverResult:
        threads = self.num_threads or default_num_threads()
        edges = self.potts.edge_weights(image, problem.valid)
        best, rest = split_softmax(scores, problem.valid, threads)
        began = time.perf_counter()
        start = problem.start(self.start)
        batch, (rest,) = potts_batch(scores, best, -self.unary_weight, edges, problem, start, rest)
        fetched = time.perf_counter()
        from_blocks = self.start == "coarse" and problem.initial is None
        answer = _Answer(*_core.expand(batch, self.max_sweeps, from_blocks, threads))
        answer.add_to_unary(rest.double().sum(1) * self.unary_weight)
        solved = time.perf_counter()
        labels = to_device(torch.from_numpy(answer.labels), scores.device)
        return _result(labels, answer, fetched - began + time.perf_counter() - solved)

    @torch.no_grad()
    def bound_optimality_gap(
        self,
        result: SolverResult,
        logits: Tensor,
        image: Tensor,
        *,
        seeds: Tensor | None = None,
        label_set: Tensor | None = None,
        valid: Tensor | None = None,
        max_iterations: int = 1000,
        tolerance: float = 1e-3,
    ) -> SolverResult:
        """Find out how far a labeling may be from the optimum, whatever the number of labels.

        A tool for evaluation: it takes far longer than `solve`, and a GPU helps. See `potts_lower_bound`.

        Args:
            result: what `solve` returned.
            logits: the scores that it was given.
            image: the images that it was given.
            seeds: the seeds that it was given.
            label_set: the label set that it was given.
            valid: the mask that it was given.
            max_iterations: at most so many iterations, >= 0.
            tolerance: images whose `SolverResult.gap` is at most this are done, >= 0.

        Returns:
            The result with the better of its own lower bound and the one found; nan for images that failed.

        Raises:
            ValueError: if the arguments do not fit together.
        """
        if label_set is not None:
            label_set = to_device(label_set, logits.device)  # here all is on the device
        problem = check_problem(logits, image, seeds, label_set, valid)
        check_labels("result.labels", result.labels, logits)
        logits = problem.restricted(logits)
        unknown = (result.energy.isfinite() & ~(result.gap <= tolerance)).nonzero().flatten()
        some, device = unknown.to(logits.device), logits.device
        where = "cpu" if device.type == "mps" else device  # MPS has no float64
        logits, image, seeds, allowed, valid, labels = (
            t[some].to(where) for t in (logits, image, problem.seeds, problem.allowed, problem.valid, result.labels)
        )
        found = potts_lower_bound(
            precise_potentials(logits, self.unary_weight),
            # The solver may compute its weights by other means; the bound must stand whatever their last digits.
            self.potts.edge_weights(image, valid) * (1 - 1e-5),
            connectivity=self.potts.connectivity,
            allowed=_usable(seeds, allowed),
            valid=valid,
            energy=result.energy[unknown],
            labels=labels,
            max_iterations=max_iterations,
            tolerance=tolerance,
        )
        bound = result.lower_bound.clone()
        bound[unknown] = torch.fmax(bound[unknown], found)
        return replace(result, lower_bound=bound)


@dataclass(frozen=True)
class _Answer:
    labels: NDArray[np.uint8]  # (B, H, W)
    energies: NDArray[np.float64]  # (B, 3): unary, pairwise, lower bound
    status: NDArray[np.int32]  # (B, 3): sweeps, converged, failure

    def add_to_unary(self, constant: Tensor) -> None:
        """Add what the softmax adds to the unary energy of every labeling, ``(B,)``."""
        self.energies[:, [0, 2]] += constant.numpy()[:, None]
        unary, pairwise, bound = self.energies.T
        np.minimum(bound, unary + pairwise, out=bound)  # the constant may round them apart


def _usable(seeds: Tensor, allowed: Tensor) -> Tensor:
    """The labels that each pixel may take, bool ``(B, K, H, W)``: at seeds, theirs."""
    names = torch.arange(allowed.shape[1], device=seeds.device)[:, None, None]
    return allowed[:, :, None, None] & ((seeds == VOID)[:, None] | (seeds[:, None] == names))


def _result(labels: Tensor, answer: _Answer, transfer_seconds: float) -> SolverResult:
    unary, pairwise, bound = torch.from_numpy(answer.energies).unbind(1)
    sweeps, converged, failure = torch.from_numpy(answer.status).unbind(1)
    return SolverResult(
        labels=labels,
        unary=unary,
        pairwise=pairwise,
        sweeps=sweeps.long(),
        converged=converged.bool(),
        lower_bound=bound,
        message=failure_messages(failure),
        transfer_seconds=transfer_seconds,
    )
