"""What callbacks that draw during training share: predictions on the side, and where pictures go."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.strategies import FSDPStrategy
from PIL import Image
from torch import Tensor, nn
from torch.distributed.fsdp import FullyShardedDataParallel

from weakseg_lightning.files import replacing


def classes_of(trainer: Trainer) -> tuple[Any, Any]:
    """Names and colors of the classes, None where the data module has none."""
    data = getattr(trainer, "datamodule", None)
    return getattr(data, "class_names", None), getattr(data, "palette", None)


def in_last_epoch(trainer: Trainer) -> bool:
    """Tell, after the first batch of an epoch, whether training ends with this epoch, by epochs or by steps."""
    accumulated = trainer.accumulate_grad_batches
    still_in_epoch = trainer.num_training_batches / accumulated - (accumulated == 1)  # has the first batch made a step?
    by_steps = 0 <= trainer.max_steps - trainer.global_step <= still_in_epoch
    return by_steps or trainer.current_epoch + 1 == trainer.max_epochs


def predicted(trainer: Trainer, pl_module: LightningModule, images: Tensor) -> Tensor:
    """Score images in evaluation mode, leaving modes, buffers and random state as they were; on all ranks at once."""
    with evaluating(trainer, pl_module, images):
        scores: Tensor = pl_module(images)
    return scores


@contextmanager
def evaluating(trainer: Trainer, pl_module: LightningModule, images: Tensor) -> Iterator[None]:
    """Evaluation mode without gradient inside; modes, buffers and random state are as before afterwards.

    A network whose weights are sharded is whole inside, which all ranks have to enter together.
    """
    devices = [images.device.index] if images.is_cuda else []
    precision = trainer.precision_plugin.forward_context()
    aside = torch.random.fork_rng(devices=devices)
    with aside, _whole_weights(trainer), _evaluation_mode(pl_module), torch.no_grad(), precision:
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


@contextmanager
def _evaluation_mode(module: nn.Module) -> Iterator[None]:
    modes = [(part, part.training) for part in module.modules()]  # one by one: parts may be frozen in evaluation mode
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode


def boxes(batch: Mapping[str, Any], count: int | None = None) -> list[tuple[slice, slice]]:
    """Rows and columns of each image that are not padding."""
    image, valid = batch["image"][:count], batch.get("valid")
    if valid is None:
        return [(slice(None), slice(None))] * len(image)
    return [(_extent(one.any(1)), _extent(one.any(0))) for one in on_cpu(valid[:count])]


def _extent(used: Tensor) -> slice:
    where = used.nonzero().flatten().tolist()
    return slice(where[0], where[-1] + 1) if where else slice(None)


def on_cpu(values: Tensor) -> Tensor:
    """A tensor's values, without its graph, on the CPU."""
    return values.detach().cpu()


def keep_picture(picture: Image.Image, path: Path) -> None:
    """Write a picture during training, which goes on if that fails."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as unfinished:
            picture.save(unfinished, format="PNG")
    except OSError as error:  # hours of training must not end for a picture
        warnings.warn(f"{error}; training goes on without this panel", stacklevel=2)


def log_picture(picture: Image.Image, trainer: Trainer, name: str) -> None:
    """Hand a picture to the loggers that take images."""
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_image(name, np.asarray(picture), trainer.global_step, dataformats="HWC")
        elif callable(log_image := getattr(logger, "log_image", None)):  # Weights & Biases and those like it
            log_image(key=name, images=[picture], step=trainer.global_step)
