"""Averaged weights: validated, saved, and what training ends with."""

from functools import partial
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn
from typing_extensions import override

from weakseg_lightning.checks import at_least_and_below
from weakseg_lightning.errors import UserError

__all__ = ["AveragedWeights"]


class AveragedWeights(WeightAveraging):
    """Keeps an exponential moving average of the weights, which validates, is saved, and is what training ends with.

    Training itself, the solver of a method with latent labelings included, goes on with the current weights, as if
    there were no average. Checkpoints hold the average as their weights, so that ``predict``, ``export``,
    ``start_from`` and evaluation take it, and the current ones besides, with which a resumed run goes on: give it this
    callback, too. After n steps the average keeps ``min(decay, (1 + n) / (10 + n))`` of what it was, so that short runs
    forget the weights that they began with. Statistics of batch norm are averaged like weights; what never changes, as
    a frozen encoder, and counts stay as they are.

    Args:
        decay: fraction of the average that a step keeps, 0 <= decay < 1; it spans about 1 / (1 - decay) steps.

    Raises:
        ValueError: if ``decay`` is out of its range; when training starts, if the strategy parts the weights between
            the ranks.

    Example:
        >>> from lightning.pytorch import Trainer
        >>> trainer = Trainer(callbacks=[AveragedWeights(0.99)], logger=False, enable_checkpointing=False)
    """

    def __init__(self, decay: float = 0.999) -> None:
        at_least_and_below("decay", decay, 0, 1)
        super().__init__(multi_avg_fn=partial(_update, decay))
        self.decay = decay
        self._swapped = False

    @override
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == "fit" and trainer.strategy.restore_checkpoint_after_setup:
            raise UserError(
                f"`trainer.strategy`: {type(trainer.strategy).__name__} leaves a part of the weights on each GPU, and "
                "no rank could average them: use `ddp`, or leave AveragedWeights out"
            )
        if stage == "fit":  # another one, maybe, with the same callback
            self._latest_update_step, self._latest_update_epoch, self._swapped = 0, -1, False
        super().setup(trainer, pl_module, stage)

    @override
    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert self._average_model is not None
        # In `setup` the module was not on its device yet; the count stays where reading it stops no GPU.
        self._average_model.module.to(pl_module.device)

    @override
    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == TrainerFn.FITTING:
            self._begin(pl_module)
            super().on_validation_epoch_start(trainer, pl_module)

    @override
    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == TrainerFn.FITTING:
            super().on_validation_epoch_end(trainer, pl_module)

    @override
    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Put the current weights back where a validation is broken off, before others save the run."""
        if self._swapped:
            self._swap_models(pl_module)

    @override
    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self._begin(pl_module)
        if self._average_model is not None:
            super().on_save_checkpoint(trainer, pl_module, checkpoint)

    @override
    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if trainer.state.fn == TrainerFn.FITTING:  # evaluation needs the average alone, which the weights are
            super().on_load_checkpoint(trainer, pl_module, checkpoint)

    def _begin(self, pl_module: LightningModule) -> None:
        """Until the first step the average is what the module has: a start, or a fit, that came after `setup`."""
        average = self._average_model
        if average is not None and average.n_averaged == 0:
            average.update_parameters(pl_module)
            average.n_averaged.zero_()

    @override
    def _swap_models(self, pl_module: LightningModule) -> None:
        super()._swap_models(pl_module)
        self._swapped = not self._swapped


def _update(decay: float, averages: list[Tensor], current: list[Tensor], steps: Tensor | int) -> None:
    """Move averages, all of one type, towards the current values; equal ones stay equal, to the last bit."""
    if not averages[0].is_floating_point():  # counts, and digests, of which there is no mean
        for average, value in zip(averages, current, strict=True):
            average.copy_(value)
        return
    kept = min(decay, (1 + int(steps)) / (10 + int(steps)))
    get_ema_multi_avg_fn(kept)(averages, current, steps)  # type: ignore[no-untyped-call]
