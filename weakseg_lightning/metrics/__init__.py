"""Metrics of label maps: data-set intersection over union, pixel accuracy, trimaps, energy of the grid Potts model.

The functions are stateless; the classes sum their counts over batches and, under several ranks, over processes.
"""

from weakseg_lightning.metrics.energy import MeanGridEnergy, grid_energy
from weakseg_lightning.metrics.segmentation import SegmentationScores, confusion_matrix, segmentation_scores

__all__ = ["MeanGridEnergy", "SegmentationScores", "confusion_matrix", "grid_energy", "segmentation_scores"]
