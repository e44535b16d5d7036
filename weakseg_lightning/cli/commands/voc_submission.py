"""`weakseg voc-submission`: predictions, packed as the evaluation server of PASCAL VOC takes them."""

import gzip
import io
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from weakseg_lightning.cli.commands.places import existing_folder, require_new
from weakseg_lightning.data import BadSampleError
from weakseg_lightning.data.images.reading import image_size
from weakseg_lightning.data.voc.datamodule import VOC_CLASSES, VOCDataModule
from weakseg_lightning.data.voc.files import VOCFiles
from weakseg_lightning.errors import MissingFileError, UserError, first_of
from weakseg_lightning.files import replacing

__all__ = ["voc_submission"]

_SHOWN = 5


def voc_submission(
    predictions: Path,
    root: Path,
    split: str = "test",
    competition: Literal["comp5", "comp6"] = "comp6",
    output: Path | None = None,
    overwrite: bool = False,
) -> None:
    """Pack predictions for the evaluation server of PASCAL VOC 2012, after checking every one of them.

    The archive holds results/VOC2012/Segmentation/comp6_test_cls/NAME.png: one palette PNG for each image of the
    list, of its size, with the classes 0 to 20. `weakseg predict --data.predict_split test` writes such PNGs. Equal
    predictions give equal archives, byte for byte.

    Args:
        predictions: folder of the label maps, or the folder above its `labels`.
        root: folder that holds VOCdevkit/VOC2012, as the data module's root.
        split: the list in ImageSets/Segmentation that is to be covered.
        competition: comp5 if nothing but VOC's own segmentation data was trained on, comp6 otherwise (SBD, ImageNet).
        output: the archive to write; results_COMPETITION_SPLIT.tgz in the working directory by default.
        overwrite: replace an archive that is there.
    """
    existing_folder(predictions, "predictions")
    output = output or Path(f"results_{competition}_{split}.tgz")
    require_new(output, overwrite)
    folder = predictions / "labels" if (predictions / "labels").is_dir() else predictions
    files = VOCFiles(root.absolute())
    names = files.image_names(split)
    _require_complete(folder, names, split)
    problems = [problem for name in names if (problem := find_fault(folder / f"{name}.png", files.image(name)))]
    if problems:
        raise UserError(f"{len(problems)} of {len(names)} predictions are wrong: {first_of(problems, _SHOWN)}")
    inside = f"results/VOC2012/Segmentation/{competition}_{split}_cls"
    pack(output, inside, [folder / f"{name}.png" for name in names])
    print(f"Wrote {len(names)} label maps to {output}, in {inside}")
    if unused := {path.stem for path in folder.glob("*.png")} - set(names):
        print(f"Left out {len(unused)} label maps that are not of the split {split!r}, as {min(unused)}.png")


def find_fault(path: Path, image: Path) -> str | None:
    """Find what the server would not accept, or not as it is meant.

    Args:
        path: a label map.
        image: the image that it belongs to.

    Returns:
        What is wrong and what to do, None if nothing is.
    """
    try:
        size = image_size(image)
        with Image.open(path) as labeled:
            form, mode, labels, colors = labeled.format, labeled.mode, np.array(labeled), labeled.getpalette()
    except (BadSampleError, OSError, SyntaxError, ValueError) as error:
        return f"{path.name} cannot be checked ({error})"
    if form != "PNG" or mode != "P":
        return f"{path.name} is {form} with pixels of type {mode}, expected a palette PNG as `weakseg predict` writes"
    if labels.shape[::-1] != size:
        expected = f"{size[0]} x {size[1]}"
        return f"{path.name} has {labels.shape[1]} x {labels.shape[0]} pixels, its image {expected}"
    if labels.max() >= len(VOC_CLASSES):
        return f"{path.name} holds the label {labels.max()}, expected 0 to {len(VOC_CLASSES) - 1} (255 neither)"
    wanted = VOCDataModule().palette.flatten().tolist()
    # Encoders may leave out the end of a palette that no pixel uses.
    used = 3 * (int(labels.max()) + 1)
    if (colors or [])[:used] != wanted[:used]:
        return f"{path.name} has other colors than VOC's palette: predict with the VOC data module"
    return None


def pack(output: Path, inside: str, paths: Sequence[Path]) -> None:
    """Write files into a compressed archive, complete or not at all.

    Args:
        output: the archive.
        inside: folder in the archive.
        paths: files, in order.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    # Without names and times of today: the same content is the same file.
    with (
        replacing(output) as unfinished,
        unfinished.open("wb") as raw,
        gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as zipped,
        tarfile.open(mode="w", fileobj=zipped, format=tarfile.USTAR_FORMAT) as archive,
    ):
        for path in paths:
            content = path.read_bytes()
            entry = tarfile.TarInfo(f"{inside}/{path.name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))


def _require_complete(folder: Path, names: Sequence[str], split: str) -> None:
    absent = [name for name in names if not (folder / f"{name}.png").is_file()]
    if absent:
        raise MissingFileError(
            f"{len(absent)} of the {len(names)} images of the split {split!r} have no prediction in {folder}, the "
            f"first is {absent[0]}.png: `weakseg predict ... --data.predict_split {split}` writes them to its `labels`"
        )
