"""Generated scenes with every kind of annotation: nothing to download, small networks learn them within a minute."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from weakseg_lightning.checks import at_least, between, one_of
from weakseg_lightning.data.base import SegmentationDataModule
from weakseg_lightning.data.samples import Sample, SampleSource, present_labels
from weakseg_lightning.data.scenes.annotate import click, frame, scribble
from weakseg_lightning.data.scenes.drawing import CLASS_NAMES, Scene, draw_scene
from weakseg_lightning.data.weak_labels import Supervision, seeds_from_boxes
from weakseg_lightning.energies.potts import VOID

__all__ = ["Scenes", "ScenesDataModule"]

_SPLITS = ("train", "val")
_SMALLEST = 32  # below, objects are smaller than their own patterns


@dataclass(frozen=True)
class Scenes(SampleSource):
    """A collection of scenes, each drawn when it is first wanted and then kept in memory.

    A scene depends on its split, its index, ``size`` and ``seed`` alone, on every platform.

    Args:
        split: ``train`` or ``val``; they share no scene.
        count: number of scenes.
        size: height and width in pixels.
        supervision: what the annotator gave, see :class:`ScenesDataModule`.
        scribble_length: part of each stroke that is kept, about its middle; 0 leaves dots.
        seed: names the collection.

    Example:
        >>> scenes = Scenes("val", count=2, size=64)
        >>> scenes[1].id, tuple(scenes[1].image.shape)
        ('val_00001', (3, 64, 64))
    """

    split: Literal["train", "val"]
    count: int
    size: int = 128
    supervision: Supervision = "scribble"
    scribble_length: float = 1.0
    seed: int = 0
    _drawn: dict[int, Sample] = field(default_factory=dict, init=False, repr=False)

    @property
    @override
    def ids(self) -> Sequence[str]:
        return [f"{self.split}_{index:05d}" for index in range(self.count)]

    @override
    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < self.count:
            raise IndexError(f"scene {index} is out of range: there are {self.count}")
        if index not in self._drawn:
            scene = draw_scene(self.seed, index, self.size, _SPLITS.index(self.split))
            self._drawn[index] = self._annotated(f"{self.split}_{index:05d}", scene)
        return self._drawn[index]

    def _annotated(self, name: str, scene: Scene) -> Sample:
        mask = torch.from_numpy(scene.mask)
        return Sample(
            id=name,
            image=torch.from_numpy(np.ascontiguousarray(scene.image.transpose(2, 0, 1))),
            seeds=self._seeds(scene),
            mask=mask,
            tags=present_labels(mask, len(CLASS_NAMES)),
            boxes=torch.from_numpy(frame(scene.mask, scene.instances)) if self.supervision == "box" else None,
        )

    def _seeds(self, scene: Scene) -> Tensor:
        if self.supervision == "full":
            return torch.from_numpy(scene.mask.copy())
        if self.supervision == "scribble":
            return torch.from_numpy(scribble(scene.mask, scene.instances, self.scribble_length))
        if self.supervision == "point":
            return torch.from_numpy(click(scene.mask, scene.instances))
        if self.supervision == "box":
            boxes = torch.from_numpy(frame(scene.mask, scene.instances))
            return seeds_from_boxes(boxes, *scene.mask.shape, mask=torch.from_numpy(scene.mask))
        return torch.full(scene.mask.shape, VOID, dtype=torch.uint8)


class ScenesDataModule(SegmentationDataModule):
    """Scenes of an invented tide pool: stars, fish, jellies, leaves and shells on sand, water, rock and weed.

    Colors overlap between the classes and the ground, so that texture and form have to be learned; light falls
    unevenly, objects hide each other, have thin limbs and hollows. Scribbles run through the middle of the objects,
    where they say nothing about the outline: what a method infers about unlabelled pixels decides its score.

    Args:
        num_train: training scenes.
        num_val: validation scenes.
        size: height and width of the scenes in pixels, 32 at least.
        supervision: labels of the training scenes: the ``full`` masks; a ``scribble`` on each object and one or two on
            the background; a click (``point``) on each object and one on the background; ``box``: a box around each
            object, background outside all boxes; ``tags``: no pixel, only which classes there are.
        scribble_length: part of each scribble that is kept, about its middle, 0..1; 0 leaves dots of 3 x 3 pixels.
        scene_seed: names the collection of scenes; apart from ``seed``, so that runs with other seeds stay comparable.
        batch_size: training images in a batch, on each rank.
        crop_size: side of the training crops in pixels.
        scale_range: training images are resized by a factor drawn from this interval.
        num_workers: processes that load data; each draws and keeps scenes of its own, so that 0 is best for few scenes.
        base: those of :class:`SegmentationDataModule`.

    Example:
        >>> data = ScenesDataModule(num_train=8, num_val=2, size=64, crop_size=64, batch_size=4, num_workers=0)
        >>> next(iter(data.train_dataloader()))["seeds"].shape
        torch.Size([4, 64, 64])
    """

    def __init__(
        self,
        num_train: int = 400,
        num_val: int = 100,
        size: int = 128,
        supervision: Supervision = "scribble",
        scribble_length: float = 1.0,
        scene_seed: int = 0,
        batch_size: int = 8,
        crop_size: int = 96,
        scale_range: tuple[float, float] = (1.0, 1.0),
        num_workers: int = 0,
        **base: Any,
    ) -> None:
        super().__init__(
            batch_size=batch_size, crop_size=crop_size, scale_range=scale_range, num_workers=num_workers, **base
        )
        at_least("num_train", num_train, 1)
        at_least("num_val", num_val, 1)
        at_least("size", size, _SMALLEST)
        one_of("supervision", supervision, get_args(Supervision))
        between("scribble_length", scribble_length, 0, 1)
        at_least("scene_seed", scene_seed, 0)
        self.num_train = num_train
        self.num_val = num_val
        self.size = size
        self.supervision = supervision
        self.scribble_length = scribble_length
        self.scene_seed = scene_seed

    @property
    @override
    def class_names(self) -> list[str]:
        return list(CLASS_NAMES)

    @override
    def train_source(self) -> Scenes:
        """Describe the training scenes; they are drawn when they are first wanted."""
        return self._scenes("train", self.num_train)

    @override
    def val_source(self) -> Scenes:
        """Describe the validation scenes."""
        return self._scenes("val", self.num_val)

    def _scenes(self, split: Literal["train", "val"], count: int) -> Scenes:
        return Scenes(split, count, self.size, self.supervision, self.scribble_length, self.scene_seed)
