"""`weakseg predict ... IMAGES` with the configuration of a run."""

from collections.abc import Callable, Sequence
from pathlib import Path
from shlex import quote
from typing import Any

import torch
from jsonargparse import ArgumentParser

from weakseg_lightning.callbacks import NetworkSpeed, PredictionWriter
from weakseg_lightning.channels import Channels
from weakseg_lightning.cli import runs
from weakseg_lightning.cli.commands.places import shown
from weakseg_lightning.cli.commands.predict.files import find_images
from weakseg_lightning.cli.commands.predict.images import predict_images
from weakseg_lightning.cli.commands.predict.options import ImageOptions
from weakseg_lightning.data import FolderDataModule, SegmentationDataModule
from weakseg_lightning.data.folder.labels import DrawnLabels
from weakseg_lightning.data.images.channels import ChannelFiles
from weakseg_lightning.data.images.volumes import VolumeReader
from weakseg_lightning.errors import MissingFileError, UserError
from weakseg_lightning.modules import WeakSegModule
from weakseg_lightning.modules.core.class_names import OPTION, require_same_classes
from weakseg_lightning.prediction.loading import load_module
from weakseg_lightning.solvers import Refinement
from weakseg_lightning.visualization import Colors, voc_palette

_TRAINER = ("accelerator", "default_root_dir")
_PARTS = ("data", "refine", "images", "predictions", "speed")


class ImageCommand:
    """Labels images with the classes of a configuration's data and the network of its checkpoint.

    Args:
        section: the parsed configuration of `weakseg predict`; its trainer tells the accelerator and the folder alone.
        words: files and folders.
        options: the other words of the command line.
    """

    def __init__(self, section: Any, words: Sequence[str], options: Sequence[str]) -> None:
        self.words = words
        self.options = options
        self.checkpoint = str(section["ckpt_path"])
        self.trainer = section["trainer"]
        self.allow_other_classes: bool = section[OPTION]
        parser = ArgumentParser(exit_on_error=False)
        parser.add_subclass_arguments(SegmentationDataModule, "data")
        parser.add_argument("--refine", type=Refinement | None)
        parser.add_class_arguments(ImageOptions, "images")
        parser.add_class_arguments(PredictionWriter, "predictions")
        parser.add_class_arguments(NetworkSpeed, "speed")
        given = section.clone().as_dict()
        self.parts = parser.instantiate_classes(parser.parse_object({name: given[name] for name in _PARTS}))

    def run(self, name: Callable[[], str], config: Callable[[], str]) -> int:
        """Label them.

        Args:
            name: gives the name for the folder of a checkpoint outside of a run's folder.
            config: gives the configuration as YAML, to be kept with the results.

        Returns:
            The exit status.

        Raises:
            MissingFileError: if there are no such files.
        """
        module = load_module(self.checkpoint)
        _say_what_is_unused(self.options)
        volumes = getattr(self.parts.data, "volumes", None) or VolumeReader()
        images = find_images(self.words, _files_of(module.channels, volumes))
        writer: PredictionWriter = self.parts.predictions
        made = runs.RunFolder.make("predict", Path(self.trainer["default_root_dir"]), name(), self.checkpoint)
        folder = made.path
        output = Path(writer.output_dir).expanduser() if writer.output_dir is not None else folder / "predictions"
        try:
            names, palette = self._classes(module)
            require_same_classes(module.class_names, names, self.checkpoint, self.allow_other_classes)
            if self.parts.speed.channels_last:
                module.to(memory_format=torch.channels_last)
            status = predict_images(
                images,
                module,
                output,
                self.parts.images,
                writer.overlays,
                str(self.trainer["accelerator"]),
                self.parts.refine,
                (names, palette),
                volumes,
                self._drawn(),
            )
        except BaseException:
            if not any(folder.rglob("*.*")):
                made.discard()
            raise
        (folder / "config.yaml").write_text(config(), encoding="utf-8")
        self._say_what_is_next()
        return status

    def _classes(self, module: WeakSegModule) -> tuple[Sequence[str], Colors]:
        """Names and colors of the classes: those of the data, or, where they are not at hand, of the checkpoint."""
        data: SegmentationDataModule = self.parts.data
        try:
            return data.class_names, data.palette
        except MissingFileError as error:
            if module.class_names is None:
                raise
            print(f"The classes are those of the checkpoint, in the colors of PASCAL VOC: {error}")
            return module.class_names, voc_palette(module.num_classes)

    def _drawn(self) -> DrawnLabels | None:
        """Labels drawn on the images of the data's folder, for the cut alone."""
        data: SegmentationDataModule = self.parts.data
        if not self.parts.images.cut:
            return None
        if not isinstance(data, FolderDataModule):
            print(
                f"Only FolderDataModule has strokes to keep: with {type(data).__name__} the cut sees the network alone"
            )
            return None
        try:
            known = data.drawn()
        except MissingFileError as error:
            print(f"Strokes and cases are not known, so that every image is cut on its own: {error}")
            return None
        if known.lacks_spacing:
            print(
                "No spacing is known, so that slices are joined as if they were as close as pixels: give "
                "`--data.spacing [SLICES, ROWS, COLUMNS]` in mm"
            )
        return known

    def _say_what_is_next(self) -> None:
        run = Path(self.checkpoint).absolute().parent.parent
        if (run / "metrics.csv").is_file():
            print(f"To see the run as a page:\n  weakseg report {quote(shown(run))}")


def _say_what_is_unused(options: Sequence[str]) -> None:
    """Name options of the trainer that mean nothing here; those of a recipe are meant for training."""
    given = {word.partition("=")[0]: None for word in options if word.startswith("--trainer.")}
    if unused := [name for name in given if name.removeprefix("--trainer.") not in _TRAINER]:
        print(f"Options that are not used for IMAGES: {', '.join(unused)}")


def _files_of(channels: Channels | None, volumes: VolumeReader) -> ChannelFiles | None:
    """The files of channels; raises if they are those of slices with neighbors, and the data have none."""
    if channels is None or volumes.neighbors:
        return volumes.channels
    files = ChannelFiles(channels.given)
    if files.names != channels.names:
        raise UserError(
            f"the weights were trained on slices with their neighbors ({', '.join(channels.names)}): give the "
            "config.yaml of their run, which says how many"
        )
    return files
