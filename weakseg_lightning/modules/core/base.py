"""The base of all methods: the network, its training in one or two phases, checkpoints."""

import math
import os
import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, Literal, Self

import torch
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from typing_extensions import override

from weakseg_lightning import checks
from weakseg_lightning.channels import Channels
from weakseg_lightning.errors import UserError
from weakseg_lightning.hyperparameters import describe, with_current_names
from weakseg_lightning.losses import partial_cross_entropy, ranks_together
from weakseg_lightning.modules.core import checkpoint_io
from weakseg_lightning.modules.core.batch_hooks import BatchHook, tell_data
from weakseg_lightning.modules.core.checkpoint_io import require_same_network, weights_of_net
from weakseg_lightning.modules.core.class_names import names_in, require_same_classes, write_names
from weakseg_lightning.modules.core.evaluation import EvaluatedModule
from weakseg_lightning.modules.core.guides import check_guides
from weakseg_lightning.modules.core.optimization import Optimizer, Phases, enter_phase, make_optimizer
from weakseg_lightning.modules.core.preparing import WholeImages, on_first_rank, prepare_net
from weakseg_lightning.modules.core.resuming import read_checkpoint, restore_progress, warn_of_another_run
from weakseg_lightning.modules.core.sync_batch_norm import keep_activations
from weakseg_lightning.networks import Network, SegmentationNet
from weakseg_lightning.networks.ddp_unused import freeze_unused, outputs_in_evaluation

Batch = dict[str, Any]
State = dict[str, Tensor]
_SWITCH = "second_phase_began_at"


class WeakSegModule(EvaluatedModule, ABC):
    """A segmentation network trained on weak labels: subclasses write :meth:`loss_terms`.

    Training may begin with a phase of partial cross-entropy on the seeds (``pce_fraction``). Evaluation follows the
    protocol of PASCAL VOC, see :class:`weakseg_lightning.modules.core.evaluation.EvaluatedModule`.

    Args:
        network: the network to build.
        num_classes: classes K, background included; taken from the data.
        optimizer: optimizer settings; with two phases those of the second.
        pce_optimizer: settings of the first phase; those of ``optimizer`` by default.
        pce_fraction: fraction of the run's iterations that train with partial cross-entropy alone, in 0..1.
        start_from: checkpoint of a run whose weights training begins with; if that run was the first phase, set
            ``pce_fraction`` to 0. A resumed run (``--ckpt_path``) goes on with its own weights.
        largest_component: where cases are scored, score the largest connected component of each class alone.
    """

    allow_other_classes: bool = False
    """Allow data whose classes have other names than those that the weights were trained on (warns then)."""

    channels: Channels | None = None
    """The channels of the images that the weights are for, with their statistics; None for RGB."""

    _switch: int | None = None  # the iteration that the second phase began at, once it has: a longer run keeps it
    _names_from: str | None = None  # where the weights were trained on `class_names`; None where they are new

    def __init__(
        self,
        network: Network,
        num_classes: int,
        optimizer: Optimizer = Optimizer(),  # noqa: B008 - frozen, and the default has to show in --help
        pce_optimizer: Optimizer | None = None,
        pce_fraction: float = 0.0,
        start_from: str | None = None,
        largest_component: bool = False,
    ) -> None:
        checks.between("num_classes", num_classes, 2, 255, "the background is one of them")
        checks.between("pce_fraction", pce_fraction, 0, 1)
        super().__init__(num_classes, largest_component)
        self.network = network
        self.optimizer = optimizer
        self.pce_optimizer = pce_optimizer
        self.pce_fraction = pce_fraction
        self.start_from = start_from
        self.net = network.build(num_classes)
        self._expecting_eval_mode = ExitStack()

    # ---- what a method writes -------------------------------------------------------------------------------

    @abstractmethod
    def loss_terms(self, logits: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Compute the weighted terms of the method's loss; their sum is minimized.

        Args:
            logits: ``(B, K, H, W)``.
            batch: the batch, see :class:`weakseg_lightning.data.base.SegmentationDataModule`.

        Returns:
            Scalars by name; their means over the ranks are logged as ``train_<name>``. For a sum over pixels, divide it
            by :func:`weakseg_lightning.losses.mean_over`, and several ranks learn what one does on the same images.
        """

    def learned_outputs(self, images: Tensor) -> tuple[Tensor, ...]:
        """All that the loss depends on, of images ``(B, 3, H, W)``: weights behind none of it are not learned."""
        return (self(images),)

    @property
    def batch_hook(self) -> BatchHook | None:
        """The hook by which DataLoader workers add to the batches of the second phase; none by default."""
        return None

    # ---- training -------------------------------------------------------------------------------------------

    @override
    def forward(self, images: Tensor) -> Tensor:
        """Score every pixel: RGB images in 0..1 ``(B, 3, H, W)`` to logits ``(B, K, H, W)``."""
        logits: Tensor = self.net(images)
        return logits

    @property
    def in_pce_phase(self) -> bool:
        """True where the current iteration trains with partial cross-entropy alone."""
        return self.trainer.global_step < self._phases().switch

    @override
    def setup(self, stage: str) -> None:
        """Load the weights to start from; raise before training if the module cannot be saved, or not validated."""
        describe(self)
        if stage == "fit" and self.training and not all(part.training for part in self.modules()):
            self._expecting_eval_mode.enter_context(warnings.catch_warnings())  # of parts that do not learn
            warnings.filterwarnings("ignore", r"Found \d+ module\(s\) in eval mode at the start of training")
        self._take_names(stage)
        checkpoint_io.take_channels(self)
        self.tell_refinement()
        self.require_case_scores(stage)
        if stage == "fit":
            self._switch = None
            parts = {name: getattr(self, name, None) for name in ("solver", "regularizer")}
            check_guides(parts, getattr(self.trainer, "datamodule", None))
        if stage == "fit" and self.start_from is not None:
            self._load_weights(self.start_from)
        elif stage == "fit" and self.trainer.strategy.restore_checkpoint_after_setup and not self.trainer.ckpt_path:
            self._prepare_net()  # the strategy will part the weights between the ranks
        if stage == "fit":
            keep_activations(self.trainer)  # DDP converts batch norm with one rank, too
            self._freeze_unused()  # on one rank, too, so that its optimizer is that of several
            if self.batch_hook is not None:
                tell_data(self, "batch_hook", self.batch_hook)

    @override
    def on_fit_start(self) -> None:
        """Prepare the network on its device, unless the weights are those of a checkpoint."""
        loaded = self.trainer.ckpt_path or self.start_from or self.trainer.strategy.restore_checkpoint_after_setup
        if not loaded:
            self._prepare_net()

    @override
    def teardown(self, stage: str) -> None:
        """Leave the data module as it was, for other modules."""
        if stage == "fit" and self.batch_hook is not None:
            tell_data(self, "batch_hook", None)

    @override
    def on_train_start(self) -> None:
        """Go on where the checkpoint was written."""
        self._expecting_eval_mode.close()  # Lightning has looked for such parts by now
        restore_progress(self.trainer)
        self._enable_batch_hook()  # within an epoch, there is no start of one

    @override
    def on_train_epoch_start(self) -> None:
        """Ask the loader for what it can attach to the batches if this epoch needs it."""
        self._enable_batch_hook()

    def _enable_batch_hook(self) -> None:
        if self.batch_hook is not None:
            self.batch_hook.enabled = self._phases().switch < self.trainer.global_step + self._steps_per_epoch()

    @override
    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Seed the iteration, and start the second phase where it is due."""
        self._seed_iteration(batch_idx)
        phases = self._phases()
        if self._switch is None and phases.switch <= self.trainer.global_step:
            self._switch = phases.switch
            for optimizer in self.trainer.optimizers if phases.switch > 0 else ():
                enter_phase(optimizer, phases.main)

    @override
    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Minimize partial cross-entropy in the first phase, the method's loss in the second."""
        logits = self.training_logits(batch)
        with ranks_together():
            terms = _pce_alone(logits, batch) if self.in_pce_phase else self.loss_terms(logits, batch)
        values = torch.stack(list(terms.values()))
        # On the CPU, where they are checked, logged and shown: the only time that the step waits for the device.
        of_all_ranks = self.trainer.strategy.reduce(values.detach().clone(), reduce_op="mean").cpu()
        loss_of_all = of_all_ranks.sum()
        if not torch.isfinite(loss_of_all):  # on all ranks alike, so that none waits for another
            raise FloatingPointError(self._not_finite(terms, batch))
        size = len(batch["image"])
        self.log("train_loss", loss_of_all, prog_bar=True, batch_size=size)
        self.log_dict({f"train_{name}": of_all_ranks[i] for i, name in enumerate(terms)}, batch_size=size)
        # Ranks wait for the gradients of all parameters, and those of the loss are not in this phase's.
        idle = self.parameters_of_loss() if self.in_pce_phase else []
        return torch.stack([values.sum(), *(0 * parameter.sum() for parameter in idle)]).sum()

    def training_logits(self, batch: Batch) -> Tensor:
        """Logits of the training batch, ``(B, K, H, W)``."""
        logits: Tensor = self(batch["image"])
        return logits

    @override
    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Build one optimizer, with a learning rate per iteration and a faster head."""
        free = self.parameters_of_loss()
        optimizer, schedule = make_optimizer(self.net, self.net.head_parameters(), self._phases(), free)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def parameters_of_loss(self) -> list[nn.Parameter]:
        """Parameters outside the network that are learned with it, without weight decay; none by default."""
        return []

    def _prepare_net(self) -> None:
        """Let the network adapt to the training images, where the data module can show them whole."""
        show = getattr(getattr(self.trainer, "datamodule", None), "whole_images", None)
        if show is None or type(self.net).prepare is SegmentationNet.prepare:
            return
        seed = int(os.environ.get("PL_GLOBAL_SEED", 0))

        def prepare() -> None:
            prepare_net(self.net, show("train"), self.direct_labels, self.labels_whole_images(), seed)

        on_first_rank(prepare, self.net, self.trainer)

    def labels_whole_images(self) -> WholeImages | None:
        """The method, if its solver can label whole images before training begins."""
        return None

    @property
    def direct_labels(self) -> Literal["seeds", "mask"]:
        """Labels that the network may learn from without a solver, by their name in the batch."""
        return "seeds"

    def _freeze_unused(self) -> None:
        """Leave weights that the network does not use out of what the ranks exchange."""
        if type(self.net).__module__.partition(".")[0] != __name__.partition(".")[0]:
            return  # a network of the user's own may have outputs for training that are not known here
        outputs = outputs_in_evaluation(self.net, self.learned_outputs)
        if left_out := freeze_unused(self.net, outputs):
            rank_zero_info(f"Left out of training, as the network does not use them: {', '.join(left_out)}")

    def _phases(self) -> Phases:
        if (steps := self.trainer.estimated_stepping_batches) == float("inf"):
            raise UserError("the schedule needs an end: set `trainer.max_epochs` or `trainer.max_steps`")
        switch = round(self.pce_fraction * steps) if self._switch is None else self._switch
        return Phases(self.pce_optimizer or self.optimizer, self.optimizer, switch, int(steps))

    def _steps_per_epoch(self) -> int:
        return math.ceil(self.trainer.num_training_batches / self.trainer.accumulate_grad_batches)

    def _seed_iteration(self, batch_idx: int) -> None:
        """Make dropout a function of (seed, iteration, rank), so that a resumed run repeats the undisturbed one."""
        if (seed := os.environ.get("PL_GLOBAL_SEED")) is not None:
            torch.manual_seed(hash((int(seed), self.trainer.global_step, batch_idx, self.global_rank)) % 2**63)

    def _not_finite(self, terms: dict[str, Tensor], batch: Batch) -> str:
        values = ", ".join(f"{name} = {float(term.detach()):g}" for name, term in terms.items())
        here = not torch.isfinite(torch.stack(list(terms.values())).sum())
        whose = f"first images: {', '.join(batch['id'][:4])}" if here else "on another rank"
        where = f"at iteration {self.trainer.global_step} ({whose})"
        return f"the loss is not finite {where}: {values}; lower `optimizer.lr`, or check these images"

    # ---- checkpoints ----------------------------------------------------------------------------------------

    @override
    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what rebuilds this module, as plain values (loads with ``weights_only=True``)."""
        described = describe(self)
        write_names(checkpoint, self.class_names)
        checkpoint_io.write_channels(checkpoint, self.channels)
        checkpoint[_SWITCH] = self._switch
        checkpoint["hyper_parameters"] = {
            "_instantiator": "lightning.pytorch.cli.instantiate_module",
            "_class_path": described["class_path"],
            **described["init_args"],
            # All weights are in the checkpoint: whatever training started from need not be read to load it.
            "network": describe(self.network.without_weights()),
            **dict.fromkeys({"start_from"} & described["init_args"].keys()),
        }

    @override
    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Raise if the checkpoint is of another network, or of other classes."""
        if self._trainer is not None:
            warn_of_another_run(self._trainer, describe(self)["class_path"], checkpoint)
        source = "the checkpoint" if self._trainer is None else f"the checkpoint {self._trainer.ckpt_path}"
        self._require_same_classes(names_in(checkpoint), self.class_names, source)
        self.adopt_names(self.class_names or names_in(checkpoint), source)
        checkpoint_io.adopt_channels(self, checkpoint_io.channels_in(checkpoint))
        self._switch = checkpoint.get(_SWITCH)
        if "state_dict" in checkpoint:  # FSDP has taken it out, and loaded it
            self._require_same_network(self.state_dict(), checkpoint["state_dict"], checkpoint)

    @classmethod
    @override
    def load_from_checkpoint(cls, checkpoint_path: Any, *args: Any, **kwargs: Any) -> Self:
        """Rebuild a module, also from a file that says where its classes were in an earlier version."""
        saved = with_current_names(read_checkpoint(checkpoint_path).get("hyper_parameters", {}))
        saved.pop("_instantiator", None)
        module = super().load_from_checkpoint(checkpoint_path, *args, **{**saved, **kwargs})
        module.adopt_names(module.class_names, str(checkpoint_path))
        return module

    def adopt_names(self, names: Sequence[str] | None, source: str) -> None:
        """Note which classes the weights were trained on: data with other names raise from now on.

        Args:
            names: names of the classes, background first; None where they are not known.
            source: where the weights are from, for messages.
        """
        self.class_names = names
        self._names_from = source

    def _take_names(self, stage: str) -> None:
        """Take the names of the data, if they are those of the weights."""
        names = getattr(getattr(self.trainer, "datamodule", None), "class_names", None)
        if self._names_from is not None:
            self._require_same_classes(self.class_names, names, self._names_from)
        self.class_names = names or self.class_names
        if stage == "fit" and self._names_from is None:
            self._names_from = "the module"

    def _load_weights(self, path: str) -> None:
        """Load the network's weights from the checkpoint of another run, maybe of another method."""
        checkpoint = read_checkpoint(path)
        self._require_same_classes(names_in(checkpoint), self.class_names, f"`start_from`: {path}")
        ours, theirs = (weights_of_net(state) for state in (self.state_dict(), checkpoint["state_dict"]))
        self._require_same_network(ours, theirs, checkpoint)
        self.load_state_dict(theirs, strict=False)

    def _require_same_classes(self, saved: Sequence[str] | None, here: Sequence[str] | None, source: str) -> None:
        require_same_classes(saved, here, source, self.allow_other_classes)

    def _require_same_network(self, ours: State, theirs: State, checkpoint: dict[str, Any]) -> None:
        require_same_network(ours, theirs, checkpoint, self.network, self.num_classes)


def _pce_alone(logits: Tensor, batch: Batch) -> dict[str, Tensor]:
    return {"pce": partial_cross_entropy(logits, batch["seeds"])}
