"""alpha-expansion by GCO, a library that users install: its license keeps it out of this package."""

import threading
import time
import warnings
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import override

from weakseg_lightning.checks import one_of
from weakseg_lightning.devices import to_host
from weakseg_lightning.energies.grid import OFFSETS
from weakseg_lightning.energies.potts import VOID, GridPotts, potts_energy, unary_energy, unary_potentials
from weakseg_lightning.solvers.base import Solver, SolverResult
from weakseg_lightning.solvers.potts.alpha_expansion import AlphaExpansion
from weakseg_lightning.solvers.problem import Problem

# GCO ends the process where a term exceeds this (its GCO_MAX_ENERGYTERM).
_LARGEST_TERM = 10_000_000
# GCO numbers its graphs in a table that knows of no threads, and waits for a graph without the GIL.
_LOCK = threading.Lock()

GCOStart = Literal["argmin", "zeros", "initial"]


@dataclass(frozen=True)
class GCO(Solver):
    """alpha-expansion by the GCO library, for comparison with what it was published with.

    Minimizes the energy of `AlphaExpansion` and takes the same arguments. `AlphaExpansion` is many times faster.

    What is guaranteed:
        - Two allowed labels: the global minimum, by one cut, whatever the start.
        - More labels, ``converged=True``: no expansion move lowers the energy.
        - Edges and potentials are rounded to 1e-7 of the largest sum of a pixel's edges, within which GCO's integers
          stay; it would end the process otherwise. Energies are computed from the unrounded terms.

    What it costs: all pixels and edges are copied into a graph on the CPU, one image after the other, whatever the
    number of threads. Set ``start`` to ``zeros`` where the hand-over of a labeling, pixel by pixel, takes too long.

    Note:
        GCO 3.0 is for research only (see its own license for the terms); the package ``gco-wrapper`` contains it.
        Nothing of it is copied, bundled or linked here: it is loaded if you have installed it. Importing ``gco`` adds
        the names ``int`` and ``float`` (before NumPy 2 also ``bool``) to NumPy; they are taken out again.

    Args:
        potts: the pairwise weights.
        unary_weight: factor of the unary term, >= 0.
        max_sweeps: at most so many passes over the labels, >= 1.
        start: labeling to start from, as for `AlphaExpansion`: ``argmin``, ``zeros`` or ``initial``.

    Raises:
        ImportError: if ``gco-wrapper`` is not installed.
        ValueError: if an argument is out of its range.

    References:
        Boykov, Veksler, Zabih, Fast Approximate Energy Minimization via Graph Cuts, PAMI 2001.
        Delong, Osokin, Isack, Boykov, Fast Approximate Energy Minimization with Label Costs, IJCV 2012.
    """

    potts: GridPotts = GridPotts()  # noqa: RUF009 (frozen)
    unary_weight: float = 1.0
    max_sweeps: int = 5
    start: GCOStart = "argmin"

    label_set_on_host: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Load the library and check the arguments."""
        load_gco()
        AlphaExpansion(self.potts, self.unary_weight, self.max_sweeps)  # checks them
        one_of("start", self.start, get_args(GCOStart))

    @override
    def _solve(self, scores: Tensor, image: Tensor, problem: Problem) -> SolverResult:
        start = problem.start(self.start)
        unary = unary_potentials(scores, self.unary_weight)
        edges = self.potts.edge_weights(image, problem.valid)
        began = time.perf_counter()
        unary, edges, *maps = to_host(unary, edges, problem.seeds, problem.valid, start)
        problem.require_known(*maps[:2])
        maps.append(problem.known)
        fetched = time.perf_counter()
        answers = [self._solve_image(*(t[b].numpy() for t in (unary, edges, *maps))) for b in range(len(scores))]
        solved = time.perf_counter()
        labels = torch.from_numpy(np.stack([answer.labels for answer in answers]))
        moved = labels.to(scores.device)
        message = tuple(answer.message for answer in answers)
        failed = torch.tensor([bool(text) for text in message])
        return SolverResult(
            labels=moved,
            unary=torch.where(failed, torch.nan, unary_energy(labels, unary)),
            pairwise=torch.where(failed, torch.nan, potts_energy(labels, edges)),
            sweeps=torch.tensor([answer.sweeps for answer in answers]),
            converged=torch.tensor([answer.converged for answer in answers]),
            lower_bound=torch.full((len(answers),), torch.nan, dtype=torch.float64),
            message=message,
            transfer_seconds=fetched - began + time.perf_counter() - solved,
        )

    def _solve_image(
        self,
        unary: NDArray[np.float32],
        edges: NDArray[np.float32],
        seeds: NDArray[np.uint8],
        valid: NDArray[np.bool_],
        initial: NDArray[np.uint8],
        allowed: NDArray[np.bool_],
    ) -> "_Answer":
        names = np.flatnonzero(allowed).astype(np.uint8)
        labels = np.full(valid.shape, VOID, dtype=np.uint8)
        if failure := _failure(unary[names][:, valid], edges):
            return _Answer(labels, 0, False, failure)
        costs = integer_costs(unary[names], edges, _index_of(seeds, names), valid)
        cheapest = np.where(costs.seeds < 0, unary[names][:, valid].argmin(0), costs.seeds)
        found, sweeps, converged = cheapest, int(len(names) > 1), True
        if len(names) > 1 and len(costs.weights):
            given = np.where(costs.seeds < 0, _index_of(initial, names)[valid], costs.seeds)
            found, sweeps, converged = _expand(costs, np.where(given < 0, cheapest, given), self.max_sweeps)
        labels[valid] = names[found]
        return _Answer(labels, sweeps, converged, "")


@cache
def load_gco() -> Any:
    """Import ``gco`` and leave NumPy as it was.

    Returns:
        The module.

    Raises:
        ImportError: if it is not installed, or cannot be loaded.
    """
    before = set(vars(np))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it asks NumPy for names that have gone
            return import_module("gco")
    except Exception as error:  # also AttributeError, where NumPy has no float128
        if isinstance(error, ModuleNotFoundError) and error.name == "gco":
            text = 'the solver `GCO` needs gco-wrapper, not installed here: pip install ".[gco]" in the checkout'
            raise ImportError(text) from error
        raise ImportError(f"gco-wrapper, which the solver `GCO` needs, is installed but broken: {error!r}") from error
    finally:
        for name in {"int", "float", "bool"} & (set(vars(np)) - before):
            delattr(np, name)


@dataclass(frozen=True)
class IntegerCosts:
    """The energy of one image in GCO's integers; its N pixels without padding are numbered row by row.

    Args:
        data: int32 ``(N, L)``: unary costs of the allowed labels, 0 for each pixel's cheapest.
        first: int32 ``(M,)``: one end of each edge, less than ``second``, the other.
        second: see ``first``.
        weights: int32 ``(M,)``, > 0.
        seeds: int64 ``(N,)``: the label of each seed, -1 elsewhere.
        scale: integers for an energy of 1.
    """

    data: NDArray[np.int32]
    first: NDArray[np.int32]
    second: NDArray[np.int32]
    weights: NDArray[np.int32]
    seeds: NDArray[np.int64]
    scale: float


def integer_costs(
    unary: NDArray[np.float32], edges: NDArray[np.float32], seeds: NDArray[np.int64], valid: NDArray[np.bool_]
) -> IntegerCosts:
    """Round the energy of one image to integers that GCO accepts.

    The scale is as large as it may be: a pixel's edges sum up to GCO's largest term at most. A label that costs more
    above the pixel's cheapest than any pixel's edges can outweigh costs just that; so do the labels against a seed.

    Args:
        unary: potentials of the L allowed labels, ``(L, H, W)``, finite where valid.
        edges: weights from `GridPotts.edge_weights`, ``(E, H, W)``, 0 where there is no edge.
        seeds: label of each seed in 0..L-1, -1 elsewhere, ``(H, W)``.
        valid: False on padding, ``(H, W)``.

    Returns:
        The costs.
    """
    number = np.cumsum(valid).reshape(valid.shape) - 1
    ends = [_edge_ends(plane, number, step) for plane, step in zip(edges, OFFSETS, strict=False)]
    first, second, values = (np.concatenate(parts) for parts in zip(*ends, strict=True))
    heaviest = _heaviest(first, second, values)
    scale = (_LARGEST_TERM - 8) / heaviest if heaviest > 0 else 1.0  # 8 edges round up by half each, a seed adds one
    weights = np.rint(values * scale).astype(np.int32)
    kept = weights > 0
    largest = _heaviest(first[kept], second[kept], weights[kept]) + 1
    free, fixed = unary[:, valid].T.astype(np.float64), seeds[valid]
    costs = np.minimum(np.rint((free - free.min(1, keepdims=True)) * scale), largest) if free.size else free
    seeded = np.flatnonzero(fixed >= 0)
    costs[seeded] = largest
    costs[seeded, fixed[seeded]] = 0
    return IntegerCosts(
        data=costs.astype(np.int32),
        first=first[kept].astype(np.int32),
        second=second[kept].astype(np.int32),
        weights=weights[kept],
        seeds=fixed,
        scale=scale,
    )


def build_graph(costs: IntegerCosts) -> Any:
    """Hand an image's costs to GCO.

    Args:
        costs: at least one edge and two labels.

    Returns:
        A ``gco.GCO`` with all pixels in label 0; call its ``destroy_graph`` in the end.
    """
    graph = load_gco().GCO()
    pixels, labels = costs.data.shape
    graph.create_general_graph(pixels, labels)
    graph.set_data_cost(costs.data)
    graph.set_all_neighbors(costs.first, costs.second, costs.weights)
    graph.set_smooth_cost(1 - np.eye(labels, dtype=np.int32))
    return graph


def set_labels(graph: Any, labels: NDArray[np.int64]) -> None:
    """Let GCO start from a labeling instead of label 0; it takes them one by one."""
    for site in np.flatnonzero(labels).tolist():
        graph.init_label_at_site(site, int(labels[site]))


@dataclass(frozen=True)
class _Answer:
    labels: NDArray[np.uint8]
    sweeps: int
    converged: bool
    message: str


def _expand(costs: IntegerCosts, start: NDArray[np.int64], max_sweeps: int) -> tuple[NDArray[np.int32], int, bool]:
    """Labels, sweeps, and whether the last sweep changed nothing."""
    with _LOCK:
        graph = build_graph(costs)
        try:
            if costs.data.shape[1] == 2:  # one cut from zeros considers all labelings
                graph.expansion_on_alpha(1)
                return graph.get_labels(), 1, True
            set_labels(graph, start)
            energy = graph.compute_energy()
            for sweep in range(1, max_sweeps + 1):
                before, energy = energy, graph.expansion(1)
                if energy == before:
                    return graph.get_labels(), sweep, True
            return graph.get_labels(), max_sweeps, False
        finally:
            graph.destroy_graph()


def _edge_ends(
    plane: NDArray[np.float32], number: NDArray[np.int64], step: tuple[int, int]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Numbers of both ends, and weights, of the edges in one direction."""
    y, x = plane.nonzero()
    return number[y, x], number[y + step[0], x + step[1]], plane[y, x].astype(np.float64)


def _heaviest(first: NDArray[Any], second: NDArray[Any], weights: NDArray[Any]) -> float:
    """Largest sum of the weights of a pixel's edges."""
    if not len(weights):
        return 0.0
    return float((np.bincount(first, weights, second.max() + 1) + np.bincount(second, weights)).max())


def _index_of(labels: NDArray[np.uint8], names: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Place of each pixel's label among the allowed ones, -1 where it is none of them."""
    place = np.full(256, -1)
    place[names] = np.arange(len(names))
    return place[labels]


def _failure(unary: NDArray[np.float32], edges: NDArray[np.float32]) -> str:
    if not np.isfinite(unary).all():
        return "`logits` hold nan or infinite values"
    if not np.isfinite(edges).all():
        return "`image` or the edge weights hold nan or infinite values"
    return ""
