"""What commands that evaluate trained runs share: their configuration, their data, a choice of images, a device."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from jsonargparse import ArgumentParser

from weakseg_lightning.data import SegmentationDataModule
from weakseg_lightning.data.text import read_yaml
from weakseg_lightning.modules import WeakSegModule
from weakseg_lightning.modules.core.class_names import require_same_classes
from weakseg_lightning.prediction.loading import load_module

Stage = Literal["fit", "validate"]


def read_config(run: Path) -> dict[str, Any]:
    """Read the configuration of a run.

    Args:
        run: its folder, or its config.yaml.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if it does not say what the data are.
    """
    path = run / "config.yaml" if run.is_dir() else run
    if not path.is_file():
        raise FileNotFoundError(f"`run`: no file {path} (working directory: {Path.cwd()}): name the folder of a run")
    found = read_yaml(path)
    if not isinstance(found, dict) or "class_path" not in (found.get("data") or {}):
        raise ValueError(
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
        ValueError: if the classes differ.
    """
    module, data = load_module(checkpoint), load_data(read_config(run), root, stage)
    if module.num_classes != data.num_classes:
        raise ValueError(f"{checkpoint} has {module.num_classes} classes, the data of {run} {data.num_classes}")
    require_same_classes(module.class_names, data.class_names, str(checkpoint), allow_other_classes)
    return module, data


def choose(available: int, images: int, seed: int) -> list[int]:
    """Choose some of the available images, or all: their indices, in order."""
    shuffled = torch.randperm(available, generator=torch.Generator().manual_seed(seed))
    return sorted(shuffled[:images].tolist())


def find_device(given: Literal["auto", "cpu", "cuda"]) -> str:
    """Name the device to compute on.

    Raises:
        ValueError: if it is not there.
    """
    available = torch.cuda.is_available()
    if given == "cuda" and not available:
        raise ValueError("`device` is cuda, but torch finds no GPU that it can use: take cpu")
    return "cuda" if available and given != "cpu" else "cpu"


def shown(path: Path) -> str:
    """A path as one would type it."""
    return os.path.relpath(path) if path.absolute().is_relative_to(Path.cwd()) else str(path)
