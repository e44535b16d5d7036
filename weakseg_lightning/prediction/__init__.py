"""Labelling images of any size with a trained network, in memory or from file to file."""

from weakseg_lightning.data.files import read_image
from weakseg_lightning.prediction.segmenter import Segmenter

__all__ = ["Segmenter", "read_image"]
