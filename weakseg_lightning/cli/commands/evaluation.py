"""Steps of all commands that evaluate trained runs: reading a run, choosing images and a device, predicting."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from jsonargparse import ArgumentParser
from rich.console import Console
from rich.progress import track
from torch import Tensor

from weakseg_lightning.cli.commands.places import file_of_run
from weakseg_lightning.data import SegmentationDataModule, SegmentationDataset, collate, decode_batch
from weakseg_lightning.data.text import read_yaml
from weakseg_lightning.errors import UserError
from weakseg_lightning.modules import WeakSegModule
from weakseg_lightning.modules.core.class_names import require_same_classes
from weakseg_lightning.prediction.loading import load_module

Stage = Literal["fit", "validate"]
Batch = dict[str, Any]
T = TypeVar("T")


def read_config(run: Path) -> dict[str, Any]:
    """Read the configuration of a run.

    Args:
        run: its folder, or its config.yaml.

    Raises:
        MissingFileError: if there is none.
        UserError: if it does not say what the data are.
    """
    path = file_of_run(run / "config.yaml" if run.is_dir() else run)
    found = read_yaml(path)
    if not isinstance(found, dict) or "class_path" not in (found.get("data") or {}):
        raise UserError(
            f"`run`: {path} does not say what the data are: expected a config.yaml that `weakseg fit` wrote"
        )
    return found


def load_data(config: Mapping[str, Any], root: str | None, stage: Stage) -> SegmentationDataModule:
    """Find the data of a run.

    Args:
        config: what :func:`read_config` returned.
        root: folder of the data set, where it is not that of the run.
        stage: ``validate`` for validation images, ``fit`` for training images too.
    """
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(SegmentationDataModule, "data")
    described = config["data"]
    if root is not None:
        described = {**described, "init_args": {**described.get("init_args", {}), "root": root}}
    data: SegmentationDataModule = parser.instantiate_classes(parser.parse_object({"data": described})).data
    data.prepare_data()
    data.setup(stage)
    return data


def load_trained(
    run: Path, checkpoint: Path, root: str | None, stage: Stage, allow_other_classes: bool
) -> tuple[WeakSegModule, SegmentationDataModule]:
    """Load a trained network and the data of its run.

    Args:
        run: folder of the run, or its config.yaml.
        checkpoint: the checkpoint.
        root: folder of the data set, where it is not that of the run.
        stage: ``validate`` for validation images, ``fit`` for training images too.
        allow_other_classes: whether the data may have other classes than the checkpoint was trained on.

    Raises:
        UserError: if the classes differ.
    """
    module, data = load_module(checkpoint), load_data(read_config(run), root, stage)
    if module.num_classes != data.num_classes:
        raise UserError(f"{checkpoint} has {module.num_classes} classes, the data of {run} {data.num_classes}")
    require_same_classes(module.class_names, data.class_names, str(checkpoint), allow_other_classes)
    return module, data


def choose(available: int, images: int, seed: int) -> list[int]:
    """Choose some of the available images, or all: their indices, in order."""
    shuffled = torch.randperm(available, generator=torch.Generator().manual_seed(seed))
    return sorted(shuffled[:images].tolist())


def find_device(given: Literal["auto", "cpu", "cuda"]) -> str:
    """Name the device to compute on.

    Raises:
        UserError: if it is not there.
    """
    available = torch.cuda.is_available()
    if given == "cuda" and not available:
        raise UserError("`device` is cuda, but torch finds no GPU that it can use: take cpu")
    return "cuda" if available and given != "cpu" else "cpu"


@torch.no_grad()
def predict_labels(
    module: WeakSegModule, images: SegmentationDataset, chosen: Sequence[int], what: str
) -> Iterator[tuple[Batch, Tensor]]:
    """Predict whole images one by one, and show how far it is.

    Args:
        module: the trained network, on its device.
        images: the images.
        chosen: indices of those to predict.
        what: what is predicted, in a few words.

    Yields:
        A batch of one image, and its labels, int64 ``(1, H, W)`` on the CPU.
    """
    for index in followed(chosen, what, len(chosen)):
        batch = decode_batch(collate([images[index]]))
        yield batch, module(batch["image"].to(module.device)).argmax(1).cpu()


def followed(items: Iterable[T], what: str, total: int) -> Iterable[T]:
    """Show how far a loop is, on a terminal."""
    console = Console(stderr=True)
    return track(items, what, total, console=console, transient=True, disable=not console.is_terminal)
