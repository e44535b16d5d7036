"""Images, strokes and masks that ways from few images to masks are compared on."""

import random
import tempfile
from abc import ABC, abstractmethod
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from weakseg_lightning.data import VOC_CLASSES
from weakseg_lightning.data.samples import Sample
from weakseg_lightning.data.scenes.datamodule import Scenes
from weakseg_lightning.data.scenes.drawing import CLASS_NAMES

Labels = NDArray[np.uint8]


class Task(ABC):
    """Images with strokes to learn from, others with masks to test on.

    Attributes:
        classes: names, background first.
        train: names of all images to learn from, in the order in which they are taken.
        test: names of the images to test on.
        counted: classes whose IoU is averaged.
    """

    classes: list[str]
    counted: list[int]
    train: list[str]
    test: list[str]

    def few(self, images: int, tune: bool) -> tuple[list[str], list[str]]:
        """The first images to learn from, and those to test on; to tune, training images that are kept out."""
        return self.train[:images], self.train[images : images + len(self.test)] if tune else self.test

    @abstractmethod
    def image(self, name: str) -> Path:
        """File of an image."""

    @abstractmethod
    def truth(self, name: str) -> Labels:
        """Mask, 255 = void."""

    @abstractmethod
    def scribbles(self, name: str) -> Labels:
        """Scribbles, 255 = none."""


class VOC(Task):
    """The part of PASCAL VOC with scribbles that is there.

    Args:
        root: the folder that holds VOCdevkit.
    """

    def __init__(self, root: Path) -> None:
        self.root = root / "VOCdevkit" / "VOC2012"

    def image(self, name: str) -> Path:
        return self.root / "JPEGImages" / f"{name}.jpg"

    def truth(self, name: str) -> Labels:
        folders = (self.root / folder / f"{name}.png" for folder in ("SegmentationClassAug", "SegmentationClass"))
        return np.array(Image.open(next(path for path in folders if path.is_file())))

    def scribbles(self, name: str) -> Labels:
        return np.array(Image.open(self.root / "pascal_2012_scribble" / f"{name}.png"))

    def listed(self, split: str) -> list[str]:
        """Names of a list."""
        return (self.root / "ImageSets" / "SegmentationAug" / f"{split}.txt").read_text().split()


class Whole(VOC):
    """All images and 21 classes; IoU is averaged over the seven that the images are enough to learn."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.classes = list(VOC_CLASSES)
        self.counted = [0, 8, 10, 12, 13, 15, 17]
        self.train, self.test = self.listed("train"), self.listed("val")
        random.Random(0).shuffle(self.train)


class Pets(VOC):
    """Cats and dogs, one kind per image to learn from; all else is background.

    Args:
        root: the folder that holds VOCdevkit.
        test: images to test on.
    """

    def __init__(self, root: Path, test: int = 60) -> None:
        super().__init__(root)
        self.classes, self.counted = ["background", "cat", "dog"], [0, 1, 2]
        shown = {name: self._shown(name) for split in ("train", "val") for name in self.listed(split)}
        self.train = sorted(name for name in self.listed("train") if len(shown[name]) == 1)
        random.Random(0).shuffle(self.train)
        self.test = [name for name in self.listed("val") if shown[name]][:test]

    def truth(self, name: str) -> Labels:
        return _pets(super().truth(name))

    def scribbles(self, name: str) -> Labels:
        return _pets(super().scribbles(name))

    def _shown(self, name: str) -> set[int]:
        return {1, 2} & set(np.unique(self.truth(name)).tolist())


def _pets(labels: Labels) -> Labels:
    table = np.zeros(256, dtype=np.uint8)
    table[[8, 12, 255]] = 1, 2, 255
    return table[labels]


class Heart(Task):
    """Slices of the heart (ACDC) with human scribbles, in the layout of a folder of one's own.

    Args:
        root: the folder.
        step: every such slice of the validation list is tested on.
    """

    def __init__(self, root: Path, step: int = 3) -> None:
        self.root = root
        self.classes, self.counted = ["background", "RV", "Myo", "LV"], [0, 1, 2, 3]
        self.train = (root / "train.txt").read_text().split()
        random.Random(0).shuffle(self.train)
        self.test = (root / "val.txt").read_text().split()[::step]

    def image(self, name: str) -> Path:
        return next((self.root / "images").glob(f"{name}.*"))

    def truth(self, name: str) -> Labels:
        return np.array(Image.open(self.root / "masks" / f"{name}.png"))

    def scribbles(self, name: str) -> Labels:
        return np.array(Image.open(self.root / "scribbles" / f"{name}.png"))


class Tide(Task):
    """Generated scenes with their scribbles, 400 to learn from and 100 to test on; they are unlike photographs.

    Args:
        size: height and width.
    """

    def __init__(self, size: int = 128) -> None:
        self.classes, self.counted = list(CLASS_NAMES), list(range(len(CLASS_NAMES)))
        self.sources = {"train": Scenes("train", 400, size), "val": Scenes("val", 100, size)}
        self.train, self.test = (list(self.sources[split].ids) for split in ("train", "val"))

    @cached_property
    def folder(self) -> tempfile.TemporaryDirectory[str]:
        return tempfile.TemporaryDirectory()

    def image(self, name: str) -> Path:
        path = Path(self.folder.name) / f"{name}.png"
        if not path.exists():
            Image.fromarray(self._sample(name).image.permute(1, 2, 0).numpy()).save(path)
        return path

    def truth(self, name: str) -> Labels:
        mask = self._sample(name).mask
        assert mask is not None
        return mask.numpy()

    def scribbles(self, name: str) -> Labels:
        seeds = self._sample(name).seeds
        assert seeds is not None
        return seeds.numpy()

    def _sample(self, name: str) -> Sample:
        split, number = name.split("_")
        return self.sources[split][int(number)]
