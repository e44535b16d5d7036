from .base import SegmentationDataModule
from .batches import decode_batch
from .dataset import SegmentationDataset, collate
from .folder.datamodule import FolderDataModule
from .imagenet.datamodule import ImageNetDogDataModule
from .maps.datamodule import MapDataModule
from .samples import BadSampleError, CaseSlice, Sample, SampleSource
from .scenes.datamodule import ScenesDataModule
from .voc.datamodule import VOC_CLASSES, VOCDataModule

__all__ = [
    "VOC_CLASSES",
    "BadSampleError",
    "CaseSlice",
    "FolderDataModule",
    "ImageNetDogDataModule",
    "MapDataModule",
    "Sample",
    "SampleSource",
    "ScenesDataModule",
    "SegmentationDataModule",
    "SegmentationDataset",
    "VOCDataModule",
    "collate",
    "decode_batch",
]
