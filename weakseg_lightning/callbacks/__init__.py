"""What a run draws and writes: panels and gradients during training, predictions, scores of a test."""

from weakseg_lightning.callbacks.gradients import GradientPanels
from weakseg_lightning.callbacks.imagelets import ImageletPanels
from weakseg_lightning.callbacks.pictures import PanelWriter, PredictionWriter
from weakseg_lightning.callbacks.trimap import TrimapCurve

__all__ = ["GradientPanels", "ImageletPanels", "PanelWriter", "PredictionWriter", "TrimapCurve"]
