"""What a run draws and writes: panels during training, predictions, scores of a test against the trimap's width."""

from weakseg_lightning.callbacks.pictures import PanelWriter, PredictionWriter
from weakseg_lightning.callbacks.trimap import TrimapCurve

__all__ = ["PanelWriter", "PredictionWriter", "TrimapCurve"]
