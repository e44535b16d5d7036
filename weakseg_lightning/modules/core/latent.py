"""The alternation with a latent labeling: predict, solve, step the network towards the solution."""

import time
import warnings
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Generic, Literal, Protocol, cast

import torch
from lightning.pytorch.strategies import (
    DDPStrategy,
    DeepSpeedStrategy,
    FSDPStrategy,
    ModelParallelStrategy,
    SingleDeviceStrategy,
    Strategy,
)
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from typing_extensions import TypeVar, override

from weakseg_lightning import checks
from weakseg_lightning.devices import random_state_kept, works_aside
from weakseg_lightning.errors import UserError
from weakseg_lightning.modules.core.background import BackgroundSolver
from weakseg_lightning.modules.core.base import Batch, WeakSegModule
from weakseg_lightning.modules.core.batch_hooks import tell_data
from weakseg_lightning.networks import Network
from weakseg_lightning.solvers import DistributionResult, SolverResult
from weakseg_lightning.solvers.threads import cores_of_rank, default_num_threads, leave_cores

OnUnsolved = Literal["skip", "stop"]

_AHEAD = "solved_ahead"
_SHARDING = (FSDPStrategy, ModelParallelStrategy, DeepSpeedStrategy)
# Whether DDP may copy buffers between forward and backward pass; before, PyTorch raised an error (its issue 175024).
_BUFFERS_MAY_CHANGE = torch.__version__ >= "2.12"


class Latent(Protocol):
    """The results of all latent solvers."""

    @property
    def labels(self) -> Tensor:
        """Labeling, uint8 ``(B, H, W)``."""

    @property
    def solve_seconds(self) -> float:
        """Wall time of the solve."""

    @property
    def transfer_seconds(self) -> float:
        """Wall time of moving data between devices."""

    @property
    def message(self) -> tuple[str, ...]:
        """The failure of each image; empty where there was none."""


Result = TypeVar("Result", bound=Latent, default=SolverResult)


class LatentModule(WeakSegModule, Generic[Result]):
    """A method that alternates: predict, solve for a latent labeling, step the network towards it.

    Subclasses write :meth:`solve_latent` and :meth:`latent_loss`, nothing else. The solve runs in
    ``on_train_batch_start``, on exactly the logits that the step then differentiates. On one device and under DDP one
    forward pass serves both (before PyTorch 2.12 with ``broadcast_buffers=False`` alone). Otherwise the hook predicts
    without gradient, then puts the random state and the buffers back, so that dropout repeats and batch norm counts the
    batch once.

    With ``latent_lag`` 1 the solver runs beside the step: while the network steps on a batch, a thread solves for the
    next one, on scores from before that step. It costs a forward pass without gradient, dropout of its own draw, and
    pays where the solver takes longer than that: with the network on a GPU. The first batch of an epoch has no lag.

    Args:
        network: the network to build.
        num_classes: classes K, background included; taken from the data.
        on_unsolved: what to do where the solver fails on an image: ``skip`` warns, names it and trains on what there is
            (its seeds, or what comes nearest to its constraints); ``stop`` ends training on all ranks with its name.
        latent_lag: 0 solves for a batch right before its step; 1 beside the step before, on scores that are one step
            old, at the cost of a forward pass without gradient: faster where the solver takes longer than that.
        base: those of :class:`WeakSegModule`.
    """

    solves_with_network: bool = True
    """True where labelings depend on the network's scores.

    Where they do not, :meth:`solve_latent` gets scores of zero, and runs with any network can share a store of them.
    """

    latent: Result | None = None
    _hook_logits: Tensor | None = None
    _image_size: torch.Size | None = None
    _ahead: BackgroundSolver | None = None

    def __init__(
        self,
        network: Network,
        num_classes: int,
        on_unsolved: OnUnsolved = "skip",
        latent_lag: Literal[0, 1] = 0,
        **base: Any,
    ) -> None:
        super().__init__(network, num_classes, **base)
        checks.one_of("on_unsolved", on_unsolved, ("skip", "stop"))
        checks.one_of("latent_lag", latent_lag, (0, 1))
        self.on_unsolved = on_unsolved
        self.latent_lag = latent_lag
        self._unsolved: set[str] = set()
        self._resumed_ahead: dict[str, Any] = {}

    @abstractmethod
    def solve_latent(self, logits: Tensor, batch: Batch) -> Result:
        """Solve for the latent labeling.

        Args:
            logits: detached scores of the training step to come, ``(B, K, H, W)``.
            batch: the batch.

        Returns:
            The solver's result, labels ``(B, H, W)`` on the logits' device.
        """

    @abstractmethod
    def latent_loss(self, logits: Tensor, latent: Result, batch: Batch) -> dict[str, Tensor]:
        """Compute the weighted terms of the loss towards the latent labeling.

        Args:
            logits: scores with gradient, ``(B, K, H, W)``.
            latent: what :meth:`solve_latent` returned for this batch.
            batch: the batch.

        Returns:
            Scalars by name.
        """

    @property
    def latent_labels(self) -> Tensor | None:
        """The latent labeling of the current training batch, uint8 ``(B, H, W)``, or None in the first phase.

        Where it is of the cells of a coarse map, each pixel has the label of its cell.
        """
        labels = None if self.latent is None else self.latent.labels
        if labels is None or self._image_size in (None, labels.shape[1:]):
            return labels
        return F.interpolate(labels[:, None], size=self._image_size, mode="nearest-exact")[:, 0]

    # ---- a run ----------------------------------------------------------------------------------------------

    @override
    def setup(self, stage: str) -> None:
        """Raise before training if it cannot work, and divide the CPU cores between DataLoader workers and the solver.

        Raises:
            ValueError: if the strategy keeps no whole network on each rank.
        """
        super().setup(stage)
        if stage == "fit":
            self._resumed_ahead = {}  # of a checkpoint that was loaded for something else
            require_whole_network(self.trainer.strategy)
            loaders = getattr(getattr(self.trainer, "datamodule", None), "num_workers", 0)
            leave_cores(loaders)
            threads, cores = default_num_threads(), cores_of_rank()
            rank_zero_info(f"Latent solver: {threads} of the {cores} CPU cores of each rank ({loaders} load data)")
        if stage == "fit" and self.latent_lag:
            tell_data(self, "lookahead", True)

    @override
    def teardown(self, stage: str) -> None:
        """End what runs beside the steps, and leave the data module as it was."""
        super().teardown(stage)
        if stage == "fit":
            leave_cores(0)
            if self._ahead is not None:
                self._ahead.close()
                self._ahead = None
            if self.latent_lag:
                tell_data(self, "lookahead", False)

    @override
    def on_train_start(self) -> None:
        """Go on where the checkpoint was written, with what was solved ahead."""
        super().on_train_start()
        if self.latent_lag:
            self._ahead = BackgroundSolver()
            self._ahead.load_state_dict(self._resumed_ahead, self.device)
            self._resumed_ahead = {}

    @override
    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Find the latent labeling of this batch; begin with the next one, where there is a lag."""
        super().on_train_batch_start(batch, batch_idx)
        self._hook_logits = None
        self._image_size = batch["image"].shape[-2:]
        self.latent = None if self.in_pce_phase else self._latent_of(batch)

    def _latent_of(self, batch: Batch) -> Result:
        taken = None if self._ahead is None else self._take(self._ahead, batch)
        latent = self.find_latent(batch) if taken is None else taken
        self.report_unsolved(latent.message, batch["id"])
        if self._ahead is not None and (following := batch.get("next_batch")) is not None:
            logits = self._predict_aside(following["image"])
            self._ahead.start(cast(Any, self.solve_latent), logits.float(), following)
        return latent

    def _take(self, ahead: BackgroundSolver, batch: Batch) -> Result | None:
        start = time.perf_counter()
        taken = cast(Result | None, ahead.take(batch["id"]))
        if taken is not None:
            self.log("hook_wait_ms", torch.tensor(1000 * (time.perf_counter() - start)), batch_size=len(batch["id"]))
        return taken

    def report_unsolved(self, messages: Sequence[str], names: Sequence[str]) -> None:
        """Name the images that the solver could not label, as ``on_unsolved`` says.

        Args:
            messages: what went wrong with each image, empty where nothing did.
            names: their ids.

        Raises:
            ValueError: for the first of them with ``on_unsolved: stop``; ``skip`` warns once for each kind of failure.
        """
        for name, message in zip(names, messages, strict=True):
            if message and self.on_unsolved == "stop":
                raise UserError(
                    f"image {name!r} has no latent labeling: {message}; `on_unsolved: skip` goes on without it"
                )
            if message and (kind := message.split(":")[0]) not in self._unsolved:
                self._unsolved.add(kind)
                warnings.warn(f"image {name!r}: {message} (not repeated for other images)", stacklevel=2)

    def find_latent(self, batch: Batch) -> Result:
        """Predict and solve for the latent labeling of a batch; log what that costs."""
        start = time.perf_counter()
        logits = self._predict_for_hook(batch["image"])
        forward = _seconds_since(start, logits)
        latent = self.solve_latent(logits.detach().float(), batch)
        self._log_cost(forward, latent, len(logits))
        return latent

    def score(self, images: Tensor) -> Tensor:
        """Logits that the latent labeling is solved on and the step differentiates, ``(B, K, H, W)``."""
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
        """Terms of the loss towards the latent labeling that the hook found."""
        if self.latent is None:
            raise RuntimeError("no latent labeling: `on_train_batch_start` has to run before `training_step`")
        return self.latent_loss(logits, self.latent, batch)

    def shares_forward(self) -> bool:
        """Say if the hook's forward pass can serve the step: nothing runs the network or writes to it between them."""
        return self.latent_lag == 0 and _leaves_graphs(self.trainer.strategy)

    def _predict_for_hook(self, images: Tensor) -> Tensor:
        if self.shares_forward():
            with self.trainer.precision_plugin.forward_context():
                self._hook_logits = self.score(images)
            return self._hook_logits
        return self._predict_aside(images)

    def _predict_aside(self, images: Tensor) -> Tensor:
        """Scores without gradient, as if the network had not been run."""
        # A compiled network has other code without gradient: compiled a second time, and not bound to round alike.
        compiled = getattr(self.net, "is_compiled", False)
        precision = self.trainer.precision_plugin.forward_context()
        with precision, torch.set_grad_enabled(compiled), _as_if_never_run(self.net):
            return self.score(images).detach()

    def _log_cost(self, forward_seconds: float, result: Result, size: int) -> None:
        seconds = {"forward": forward_seconds, "solve": result.solve_seconds, "transfer": result.transfer_seconds}
        # Tensors of the CPU: plain numbers would be copied to the device, and back to be written.
        self.log_dict({f"hook_{name}_ms": torch.tensor(1000 * each) for name, each in seconds.items()}, batch_size=size)
        if isinstance(result, DistributionResult):
            self.log("hook_residual", result.residual.nan_to_num().max(), batch_size=size)

    # ---- checkpoints ----------------------------------------------------------------------------------------

    @override
    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what is solved ahead, so that a run resumed within an epoch goes on as the undisturbed one."""
        super().on_save_checkpoint(checkpoint)
        if self._ahead is not None:
            checkpoint[_AHEAD] = self._ahead.state_dict()

    @override
    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Remember what was solved ahead until training starts."""
        super().on_load_checkpoint(checkpoint)
        self._resumed_ahead = checkpoint.get(_AHEAD, {})


def require_whole_network(strategy: Strategy) -> None:
    """Raise if no rank holds the whole network when the solver needs its scores.

    Raises:
        ValueError: says what to use instead.
    """
    if isinstance(strategy, _SHARDING):
        raise UserError(
            f"`trainer.strategy`: {type(strategy).__name__} leaves a part of the weights on each GPU, but the latent "
            "solver needs the scores of the whole network before the step: use `ddp` (the networks here fit on one GPU)"
        )


def _leaves_graphs(strategy: Strategy) -> bool:
    """Say if a graph from before the step can be differentiated in it; DDP's reducer does not mind where it is from.

    As the step begins DDP copies the buffers of the first rank to the others, unless it is told not to. The graph does
    not depend on that: batch norm in training uses the batch, and frozen statistics are the same on all ranks.
    """
    if isinstance(strategy, DDPStrategy):
        wrapped = strategy.model
        return isinstance(wrapped, DistributedDataParallel) and (_BUFFERS_MAY_CHANGE or not wrapped.broadcast_buffers)
    return isinstance(strategy, SingleDeviceStrategy)


@contextmanager
def _as_if_never_run(net: nn.Module) -> Iterator[None]:
    """Run a network inside and put back its buffers and the random state after, on every device that it uses."""
    buffers = [(buffer, buffer.clone()) for buffer in net.buffers()]
    with random_state_kept({parameter.device for parameter in net.parameters()}):
        yield
    with torch.no_grad():
        for buffer, before in buffers:
            buffer.copy_(before)


def _seconds_since(start: float, output: Tensor) -> float:
    if works_aside(output.device):  # the solver reads the logits next, so that this waits for nothing more
        torch.accelerator.current_stream(output.device).synchronize()
    return time.perf_counter() - start
