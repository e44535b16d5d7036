"""Scores by a trained network in place of the head."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from weakseg_lightning.painting.image_reader import read_scaled
from weakseg_lightning.painting.learning.messages import reduced_size

__all__ = ["TrainedNetwork"]

_LONGEST_SIDE = 1024
_TINY = 1e-6


class TrainedNetwork:
    """A network from a checkpoint, on images of its own scale, a longest side of 1,024 pixels at most.

    Args:
        checkpoint: one that ``weakseg fit`` wrote.
        num_classes: classes K that it must have.

    Raises:
        FileNotFoundError: if there is no such checkpoint.
        ValueError: if it is no checkpoint of this package, or has other classes.
    """

    def __init__(self, checkpoint: Path, num_classes: int) -> None:
        from weakseg_lightning.prediction.loading import load_module  # takes seconds, and most pages never need it
        from weakseg_lightning.prediction.scoring import Scorer

        module = load_module(checkpoint)
        if module.num_classes != num_classes:
            raise ValueError(
                f"{checkpoint} has {module.num_classes} classes, this folder {num_classes}: train a network on it"
            )
        # Images are resized here, in one go with the reduction of those that are too large.
        self._scale, module.net.input_scale = module.net.input_scale, 1.0
        self._score = Scorer(module)

    @torch.inference_mode()
    def scores(self, path: Path) -> NDArray[np.float16]:
        """Score an image: log-probabilities, float16 ``(K, h, w)``, the longest side 384 at most.

        Raises:
            BadSampleError: if the image cannot be read.
        """
        channels = self._score.module.channels
        image = read_scaled(path, channels)
        height, width = image.shape[1:]
        scale = min(self._scale, _LONGEST_SIDE / max(height, width))
        size = max(round(height * scale), 1), max(round(width * scale), 1)
        small = F.interpolate(image[None].float(), size=size, mode="bilinear", antialias=True)
        probabilities = self._score(small[0].round().byte() if channels is None else small[0])[None]
        grid = F.interpolate(probabilities, size=reduced_size(*size), mode="bilinear", antialias=True)[0]
        return grid.clamp_min(_TINY).log().half().numpy()
