"""The alternation with latent labelings that are found once in a cycle of epochs, for whole images, and kept."""

import time
from abc import abstractmethod
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from copy import deepcopy
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from weakseg_lightning import checks
from weakseg_lightning.devices import to_device, to_host
from weakseg_lightning.errors import UserError
from weakseg_lightning.hyperparameters import describe
from weakseg_lightning.modules.core.base import Batch
from weakseg_lightning.modules.core.class_names import comparable
from weakseg_lightning.modules.core.latent import LatentModule
from weakseg_lightning.modules.core.latent_store import LatentStore
from weakseg_lightning.modules.core.preparing import WholeImages, whole_batch
from weakseg_lightning.networks import Network
from weakseg_lightning.solvers import Solver, SolverResult
from weakseg_lightning.solvers.threads import default_num_threads

_STATE = "amortized"


@dataclass
class _Cycle:
    """A cycle of epochs and the network, as it was at its beginning, that its labelings are solved with, if any."""

    number: int
    net: nn.Module | None
    first_epoch: int


class AmortizedLatentModule(LatentModule):
    """A method that solves for the latent labeling of an image once in a cycle of epochs and then trains towards it.

    Subclasses write :meth:`solve_latent`, which here sees one whole image, un-augmented at its original resolution,
    :meth:`latent_loss`, and :attr:`solver_settings`. When a batch needs an image whose labeling of the cycle is not
    there yet, ``on_train_batch_start`` solves for it, with the network as it was when the cycle began, in evaluation
    mode: a labeling does not depend on the order of the images, nor on the rank that solves for it, nor on whether
    the run was stopped in between. It is kept in the ``store`` and, from the next epoch on, augmented with its image by
    the workers that load the data, at no cost for the training step.

    Args:
        network: the network to build.
        num_classes: classes K, background included; taken from the data.
        epochs_per_cycle: epochs M that train towards a labeling before it is solved for again; None: never again.
        warm_start: start each solve from the labeling of the cycle before.
        store: keeps the labelings, in memory by default.
        pce_fraction: fraction of the run's iterations that train with partial cross-entropy alone, in 0..1.
        base: those of :class:`LatentModule`.
    """

    def __init__(
        self,
        network: Network,
        num_classes: int,
        epochs_per_cycle: int | None = 5,
        warm_start: bool = True,
        store: LatentStore | None = None,
        pce_fraction: float = 0.5,
        **base: Any,
    ) -> None:
        super().__init__(network, num_classes, latent_lag=0, pce_fraction=pce_fraction, **base)
        if epochs_per_cycle is not None:
            checks.at_least("epochs_per_cycle", epochs_per_cycle, 1)
        self.epochs_per_cycle = epochs_per_cycle
        self.warm_start = warm_start
        self.store = store or LatentStore()
        self._cycle: _Cycle | None = None
        self._saved: dict[str, Any] | None = None
        self._solved, self._solving_seconds = 0, 0.0

    @property
    @abstractmethod
    def solver_settings(self) -> dict[str, Any]:
        """All that the labelings depend on besides network and data, as plain values."""

    # ---- cycles ---------------------------------------------------------------------------------------------

    @property
    @override
    def batch_hook(self) -> LatentStore:
        """The workers look into the store."""
        return self.store

    @override
    def setup(self, stage: str) -> None:
        """Make sure that the store's labelings are of this network and energy."""
        super().setup(stage)
        if stage == "fit":
            self._saved = None  # of a checkpoint that was loaded for something else
            network = {"network": describe(self.network.without_weights())} if self.solves_with_network else {}
            classes: dict[str, Any] = {"num_classes": self.num_classes}
            if self.class_names is not None and not self.allow_other_classes:
                classes["class_names"] = comparable(self.class_names)
            settings = self.solver_settings
            if settings.get("labels") == "tags" and getattr(self.trainer.datamodule, "tags_from", None) == "crop":  # type: ignore[attr-defined]
                raise UserError("`labels: tags` labels whole images: set `data.tags_from` to `image`")
            self.store.open(network | classes | settings)

    @override
    def on_train_start(self) -> None:
        """Take up the cycle in which the checkpoint was written."""
        super().on_train_start()
        self._cycle = None  # a second `fit` begins again
        if self._saved is not None:
            self.store.load_state_dict(self._saved["store"])
            net = _frozen(self.net) if self.solves_with_network else None
            if net is not None:
                net.load_state_dict(self._saved["net"])
            self._cycle = _Cycle(self._saved["cycle"], net, self._saved["first_epoch"])
            self._saved = None

    @override
    def on_train_epoch_start(self) -> None:
        """Begin a cycle where one is due."""
        super().on_train_epoch_start()
        if not self.in_pce_phase:
            self._begin_cycle_if_due()

    def _begin_cycle_if_due(self) -> None:
        first = self._phases().switch // self._steps_per_epoch()
        number = (self.current_epoch - first) // self.epochs_per_cycle if self.epochs_per_cycle is not None else 0
        if self._cycle is not None and self._cycle.number == number:
            return
        net = _frozen(self.net) if self.solves_with_network else None
        if net is not None:
            _equalize(net, self.trainer.strategy.broadcast)
        self._cycle = _Cycle(number, net, self.current_epoch)
        self.store.begin(f"{number:03d}" if net is None else f"{number:03d}-{_digest(net)}")

    @override
    def on_train_epoch_end(self) -> None:
        """Give the labelings found in this epoch to the other ranks, and log how fast they were found."""
        if self._cycle is None:
            return
        self.store.exchange()
        if self._cycle.first_epoch == self.current_epoch:
            speed = self._solved / max(self._solving_seconds, 1e-9)
            self.log("solved_images_per_second", speed, sync_dist=True, reduce_fx="sum")  # of all ranks
        self._solved, self._solving_seconds = 0, 0.0

    @override
    def labels_whole_images(self) -> WholeImages:
        return self

    # ---- labelings -----------------------------------------------------------------------------------------

    @override
    def find_latent(self, batch: Batch) -> SolverResult:
        """Take the stored labelings; solve for those that are missing."""
        self._begin_cycle_if_due()  # the first one may begin within an epoch
        if "latent" not in batch:
            raise RuntimeError(
                "the batch has no `latent`: the loader's sampler was replaced; train with that of the data"
            )
        if whole := batch.get("whole"):
            start = time.perf_counter()
            for position, labels, seeds in self._solve_missing(whole, batch):
                moved = self.trainer.datamodule.replay(labels, whole[position]["draw"], seeds)  # type: ignore[attr-defined]
                batch["latent"][position] = to_device(moved, batch["latent"].device)
            self._solved += len(whole)
            self._solving_seconds += time.perf_counter() - start
        return SolverResult.from_labels(batch["latent"])

    def _solve_missing(self, whole: dict[int, Batch], batch: Batch) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Predict one image after the other and solve, beside that, for those predicted; store the solutions.

        Yields positions, solutions and seeds, both on the CPU.
        """
        futures: dict[int, Future[SolverResult]] = {}
        with ThreadPoolExecutor(default_num_threads()) as pool:
            for position, item in whole.items():
                single = self._single(item, batch, position)
                logits = self._predict_whole(single["image"])
                futures[position] = pool.submit(self.solve_latent, logits, single)
        results = {position: future.result() for position, future in futures.items()}
        self.report_unsolved([result.message[0] for result in results.values()], [batch["id"][i] for i in results])
        solved = [position for position, result in results.items() if not result.message[0]]
        seeds = [whole[position]["seeds"] for position in solved]
        # All at once, so that a device is waited for once.
        copied = to_host(*(results[position].labels[0] for position in solved), *seeds)
        for position, labels, of_seeds in zip(solved, copied[: len(solved)], copied[len(solved) :], strict=True):
            self.store.put(batch["id"][position], labels.numpy(), whole[position]["checksum"])
            yield position, labels, of_seeds

    def _single(self, item: Batch, batch: Batch, position: int) -> Batch:
        """A batch of the whole image alone."""
        name = batch["id"][position]
        before = self.store.get(name, item["checksum"], age=1) if self.warm_start else None
        initial = None if before is None else torch.tensor(before)[None].to(item["seeds"].device)
        facts = {of_all: batch[of_all][position] for of_all in ("tags", "seed_labels", "id")}
        return whole_batch(item | facts, initial)

    def _predict_whole(self, image: Tensor) -> Tensor:
        assert self._cycle is not None
        if self._cycle.net is None:
            return image.new_zeros(len(image), self.num_classes, *image.shape[2:])
        plugin = self.trainer.precision_plugin
        with torch.no_grad(), plugin.forward_context():
            logits: Tensor = self._cycle.net(plugin.convert_input(image))
        return logits.float()

    # ---- checkpoints ----------------------------------------------------------------------------------------

    @override
    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the cycle with its network, and the labelings of all ranks where they are in memory."""
        super().on_save_checkpoint(checkpoint)
        if self._cycle is not None:
            self.store.exchange()  # the first rank writes the file, and within an epoch others hold labelings of it
            cycle = {"cycle": self._cycle.number, "first_epoch": self._cycle.first_epoch}
            net = {} if self._cycle.net is None else {"net": self._cycle.net.state_dict()}
            checkpoint[_STATE] = {**cycle, **net, "store": self.store.state_dict()}

    @override
    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Remember the cycle until training starts."""
        super().on_load_checkpoint(checkpoint)
        self._saved = checkpoint.get(_STATE)


def describe_solver(solver: Solver) -> dict[str, Any]:
    """Describe a solver as plain values, but for those that change no labeling, such as the number of threads."""

    def strip(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        idle = {"num_threads"}
        if value.get("edges") == "contrast":  # which stores from before there were maps do not say
            idle |= {"edges", "dilation"}
        return {name: strip(inner) for name, inner in value.items() if name not in idle}

    described: dict[str, Any] = strip(describe(solver))
    return described


def _frozen(net: nn.Module) -> nn.Module:
    return deepcopy(net).eval().requires_grad_(False)


def _equalize(net: nn.Module, broadcast: Any) -> None:
    """Take rank zero's buffers on all ranks: batch norm counts the images of each rank apart."""
    ours = {name: buffer.cpu() for name, buffer in net.named_buffers()}
    for name, buffer in broadcast(ours).items():
        net.get_buffer(name).copy_(buffer)


def _digest(net: nn.Module) -> str:
    """A name for the weights: equal weights, equal name."""
    digest = blake2b(digest_size=8)
    for name, tensor in net.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()
