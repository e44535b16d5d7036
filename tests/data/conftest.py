"""Small data sets, made on the spot."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from weakseg_lightning.data import Sample, SampleSource, SegmentationDataModule
from weakseg_lightning.data.samples import present_labels
from weakseg_lightning.data.weak_labels import boxes_from_mask
from weakseg_lightning.visualization import voc_palette


class Squares(SampleSource):
    """Pictures with a colored square each; picture ``index`` has ``index`` in its blue channel."""

    def __init__(self, count: int, height: int = 40, width: int = 48, boxes: bool = False) -> None:
        self.count = count
        self.height = height
        self.width = width
        self.boxes = boxes
        self.broken: dict[int, Sample] = {}

    @property
    def ids(self) -> Sequence[str]:
        return [f"picture_{index}" for index in range(self.count)]

    def __getitem__(self, index: int) -> Sample:
        if index in self.broken:
            return self.broken[index]
        mask = torch.zeros(self.height, self.width, dtype=torch.uint8)
        mask[10:20, 5 + index : 20 + index] = 1 + index % 2
        seeds = torch.full_like(mask, 255)
        seeds[12:14, 8 + index], seeds[30, 10] = mask[12, 8 + index], 0
        image = torch.stack([mask * 100, torch.full_like(mask, 50), torch.full_like(mask, index)])
        boxes = boxes_from_mask(mask) if self.boxes else None
        return Sample(self.ids[index], image, seeds, mask, present_labels(mask, 3), boxes)


@pytest.fixture
def squares() -> type[Squares]:
    """Class of generated sources: ``squares(count, height, width, boxes)``."""
    return Squares


class SquaresDataModule(SegmentationDataModule):
    """The pictures of such sources as a data module."""

    def __init__(
        self,
        train: Squares,
        val: Squares,
        batch_size: int = 4,
        num_workers: int = 0,
        seed: int | None = 3,
        **base: Any,
    ) -> None:
        super().__init__(batch_size=batch_size, crop_size=32, num_workers=num_workers, seed=seed, **base)
        self.train, self.val = train, val

    @property
    def class_names(self) -> list[str]:
        return ["background", "odd", "even"]

    def train_source(self) -> Squares:
        return self.train

    def val_source(self) -> Squares:
        return self.val


@pytest.fixture
def make_data() -> Callable[..., SquaresDataModule]:
    """Makes a data module of generated images, of which its options are given."""

    def make(train: int = 11, val: int = 5, **options: Any) -> SquaresDataModule:
        return SquaresDataModule(Squares(train), Squares(val), **options)

    return make


def write_labels(path: Path, labels: np.ndarray, palette: bool = True) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(labels.astype(np.uint8))
    if palette:
        image.putpalette(voc_palette().tobytes())
    image.save(path)


def make_picture(voc: Path, name: str, label: int = 15, size: tuple[int, int] = (48, 40)) -> np.ndarray:
    """Write photograph, mask and scribble of one image of VOC; the mask is a square with a rim of void."""
    width, height = size
    mask = np.zeros((height, width), dtype=np.uint8)
    mask[9:21, 9:31], mask[10:20, 10:30] = 255, label
    scribble = np.full_like(mask, 255)
    scribble[14:17, 14:26], scribble[30:33, 5:40] = label, 0
    noise = np.random.default_rng(len(name)).integers(0, 255, (height, width, 3), dtype=np.uint8)
    (voc / "JPEGImages").mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise).save(voc / "JPEGImages" / f"{name}.jpg", quality=95)
    write_labels(voc / "SegmentationClass" / f"{name}.png", mask)
    write_labels(voc / "pascal_2012_scribble" / f"{name}.png", scribble, palette=False)
    return mask


def write_list(path: Path, names: Sequence[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{name}\n" for name in names))


@pytest.fixture
def make_voc(tmp_path: Path) -> Callable[..., Path]:
    """Writes VOC 2012 with few images below ``tmp_path``: the official splits alone; returns the root."""

    def make(
        train: Sequence[str] = ("a_1", "a_2", "a_3"), val: Sequence[str] = ("v_1", "v_2"), root: Path = tmp_path
    ) -> Path:
        voc = root / "VOCdevkit" / "VOC2012"
        for split, names in (("train", train), ("val", val)):
            for name in names:
                make_picture(voc, name)
            write_list(voc / "ImageSets" / "Segmentation" / f"{split}.txt", names)
        return root

    return make


@pytest.fixture
def bare(make_folder: Callable[[], Path]) -> Path:
    """A folder of three images with names of classes, background, cat and dog, and no annotation."""
    root = make_folder()
    for path in (*root.glob("scribbles/*"), *root.glob("masks/*"), *root.glob("*.csv")):
        path.unlink()
    return root
