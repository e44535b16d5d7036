"""The files of PASCAL VOC 2012 and SBD: where they are, what is missing, how they are fetched."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from urllib.error import URLError

import numpy as np
import torch
from scipy.io import loadmat
from torch import Tensor
from torchvision.datasets import SBDataset, VOCSegmentation

from weakseg_lightning.data.images.reading import read_labels
from weakseg_lightning.data.samples import BadSampleError
from weakseg_lightning.errors import MissingFileError

__all__ = ["VOCFiles", "download_sbd", "download_voc", "read_mask"]

VOC_ARCHIVE = "VOCtrainval_11-May-2012.tar"
TEST_ARCHIVE = "VOC2012test.tar"
SBD_ARCHIVE = "benchmark.tgz"
AUG_MASKS = "SegmentationClassAug"


@dataclass(frozen=True)
class VOCFiles:
    """Finds files below a root folder.

    Attributes:
        root: folder that holds ``VOCdevkit/VOC2012`` or ``VOC2012``, or ``VOC2012`` itself; SBD lies next to it as
            ``benchmark_RELEASE/dataset`` (the archive) or ``SBD`` (what torchvision makes of it).
    """

    root: Path

    @cached_property
    def folder(self) -> Path:
        """The folder ``VOC2012``; where it should be, if there is none."""
        candidates = [self.root / "VOCdevkit" / "VOC2012", self.root / "VOC2012", self.root]
        return next((path for path in candidates if (path / "ImageSets").is_dir()), candidates[0])

    @cached_property
    def sbd(self) -> Path | None:
        """The folder of SBD, which holds ``cls``, ``train.txt`` and ``val.txt``; None if there is none."""
        return next((path for path in self.sbd_candidates if (path / "cls").is_dir()), None)

    @property
    def sbd_candidates(self) -> list[Path]:
        """Folders where SBD is looked for."""
        return [base / "benchmark_RELEASE" / "dataset" for base in self._bases] + [base / "SBD" for base in self._bases]

    @property
    def _bases(self) -> list[Path]:
        return list(dict.fromkeys([self.root, self.folder.parent, self.folder]))

    def image(self, name: str) -> Path:
        """Path of an image."""
        return self.folder / "JPEGImages" / f"{name}.jpg"

    def mask(self, name: str) -> Path:
        """Path of a mask: VOC's own before those of SBD, PNG or MAT."""
        places = [self.folder / "SegmentationClass", self.folder / AUG_MASKS]
        candidates = [place / f"{name}.png" for place in places]
        if (sbd := self.sbd) is not None:
            candidates.append(sbd / "cls" / f"{name}.mat")
        return next((path for path in candidates if path.is_file()), candidates[0])

    def split_list(self, split: str) -> Path:
        """Path of the list of an official split."""
        return self.folder / "ImageSets" / "Segmentation" / f"{split}.txt"

    @property
    def aug_list(self) -> Path:
        """Path of a ready list of train_aug."""
        return self.folder / "ImageSets" / "SegmentationAug" / "train.txt"

    def names(self, split: str) -> list[str]:
        """Names of the images of a split.

        Args:
            split: an official split, or ``train_aug``: the ready list if there is one, otherwise VOC train and all of
                SBD without VOC val, sorted (10,582 names from the full archives).

        Returns:
            Names without folder and suffix.
        """
        if split != "train_aug":
            return read_list(self.split_list(split))
        if self.aug_list.is_file():
            return read_list(self.aug_list)
        return sorted((set(self.names("train")) | self._sbd_names()) - set(self.names("val")))

    def _sbd_names(self) -> set[str]:
        if (sbd := self.sbd) is not None:
            lists = [path for part in ("train", "val") if (path := sbd / f"{part}.txt").is_file()]
            return {name for path in lists for name in read_list(path)} or {p.stem for p in (sbd / "cls").glob("*.mat")}
        return {path.stem for path in (self.folder / AUG_MASKS).glob("*.png")}

    def image_names(self, split: str) -> list[str]:
        """Names of the images of an official split, whose masks need not be there.

        Args:
            split: its list in ``ImageSets/Segmentation``.

        Returns:
            Names without folder and suffix.

        Raises:
            FileNotFoundError: if the list is not there, or an image on it.
        """
        path = self.split_list(split)
        from_where = f" (archive {TEST_ARCHIVE}, from VOC's evaluation server)" if split == "test" else ""
        if not path.is_file():
            found = ", ".join(sorted(other.stem for other in path.parent.glob("*.txt"))) or "none"
            raise MissingFileError(
                f"no list {self.shown(path)} of the split {split!r} in {self.root}; there are: {found}. "
                f"Put the list and its images there{from_where}"
            )
        names = read_list(path)
        if absent := [name for name in names if not self.image(name).is_file()]:
            raise MissingFileError(
                f"{len(absent)} of the {len(names)} images of the split {split!r} are missing in {self.root}, "
                f"the first is {self.shown(self.image(absent[0]))}. Put them there{from_where}"
            )
        return names

    def missing(self, *splits: str) -> list[str]:
        """Say what keeps splits from being found: an empty list if nothing does.

        Args:
            splits: official splits, or ``train_aug``.

        Returns:
            For each missing piece what it is, where it was looked for, and the archive that has it.
        """
        computed = "train_aug" in splits and not self.aug_list.is_file()
        needed = [*(["train", "val"] if computed else []), *(split for split in splits if split != "train_aug")]
        absent = [path for path in map(self.split_list, needed) if not path.is_file()]
        missing = []
        if absent:
            missing.append(f"images and masks of VOC 2012 (no {self.shown(absent[0])}; archive {VOC_ARCHIVE})")
        if computed and not self._sbd_names():
            looked = f"neither {self.shown(self.sbd_candidates[0] / 'cls')} nor {AUG_MASKS} in VOC2012"
            missing.append(f"masks of SBD for `train_split: train_aug` ({looked}; archive {SBD_ARCHIVE})")
        return missing

    def shown(self, path: Path) -> str:
        """Write a path for messages: from the root, where it lies below."""
        return str(path.relative_to(self.root) if path.is_relative_to(self.root) else path)

    def lacks_voc(self) -> bool:
        """Tell if a file of the official train and val splits is missing, as after an interrupted download."""
        if any(not self.split_list(split).is_file() for split in ("train", "val")):
            return True
        names = [name for split in ("train", "val") for name in self.names(split)]
        return not all(self.image(name).is_file() and self.mask(name).is_file() for name in names)


def read_list(path: Path) -> list[str]:
    """Read the names in a list file: the first word of each line, without folder and suffix."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [Path(line.split()[0]).stem for line in lines if line.strip()]


def read_mask(path: Path) -> Tensor:
    """Read a mask, a PNG of VOC or a MAT file of SBD, as uint8 ``(H, W)``.

    Raises:
        BadSampleError: if the file is missing or cannot be read.
    """
    if path.suffix != ".mat":
        return read_labels(path)
    try:
        labels = loadmat(path, variable_names=["GTcls"])["GTcls"]["Segmentation"][0, 0]
    except Exception as error:  # loadmat raises whatever the damage leads to: OSError, TypeError, zlib.error, ...
        reason = f"is not a mask of SBD that can be read ({error!r})"
        raise BadSampleError(f"{path} {reason}: restore it from {SBD_ARCHIVE}") from error
    return torch.from_numpy(np.ascontiguousarray(labels, dtype=np.uint8))


def download_voc(root: Path) -> None:
    """Fetch VOC 2012 with torchvision and unpack it to ``root/VOCdevkit/VOC2012``.

    Raises:
        RuntimeError: if that fails.
    """
    try:
        VOCSegmentation(root, year="2012", image_set="train", download=True)
    except (URLError, OSError, RuntimeError) as error:
        raise _failed(VOC_ARCHIVE, root, error) from error


def download_sbd(root: Path) -> None:
    """Fetch SBD with torchvision and unpack it to ``root/SBD``.

    Raises:
        RuntimeError: if that fails.
    """
    try:
        SBDataset(root / "SBD", image_set="train", mode="segmentation", download=True)
    except (URLError, OSError, RuntimeError) as error:
        raise _failed(SBD_ARCHIVE, root / "SBD", error) from error


def _failed(archive: str, folder: Path, error: Exception) -> RuntimeError:
    return RuntimeError(
        f"the download of {archive} failed ({error}): try again later, or fetch the archive by other means, put it "
        f"into {folder.absolute()} and start again, it will be unpacked from there"
    )
