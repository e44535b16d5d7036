"""The alternation with a latent labelling: predict, solve, step the network towards the solution."""

import time
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Generic, Protocol

import torch
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch import Tensor, nn
from typing_extensions import TypeVar, override

from weakseg_lightning.modules.base import Batch, WeakSegModule
from weakseg_lightning.solvers import SolverResult


class Latent(Protocol):
    """What the results of all latent solvers tell."""

    @property
    def labels(self) -> Tensor:
        """Labelling, uint8 ``(B, H, W)``."""

    @property
    def solve_seconds(self) -> float:
        """Wall time of the solve."""

    @property
    def transfer_seconds(self) -> float:
        """Wall time of moving data between devices."""


Result = TypeVar("Result", bound=Latent, default=SolverResult)


class LatentModule(WeakSegModule, Generic[Result]):
    """A method that alternates: predict, solve for a latent labelling, step the network towards it.

    Subclasses write :meth:`solve_latent` and :meth:`latent_loss`, nothing else. The solve runs in
    ``on_train_batch_start``, on exactly the logits that the step then differentiates. On one device one forward pass
    serves both. Under strategies that wrap the step (DDP and the like) the hook predicts without gradient, then puts
    the random state and the buffers back, so that dropout repeats and batch norm counts the batch once.
    """

    latent: Result | None = None
    _hook_logits: Tensor | None = None

    @abstractmethod
    def solve_latent(self, logits: Tensor, batch: Batch) -> Result:
        """Solve for the latent labelling.

        Args:
            logits: detached scores of the training step to come, ``(B, K, H, W)``.
            batch: the batch.

        Returns:
            The solver's result, labels ``(B, H, W)`` on the logits' device.
        """

    @abstractmethod
    def latent_loss(self, logits: Tensor, latent: Result, batch: Batch) -> dict[str, Tensor]:
        """Compute the weighted terms of the loss towards the latent labelling.

        Args:
            logits: scores with gradient, ``(B, K, H, W)``.
            latent: what :meth:`solve_latent` returned for this batch.
            batch: the batch.

        Returns:
            Scalars by name.
        """

    @property
    def latent_labels(self) -> Tensor | None:
        """The latent labelling of the current training batch, uint8 ``(B, H, W)``, or None in the first phase."""
        return None if self.latent is None else self.latent.labels

    @override
    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Find the latent labelling of this batch."""
        super().on_train_batch_start(batch, batch_idx)
        self._hook_logits = None
        self.latent = None if self.in_pce_phase else self.find_latent(batch)

    def find_latent(self, batch: Batch) -> Result:
        """Predict and solve for the latent labelling of a batch; log what that costs."""
        start = time.perf_counter()
        logits = self._predict_for_hook(batch["image"])
        forward = _seconds_since(start, logits)
        latent = self.solve_latent(logits.detach().float(), batch)
        self._log_cost(forward, latent, len(logits))
        return latent

    def score(self, images: Tensor) -> Tensor:
        """Logits that the latent labelling is solved on and the step differentiates, ``(B, K, H, W)``."""
        logits: Tensor = self(images)
        return logits

    @override
    def training_logits(self, batch: Batch) -> Tensor:
        """Logits of the training batch: the hook's own where its graph was kept."""
        if self.in_pce_phase:
            return super().training_logits(batch)
        logits, self._hook_logits = self._hook_logits, None
        return self.score(batch["image"]) if logits is None else logits

    @override
    def loss_terms(self, logits: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Terms of the loss towards the latent labelling that the hook found."""
        if self.latent is None:
            raise RuntimeError("no latent labelling: `on_train_batch_start` has to run before `training_step`")
        return self.latent_loss(logits, self.latent, batch)

    def shares_forward(self) -> bool:
        """Whether the hook's forward pass can serve the step: where nothing wraps the step or moves its parameters."""
        return isinstance(self.trainer.strategy, SingleDeviceStrategy)

    def _predict_for_hook(self, images: Tensor) -> Tensor:
        with self.trainer.precision_plugin.forward_context():
            if self.shares_forward():
                self._hook_logits = self.score(images)
                return self._hook_logits
            with torch.no_grad(), _as_if_never_run(self.net):
                return self.score(images)

    def _log_cost(self, forward_seconds: float, result: Result, size: int) -> None:
        seconds = {"forward": forward_seconds, "solve": result.solve_seconds, "transfer": result.transfer_seconds}
        self.log_dict({f"hook_{name}_ms": 1000 * value for name, value in seconds.items()}, batch_size=size)


@contextmanager
def _as_if_never_run(net: nn.Module) -> Iterator[None]:
    """Run a network inside and put back its buffers and the random state after, on every device that it uses."""
    buffers = [(buffer, buffer.clone()) for buffer in net.buffers()]
    devices = sorted({parameter.device.index for parameter in net.parameters() if parameter.is_cuda})
    with torch.random.fork_rng(devices=devices):
        yield
    with torch.no_grad():
        for buffer, before in buffers:
            buffer.copy_(before)


def _seconds_since(start: float, output: Tensor) -> float:
    if output.is_cuda:
        torch.cuda.synchronize(output.device)  # the solver reads the logits next, so that this waits for nothing more
    return time.perf_counter() - start
