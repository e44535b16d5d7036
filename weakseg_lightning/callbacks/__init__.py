"""Callbacks of a run: the pictures, predictions and scores of a test that it writes, and the speed of its network."""

from weakseg_lightning.callbacks.averaging import AveragedWeights
from weakseg_lightning.callbacks.cases import CaseWriter
from weakseg_lightning.callbacks.gradients import GradientPanels
from weakseg_lightning.callbacks.imagelets import ImageletPanels
from weakseg_lightning.callbacks.pictures import PanelWriter, PredictionWriter
from weakseg_lightning.callbacks.speed import NetworkSpeed
from weakseg_lightning.callbacks.trimap import TrimapCurve

__all__ = [
    "AveragedWeights",
    "CaseWriter",
    "GradientPanels",
    "ImageletPanels",
    "NetworkSpeed",
    "PanelWriter",
    "PredictionWriter",
    "TrimapCurve",
]
