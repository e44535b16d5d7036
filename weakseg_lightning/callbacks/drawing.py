"""The base of the callbacks that draw during training, and what they share with others: classes, padding, folder."""

import io
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.strategies import FSDPStrategy
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor
from torch.distributed.fsdp import FullyShardedDataParallel
from typing_extensions import override

from weakseg_lightning.callbacks.checkpoints import TIME_FRACTION
from weakseg_lightning.checks import at_least, between
from weakseg_lightning.devices import random_state_kept
from weakseg_lightning.files import replacing
from weakseg_lightning.networks.evaluation import evaluating


class PanelCallback(Callback, ABC):
    """Base of the callbacks that draw a training batch every few epochs.

    The picture shows the first batch of epochs 0, n, 2n ... and of the last one, after its step, with the network in
    evaluation mode. Where epochs are so short that pictures would take more than ``time_fraction`` of the time, those
    between the first and the last are left out. It goes to ``<run folder>/<name>/epoch_0003.png`` and to the loggers
    that take images. Training goes on exactly as if nothing had been drawn.

    Args:
        every_n_epochs: epochs from one picture to the next.
        num_images: images (rows) per picture.
        time_fraction: fraction of the training time that pictures may take; 1 draws them all.

    Attributes:
        name: of the folder, and of the picture in the loggers.

    Raises:
        ValueError: if an argument is smaller than 1.
    """

    name: ClassVar[str]

    def __init__(self, every_n_epochs: int = 1, num_images: int = 4, time_fraction: float = TIME_FRACTION) -> None:
        hint = f"to draw nothing, leave {type(self).__name__} out"
        at_least("every_n_epochs", every_n_epochs, 1, hint)
        at_least("num_images", num_images, 1, hint)
        self.every_n_epochs = every_n_epochs
        between("time_fraction", time_fraction, 0, 1)
        self.num_images = num_images
        self.time_fraction = time_fraction
        self._began = self._drawing = 0.0

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._began, self._drawing = time.monotonic(), 0.0

    @override
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Draw the first batch of the epoch, if it is the epoch's turn."""
        epoch, last = trainer.current_epoch, _in_last_epoch(trainer)
        if batch_idx != 0 or not (epoch % self.every_n_epochs == 0 or last):
            return
        # The clocks of the ranks differ, and all have to draw or none.
        start = time.monotonic()
        due = last or self._drawing <= self.time_fraction * (start - self._began)
        if trainer.strategy.broadcast(due):
            self._draw(trainer, pl_module, batch)
            self._drawing += time.monotonic() - start

    def _draw(self, trainer: Trainer, pl_module: LightningModule, batch: Any) -> None:
        # On every rank: the folder is broadcast, and a sharded network answers only to all of them.
        folder = run_folder(trainer) / self.name
        images = batch["image"][: self.num_images]
        with _undisturbed(trainer, pl_module, images):
            predicted = self.predict(pl_module, images)
        if trainer.is_global_zero:
            picture = self.draw(trainer, pl_module, batch, predicted)
            if not getattr(trainer, "fast_dev_run", False):  # which leaves nothing on the disk
                _write_picture(picture, folder / f"epoch_{trainer.current_epoch:04d}.png")
            _log_picture(picture, trainer, self.name)

    def predict(self, pl_module: LightningModule, images: Tensor) -> Any:
        """Compute what the picture shows of the network, in evaluation mode without gradient; on all ranks at once.

        Args:
            pl_module: the module.
            images: the first ``num_images`` of the batch, ``(b, 3, H, W)``.

        Returns:
            What :meth:`draw` gets, the scores ``(b, K, H, W)`` by default.
        """
        return pl_module(images)

    @abstractmethod
    def draw(self, trainer: Trainer, pl_module: LightningModule, batch: Any, predicted: Any) -> Image.Image:
        """Draw the picture, on the first rank alone.

        Args:
            trainer: of the run.
            pl_module: the module.
            batch: the whole batch.
            predicted: what :meth:`predict` returned.
        """


def run_folder(trainer: Trainer) -> Path:
    """Folder of the run, to be asked for on every rank: that of a logger is broadcast."""
    return Path(trainer.log_dir or trainer.default_root_dir)


def title_of(trainer: Trainer) -> str:
    """Headline of a picture: epoch and step."""
    return f"epoch {trainer.current_epoch}, step {trainer.global_step}"


def classes_of(trainer: Trainer) -> tuple[Any, Any]:
    """Names and colors of the classes, None where the data module has none."""
    data = getattr(trainer, "datamodule", None)
    return getattr(data, "class_names", None), getattr(data, "palette", None)


def boxes(batch: Mapping[str, Any], count: int | None = None) -> list[tuple[slice, slice]]:
    """Rows and columns of each image that are not padding, which is right and below."""
    image, valid = batch["image"][:count], batch.get("valid")
    if valid is None or not batch.get("padded", True):
        return [(slice(None), slice(None))] * len(image)
    return [(_extent(one.any(1)), _extent(one.any(0))) for one in on_cpu(valid[:count])]


def _extent(used: Tensor) -> slice:
    where = used.nonzero().flatten().tolist()
    return slice(where[-1] + 1) if where else slice(None)


def on_cpu(values: Tensor) -> Tensor:
    """A tensor's values, without its graph, on the CPU."""
    return values.detach().cpu()


def rendered(figure: Figure) -> Image.Image:
    """RGB image of a figure."""
    written = io.BytesIO()
    figure.savefig(written, format="png", dpi=110)
    return Image.open(written).convert("RGB")


# ---- when and how PanelCallback draws -------------------------------------------------------------------------


def _in_last_epoch(trainer: Trainer) -> bool:
    """Tell, after the first batch of an epoch, whether training ends with this epoch, by epochs or by steps."""
    accumulated = trainer.accumulate_grad_batches
    still_in_epoch = trainer.num_training_batches / accumulated - (accumulated == 1)  # has the first batch made a step?
    by_steps = 0 <= trainer.max_steps - trainer.global_step <= still_in_epoch
    return by_steps or trainer.current_epoch + 1 == trainer.max_epochs


@contextmanager
def _undisturbed(trainer: Trainer, pl_module: LightningModule, images: Tensor) -> Iterator[None]:
    """Evaluation mode without gradient; modes, buffers and random state are as before afterwards.

    A network whose weights are sharded is whole inside, which all ranks have to enter together.
    """
    precision = trainer.precision_plugin.forward_context()
    with random_state_kept([images.device]), _whole_weights(trainer), evaluating(pl_module), torch.no_grad(), precision:
        yield


def _whole_weights(trainer: Trainer) -> AbstractContextManager[None]:
    """Gather what FSDP leaves on other ranks between the steps."""
    strategy = trainer.strategy
    if isinstance(strategy, FSDPStrategy) and isinstance(strategy.model, FullyShardedDataParallel):
        gathered: AbstractContextManager[None] = FullyShardedDataParallel.summon_full_params(
            strategy.model, writeback=False
        )
        return gathered
    return nullcontext()


def _write_picture(picture: Image.Image, path: Path) -> None:
    """Write a picture during training, which goes on if that fails."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as unfinished:
            picture.save(unfinished, format="PNG", compress_level=3)  # three times as fast as 6, a tenth larger
    except OSError as error:  # hours of training must not end for a picture
        warnings.warn(f"{error}; training goes on without this panel", stacklevel=2)


def _log_picture(picture: Image.Image, trainer: Trainer, name: str) -> None:
    """Hand a picture to the loggers that take images."""
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_image(name, np.asarray(picture), trainer.global_step, dataformats="HWC")
        elif callable(log_image := getattr(logger, "log_image", None)):  # Weights & Biases and those like it
            log_image(key=name, images=[picture], step=trainer.global_step)
