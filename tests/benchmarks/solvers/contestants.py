"""Solvers to be timed, each in a process of its own, so that what one imports or keeps does not touch another."""

import ctypes
import multiprocessing
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from instances import VOID, Instance
from measuring import Clock
from numpy.typing import NDArray
from typing_extensions import override

from weakseg_lightning import AlphaExpansion, GridPotts
from weakseg_lightning.energies import unary_potentials
from weakseg_lightning.solvers.potts import alpha_expansion
from weakseg_lightning.solvers.potts.gco import IntegerCosts, build_graph, integer_costs, set_labels

SWEEPS = 5


@dataclass(frozen=True)
class Run:
    """One solve.

    Args:
        labels: uint8 ``(H, W)``.
        wall: seconds.
        cpu: seconds of the process, all threads.
        parts: seconds of wall time of its parts, where there are any.
        memory: bytes a pixel that the process grew by at most during the solve; nan where unknown.
        core_memory: the same during the call of the compiled code alone.
    """

    labels: NDArray[np.uint8]
    wall: float
    cpu: float
    parts: dict[str, float]
    memory: float = float("nan")
    core_memory: float = float("nan")


class Contestant(ABC):
    """A solver with an instance in the form that it wants."""

    warm_up = False
    most_classes = 255
    package = "weakseg_lightning"

    @abstractmethod
    def prepare(self, instance: Instance) -> None:
        """Whatever is not timed."""

    @abstractmethod
    def solve(self) -> Run:
        """Solve and time it."""


class Ours(Contestant):
    """`AlphaExpansion.solve` whole: edge weights, softmax and expansion, from tensors."""

    warm_up = True  # it keeps its memory between calls

    def prepare(self, instance: Instance) -> None:
        self.instance = instance
        self.solver = AlphaExpansion(GridPotts(instance.case.weight), max_sweeps=SWEEPS, num_threads=1)

    def solve(self) -> Run:
        with Clock() as clock:
            result = self.solver.solve(self.instance.logits, self.instance.image, seeds=self.instance.seeds)
        return Run(result.labels[0].numpy(), clock.wall, clock.cpu, {"core": result.solve_seconds})


class Gco(Contestant):
    """GCO from zeros: building the graph and expanding; its integer costs are made beforehand."""

    package = "gco"

    def prepare(self, instance: Instance) -> None:
        self.size = instance.case.size
        self.costs = costs_of(instance)

    def solve(self) -> Run:
        """Time the building and the expansion, but not the hand-over of the start, a slow loop in Python."""
        with Clock() as building:
            graph = build_graph(self.costs)
        if (labels := self.start()) is not None:
            set_labels(graph, labels)
        with Clock() as expanding:
            self.expand(graph)
            labels = graph.get_labels()
            graph.destroy_graph()
        parts = {"build": building.wall, "expand": expanding.wall}
        return Run(labels.reshape(self.size).astype(np.uint8), sum(parts.values()), building.cpu + expanding.cpu, parts)

    def start(self) -> NDArray[np.int64] | None:
        """Labels to start from; None: zeros."""
        return None

    def expand(self, graph: Any) -> None:
        graph.expansion(SWEEPS)


class GcoArgmin(Gco):
    """GCO from the cheapest label of each pixel."""

    @override
    def start(self) -> NDArray[np.int64]:
        return self.costs.data.argmin(1)


class GcoCoarse(Gco):
    """GCO from our own start, made beforehand, with the labels numbered in the order of our moves."""

    @override
    def prepare(self, instance: Instance) -> None:
        super().prepare(instance)
        data, seeds = self.costs.data, self.costs.seeds
        areas = np.bincount(np.where(seeds < 0, data.argmin(1), seeds), minlength=instance.case.classes)
        self.turns = np.argsort(-areas, kind="stable")
        number = self.turns.argsort()
        self.costs = replace(self.costs, data=data[:, self.turns].copy(), seeds=np.where(seeds < 0, -1, number[seeds]))
        solver = AlphaExpansion(GridPotts(instance.case.weight), num_threads=1)
        object.__setattr__(solver, "max_sweeps", 0)  # the start itself, which no argument gives
        labels = solver.solve(instance.logits, instance.image, seeds=instance.seeds).labels
        self.labels = number[labels.flatten().numpy()]

    @override
    def solve(self) -> Run:
        run = super().solve()
        return replace(run, labels=self.turns[run.labels].astype(np.uint8))

    @override
    def start(self) -> NDArray[np.int64]:
        return self.labels


class GcoCut(Gco):
    """GCO by one cut, which is all that two labels need."""

    most_classes = 2

    def expand(self, graph: Any) -> None:
        graph.expansion_on_alpha(1)


class PyMaxflow(Contestant):
    """An expansion on PyMaxflow's grid graphs, from the cheapest label of each pixel."""

    package = "maxflow"

    def prepare(self, instance: Instance) -> None:
        height, width = instance.case.size
        costs = costs_of(instance)
        self.data = costs.data.T.reshape(-1, height, width).astype(np.int64)
        edges = GridPotts(instance.case.weight).edge_weights(instance.image)[0].double().numpy()
        self.edges = np.rint(edges * costs.scale).astype(np.int64)

    def solve(self) -> Run:
        from pymaxflow_expansion import expansion

        with Clock() as clock:
            labels = expansion(self.data, self.edges, SWEEPS)
        return Run(labels.astype(np.uint8), clock.wall, clock.cpu, {})


CONTESTANTS: dict[str, type[Contestant]] = {
    "ours": Ours,
    "gco": Gco,
    "gco_argmin": GcoArgmin,
    "gco_coarse": GcoCoarse,
    "gco_cut": GcoCut,
    "pymaxflow": PyMaxflow,
}


def costs_of(instance: Instance) -> IntegerCosts:
    """The instance in integers."""
    unary = unary_potentials(instance.logits)[0].numpy()
    edges = GridPotts(instance.case.weight).edge_weights(instance.image)[0].numpy()
    seeds = np.full(instance.case.size, VOID) if instance.seeds is None else instance.seeds[0].numpy()
    return integer_costs(unary, edges, np.where(seeds == VOID, -1, seeds), np.ones(instance.case.size, dtype=bool))


class Process:
    """A contestant at work on one instance, in a fork of this process."""

    def __init__(self, name: str, instance: Instance) -> None:
        context = multiprocessing.get_context("fork")
        self._pipe, theirs = context.Pipe()
        _trim()
        self._process = context.Process(target=_serve, args=(CONTESTANTS[name], instance, theirs), daemon=True)
        self._process.start()
        theirs.close()
        self._name = name
        self._receive()  # nothing else runs while it gets ready

    def solve(self) -> Run:
        """Let it solve once more."""
        self._pipe.send(True)
        run: Run = self._receive()
        return run

    def close(self) -> None:
        """End the process."""
        self._pipe.send(False)
        self._process.join()

    def _receive(self) -> Any:
        try:
            return self._pipe.recv()
        except EOFError:
            raise SystemExit(f"{self._name} has ended; what it said stands above") from None


def _serve(kind: type[Contestant], instance: Instance, pipe: Connection) -> None:
    contestant = kind()
    contestant.prepare(instance)
    memory = _memory_of(contestant, instance)
    first = None if contestant.warm_up else memory
    pipe.send("ready")
    while pipe.recv():
        run, first = first or contestant.solve(), None
        pipe.send(replace(run, memory=memory.memory, core_memory=memory.core_memory))


# ---- memory: growth of the resident set, by the kernel's high-water mark (Linux) -----------------------------------


def _memory_of(contestant: Contestant, instance: Instance) -> Run:
    """Solve for the first time in this process, watching the memory."""
    pixels = instance.logits[0, 0].numel()
    core: list[float] = []
    _trim()
    with _watched_core(core):
        before = _reset_peak()
        run = contestant.solve()
    # Resetting the mark for the core forgets what came before it: the tensors' part, which is freed by then.
    grown = max(_peak(), *core[1:], 0.0) - before
    within = core[1] - core[0] if core else float("nan")
    return replace(run, memory=grown / pixels, core_memory=within / pixels)


@contextmanager
def _watched_core(marks: list[float]) -> Iterator[None]:
    """Note the memory before, and the peak during, each call of our compiled code."""
    expand = alpha_expansion._core.expand

    def watched(*args: Any, **kwargs: Any) -> Any:
        peak = _peak()
        _trim()
        marks.append(_reset_peak())
        answer = expand(*args, **kwargs)
        marks.append(_peak())
        marks.append(peak)
        return answer

    alpha_expansion._core.expand = watched
    try:
        yield
    finally:
        alpha_expansion._core.expand = expand


def _reset_peak() -> float:
    """Lower the high-water mark to the present size, and return that in bytes."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _peak() -> float:
    return _status("VmHWM")


def _status(key: str) -> float:
    status = Path("/proc/self/status")
    found = re.search(rf"{key}:\s+(\d+) kB", status.read_text()) if status.exists() else None
    return float(found[1]) * 1024 if found else float("nan")


def _trim() -> None:
    """Give freed memory back, so that growth is not hidden by what lies around."""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
