"""Photographs of cats and dogs with simulated strokes, as an annotator would draw them one after the other."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from weakseg_lightning.painting.document import ImageAnnotation
from weakseg_lightning.painting.learning.held_out import strokes_of
from weakseg_lightning.painting.learning.learner import Learner
from weakseg_lightning.painting.learning.messages import LearningSettings, reduced_seeds

CLASSES = {0: 0, 8: 1, 12: 2}  # of VOC: background, cat, dog
NAMES = ["2010_002573", "2007_007585", "2011_001855", "2009_004705", "2007_008403", "2011_001369"]


@dataclass
class Photographs:
    """A few images of PASCAL VOC, and the weights of an encoder."""

    shared: Path

    @property
    def images(self) -> dict[str, Path]:
        return {name: self.shared / f"data/VOCdevkit/VOC2012/JPEGImages/{name}.jpg" for name in NAMES}

    @property
    def settings(self) -> LearningSettings:
        return LearningSettings(encoder_weights=str(self.shared / "weights/tf_efficientnet_lite0.in1k.safetensors"))

    def annotation(self, name: str) -> ImageAnnotation:
        path = self.shared / f"data/VOCdevkit/VOC2012/pascal_2012_scribble/{name}.png"
        stored = np.array(Image.open(path))
        labels = np.full_like(stored, 255)
        for theirs, ours in CLASSES.items():
            labels[stored == theirs] = ours
        return ImageAnnotation(labels)

    def stroke_by_stroke(self, name: str) -> list[ImageAnnotation]:
        labels = self.annotation(name).labels
        strokes = strokes_of(labels)
        return [ImageAnnotation(np.where(strokes <= last, labels, 255)) for last in range(strokes.max() + 1)]

    def learner(self, **options: object) -> Learner:
        return Learner(LearningSettings(**{**vars(self.settings), **options}), self.images, len(CLASSES))


def draw(learner: Learner, name: str, annotation: ImageAnnotation, version: int = 0) -> None:
    """Annotate an image, and learn a little."""
    learner.annotate(reduced_seeds(name, version, annotation))
    learner.take(name)
    learner.adapt()


def settle(learner: Learner) -> None:
    while learner.settle():
        pass
