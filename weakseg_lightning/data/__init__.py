"""Data modules: images with weak labels, in batches.

To train on your own data, subclass :class:`SegmentationDataModule` and hand it two :class:`SampleSource` objects.
"""

from weakseg_lightning.data.base import SegmentationDataModule
from weakseg_lightning.data.batches import decode_batch
from weakseg_lightning.data.dataset import SegmentationDataset, collate
from weakseg_lightning.data.folder.datamodule import FolderDataModule
from weakseg_lightning.data.imagenet.datamodule import ImageNetDogDataModule
from weakseg_lightning.data.samples import BadSampleError, Sample, SampleSource
from weakseg_lightning.data.scenes.datamodule import ScenesDataModule
from weakseg_lightning.data.voc.datamodule import VOC_CLASSES, VOCDataModule

__all__ = [
    "VOC_CLASSES",
    "BadSampleError",
    "FolderDataModule",
    "ImageNetDogDataModule",
    "Sample",
    "SampleSource",
    "ScenesDataModule",
    "SegmentationDataModule",
    "SegmentationDataset",
    "VOCDataModule",
    "collate",
    "decode_batch",
]
