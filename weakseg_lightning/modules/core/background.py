"""Solving for the next batch beside the step on this one."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from weakseg_lightning.devices import works_aside
from weakseg_lightning.solvers import DistributionResult, SoftPottsResult, SolverResult

Batch = dict[str, Any]
Solved = SolverResult | DistributionResult


class BackgroundSolver:
    """One thread that solves for the batch to come, on a stream of its own where the scores are on an accelerator."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "solver")
        self._running: tuple[list[str], Future[Solved]] | None = None
        self._stream: torch.Stream | None = None

    def start(self, solve: Callable[[Tensor, Batch], Solved], logits: Tensor, batch: Batch) -> None:
        """Begin to solve for a batch, and return at once.

        Args:
            solve: the solver, as :meth:`LatentModule.solve_latent`.
            logits: scores of the batch, ``(B, K, H, W)``.
            batch: the batch.
        """
        if self._stream is None and works_aside(logits.device):
            # One for all batches: memory is cached for each stream apart.
            self._stream = torch.Stream(logits.device)
        self._running = (list(batch["id"]), self._pool.submit(_solve_aside(logits, self._stream), solve, logits, batch))

    def take(self, ids: Sequence[str]) -> Solved | None:
        """Wait for the solution of the batch of these images; None if it was not begun. Raises what the solver did."""
        running, self._running = self._running, None
        return running[1].result() if running is not None and running[0] == list(ids) else None

    def state_dict(self) -> dict[str, Any]:
        """Wait for the solution that was begun, and write it as plain values; empty if there is none."""
        if self._running is None:
            return {}
        ids, future = self._running
        return {"ids": ids, "labels": future.result().latent.cpu()}

    def load_state_dict(self, state: dict[str, Any], device: torch.device | str = "cpu") -> None:
        """Go on where :meth:`state_dict` was called, with the solution on a device."""
        if not state:
            return
        latent: Tensor = state["labels"].to(device)
        solved: Future[Solved] = Future()
        soft = latent.is_floating_point()
        solved.set_result((SoftPottsResult.from_probabilities if soft else SolverResult.from_labels)(latent))
        self._running = state["ids"], solved

    def close(self) -> None:
        """End the thread, once it has solved what it is at."""
        self._running = None
        self._pool.shutdown()


def _solve_aside(logits: Tensor, aside: torch.Stream | None) -> Callable[..., Solved]:
    """Make the thread's call of the solver: on an accelerator it waits for the scores, not for the step after them."""
    if aside is None:
        return torch.no_grad()(lambda solve, *given: solve(*given))
    main = torch.accelerator.current_stream(logits.device)
    scored = main.record_event()

    def run(solve: Callable[[Tensor, Batch], Solved], *given: Any) -> Solved:
        torch.accelerator.set_stream(aside)  # of this thread, which does nothing else
        aside.wait_event(scored)
        with torch.no_grad():
            result = solve(*given)
        aside.synchronize()  # this thread waits, so that the step need not
        result.latent.record_stream(main)
        return result

    return run
