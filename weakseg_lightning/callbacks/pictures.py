"""Pictures of a run: panels during training, label maps and overlays of predictions."""

import os
import re
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter
from lightning.pytorch.utilities import rank_zero_info
from PIL import Image
from torch import Tensor
from typing_extensions import override

from weakseg_lightning.callbacks.drawing import PanelCallback, boxes, classes_of, on_cpu, run_folder, title_of
from weakseg_lightning.energies.potts import VOID
from weakseg_lightning.errors import FileError
from weakseg_lightning.files import replacing
from weakseg_lightning.modules.core.guides import colors_of
from weakseg_lightning.visualization.panels import PanelRow, draw_panels, overlay, save_palette_png

_UNSAFE = re.compile(r'[\x00-\x1f%/\\:*?"<>|]|^\.|[. ]$')


class PanelWriter(PanelCallback):
    """Draws images, seeds, latent labelings, predictions and truths of a training batch every few epochs.

    The pictures go to ``<run folder>/panels/epoch_0003.png`` and to the loggers that take images, see
    :class:`~weakseg_lightning.callbacks.drawing.PanelCallback`.

    Example:
        >>> from lightning.pytorch import Trainer
        >>> trainer = Trainer(callbacks=[PanelWriter(every_n_epochs=5)], logger=False, enable_checkpointing=False)
    """

    name = "panels"

    @override
    def draw(self, trainer: Trainer, pl_module: LightningModule, batch: Any, predicted: Tensor) -> Image.Image:
        rows = _panel_rows(batch, getattr(pl_module, "latent_labels", None), predicted.argmax(1))
        return draw_panels(rows, *classes_of(trainer), title=title_of(trainer))


class PredictionWriter(BasePredictionWriter):
    """Writes each prediction as a palette PNG (pixel value = class) and laid over its image.

    Files are ``labels/<id>.png`` and ``overlays/<id>.jpg``, complete or absent, also when a run is stopped. Characters
    of an id that a file name cannot hold are written as ``%`` and their code: ``cats/1`` becomes ``cats%2F1.png``. In
    the end, the label maps of a volume's slices become ``labels/<volume>.nii.gz``, and `weakseg predict` makes those of
    images that lie on a map GeoTIFFs at their places.

    Args:
        output_dir: folder to write to; ``<run folder>/predictions`` by default. `weakseg predict` writes into the
            folder ``predict`` of the run: images of the data set into it, IMAGES into its ``predictions``.
        overlays: whether to draw overlays.

    Attributes:
        folder: the folder that is written to, known when predicting begins.

    Example:
        >>> from lightning.pytorch import Trainer
        >>> writer = PredictionWriter("results", overlays=False)
        >>> trainer = Trainer(callbacks=[writer], logger=False, enable_checkpointing=False)
    """

    def __init__(self, output_dir: str | None = None, overlays: bool = True) -> None:
        super().__init__(write_interval="batch")
        self.output_dir = output_dir
        self.overlays = overlays
        self.folder = Path()
        self._written: set[str] = set()

    @override
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Make the folders and try them, before time is spent on predictions.

        Raises:
            OSError: if the folder cannot be written to, or its disk is full.
        """
        super().setup(trainer, pl_module, stage)
        if stage != "predict":
            return
        default = run_folder(trainer) / "predictions"
        self.folder = Path(self.output_dir).expanduser() if self.output_dir is not None else default
        self._written = set()
        for name in ("labels", "overlays") if self.overlays else ("labels",):
            check_writable(self.folder / name)

    @override
    def write_on_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        prediction: Any,
        batch_indices: Sequence[int] | None,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        """Write the files of one batch: ``prediction`` is ``{"id": list of B, "labels": (B, H, W)}``."""
        _, palette = classes_of(trainer)
        images, labels = on_cpu(colors_of(batch)), on_cpu(prediction["labels"])
        if "valid" in batch:
            labels = torch.where(on_cpu(batch["valid"]), labels, VOID)
        for name, image, classes, box in zip(prediction["id"], images, labels, boxes(batch), strict=True):
            self._warn_if_written(name)
            stem, image, classes = file_stem(name), image[:, *box], classes[box]
            with replacing(self.folder / "labels" / f"{stem}.png") as path:
                save_palette_png(path, classes, palette)
            if self.overlays:
                with replacing(self.folder / "overlays" / f"{stem}.jpg") as path:
                    overlay(image, classes, palette).save(path, format="JPEG", quality=92, subsampling=0)

    @override
    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Join the label maps of slices into volumes, and say where the files are."""
        trainer.strategy.barrier()  # on other ranks some may not be written yet
        join = getattr(getattr(trainer, "datamodule", None), "join_predictions", None)
        if trainer.is_global_zero and join is not None:
            join(self.folder / "labels", file_stem)
        rank_zero_info(f"Predictions are in {self.folder}")

    def _warn_if_written(self, name: str) -> None:
        if name in self._written:
            message = f"two images have the id {name!r}: the prediction of the first was replaced in {self.folder}"
            warnings.warn(f"{message}; give every image an `id` of its own", stacklevel=2)
        self._written.add(name)


# ---- panels ---------------------------------------------------------------------------------------------------


def _panel_rows(batch: dict[str, Any], latent: Tensor | None, prediction: Tensor) -> list[PanelRow]:
    """Cut the padding off each image and its maps; an image without a mask (void everywhere) has no truth."""
    count = len(prediction)
    maps = {"seeds": batch.get("seeds"), "latent": latent, "prediction": prediction, "truth": batch.get("mask")}
    present = {name: on_cpu(values[:count]) for name, values in maps.items() if values is not None}
    rows, images = [], on_cpu(colors_of(batch))
    for i, box in enumerate(boxes(batch, count)):
        cut = {name: values[i][box] for name, values in present.items()}
        if "truth" in cut and not (cut["truth"] != VOID).any():
            del cut["truth"]
        rows.append(PanelRow(images[i][:, *box], **cut))
    return rows


# ---- images and files -----------------------------------------------------------------------------------------


def file_stem(name: str) -> str:
    """Turn an id into a file name, one to one, that stays inside its folder on every system."""
    return _UNSAFE.sub(lambda found: f"%{ord(found[0]):02X}", name) or "%"


def check_writable(folder: Path) -> None:
    """Make a folder for predictions and try it.

    Raises:
        OSError: if it cannot be written to, or its disk is full.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(bytes(2**16))
            probe.flush()
            os.fsync(probe.fileno())  # some file systems notice only now that they are full
    except OSError as error:
        message = f"cannot write predictions to {folder}: {error.strerror or error}"
        raise FileError(f"{message}; make room, or name another folder with `output_dir`") from error
