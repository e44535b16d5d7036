"""Metrics of label maps: data-set intersection over union, pixel accuracy, cases, trimaps, tags, grid Potts energy.

The functions are stateless; the classes sum their counts over batches and, under several ranks, over processes.
"""

from weakseg_lightning.metrics.cases import CaseScore, CaseScores, mean_over_cases, volume_scores
from weakseg_lightning.metrics.energy import MeanGridEnergy, grid_energy
from weakseg_lightning.metrics.segmentation import SegmentationScores, confusion_matrix, segmentation_scores
from weakseg_lightning.metrics.tags import TagScores
from weakseg_lightning.metrics.trimap import Definition, TrimapScores, trimap_confusion, trimap_distance

__all__ = [
    "CaseScore",
    "CaseScores",
    "Definition",
    "MeanGridEnergy",
    "SegmentationScores",
    "TagScores",
    "TrimapScores",
    "confusion_matrix",
    "grid_energy",
    "mean_over_cases",
    "segmentation_scores",
    "trimap_confusion",
    "trimap_distance",
    "volume_scores",
]
