"""The data module that all data sets share: loaders, samplers, checks."""

import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from multiprocessing import get_all_start_methods
from typing import Any, Literal, get_args

import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.overrides.distributed import UnrepeatedDistributedSampler
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.transforms import v2
from typing_extensions import override

from weakseg_lightning.channels import Channels
from weakseg_lightning.checks import at_least, between, one_of
from weakseg_lightning.data.batches import BatchTransfer, HostCopy, decode_batch
from weakseg_lightning.data.dataset import BatchHook, OnBadSample, SegmentationDataset, TagsFrom, collate
from weakseg_lightning.data.problems import checked
from weakseg_lightning.data.samples import BadSampleError, FullyLabelled, Sample, SampleSource
from weakseg_lightning.data.sampling import EpochLoader, EpochSampler
from weakseg_lightning.data.transforms import replay, training_transform
from weakseg_lightning.devices import count_aside, works_aside
from weakseg_lightning.errors import UserError
from weakseg_lightning.visualization.panels import Colors, voc_palette

__all__ = ["BadSampleError", "Sample", "SampleSource", "SegmentationDataModule", "SegmentationDataset"]

_SPLITS_OF = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",), "predict": ("predict",)}


class SegmentationDataModule(LightningDataModule, ABC):
    """Weakly labeled images: augmented crops for training, whole images for evaluation.

    A data set writes :attr:`class_names`, :meth:`train_source` and :meth:`val_source`; files are looked for in these
    methods, which run before training starts. Batches are dicts: loaders make them of bytes, see
    :func:`weakseg_lightning.data.collate`, and under a Trainer they become on the device what modules, callbacks and
    the hook ``on_after_batch_transfer`` see, with images in 0..1, see :func:`weakseg_lightning.data.decode_batch`.
    Those of evaluation hold one image each, at its original size. Order and augmentation depend on (seed, epoch, index)
    alone, not on the number of workers, and a resumed run goes on as the undisturbed one. In evaluation every image
    comes exactly once, whatever the number of ranks.

    Incomplete training batches are dropped. Fewer images than one batch holds make a smaller one, a single image fills
    it by its crops.

    Args:
        batch_size: training images in a batch, on each rank.
        crop_size: side of the training crops in pixels.
        scale_range: training images are resized by a factor drawn from this interval.
        flip: mirror half of the training images.
        color_jitter: strength of the change of colors in training, 0 (none) to 1; of channels, red, green and blue.
        rotation: training crops are rotated by an angle drawn from -rotation to rotation, in degrees, up to 180. Beyond
            the image labels are void and colors the mean; boxes become the upright ones around the rotated ones, of
            which the object fills less.
        noise: greatest standard deviation of the Gaussian noise of training images, 1 being the range of a color.
        balanced_crops: fraction of the training crops, 0..1, that are centered at a labeled pixel of a class drawn
            among those labeled in the image, each alike, as far as its border allows. The others lie anywhere, as do
            those of images without labeled pixels. Of masks all pixels are labeled, of boxes the background alone.
        num_workers: processes that load data, at most one for each CPU core (shared between the ranks of a machine);
            0 loads in the training process. Where an object store is in use they are not forked, and start slowly.
        seed: seed of shuffling and augmentation; None takes that of ``seed_everything``, or 0.
        on_bad_sample: what to do with files that cannot be used: ``"error"`` stops with a message, ``"skip"`` warns
            and goes on without them. Files are looked for, and their sizes compared, before training starts; contents
            are checked when read (for evaluation with ``"skip"``: before, so that what is evaluated stays fixed).
        tags_from: whether tags and sizes are those of the whole ``image``, or of the training ``crop`` (from its mask).
        size_thresholds: fractions of the image that divide the sizes of classes into buckets, ascending.
        full_fraction: fraction of the training images that show their full mask besides: semi-supervised training.
    """

    batch_hook: BatchHook | None = None
    """Adds to the training batches, in the workers that load them, of epochs that begin while it is ``enabled``."""

    lookahead: bool = False
    """True to have each training batch hold the next of the epoch, as ``next_batch``; set it before training."""

    images_to_predict: str = ""
    """IMAGES of the command that labels the images of the data; `weakseg predict` needs none of most."""

    _rgb: tuple[int, int, int] | None = None  # numbers of red, green and blue among other channels

    def __init__(
        self,
        batch_size: int = 12,
        crop_size: int = 321,
        scale_range: tuple[float, float] = (0.5, 2.0),
        flip: bool = True,
        color_jitter: float = 0.0,
        rotation: float = 0.0,
        noise: float = 0.0,
        balanced_crops: float = 0.0,
        num_workers: int = 4,
        seed: int | None = None,
        on_bad_sample: OnBadSample = "error",
        tags_from: TagsFrom = "image",
        size_thresholds: Sequence[float] = (0.1,),
        full_fraction: float = 0.0,
    ) -> None:
        super().__init__()
        at_least("batch_size", batch_size, 1)
        at_least("num_workers", num_workers, 0)
        between("full_fraction", full_fraction, 0, 1)
        one_of("on_bad_sample", on_bad_sample, get_args(OnBadSample))
        one_of("tags_from", tags_from, get_args(TagsFrom))
        if list(size_thresholds) != sorted(set(size_thresholds)) or not all(0 < bound < 1 for bound in size_thresholds):
            raise UserError(f"`size_thresholds` must ascend between 0 and 1, got {list(size_thresholds)}")
        self.batch_size = batch_size
        self.crop_size = crop_size
        self.scale_range = scale_range
        self.flip = flip
        self.color_jitter = color_jitter
        self.rotation = rotation
        self.noise = noise
        self.balanced_crops = balanced_crops
        self._training_transform()  # checks these before files are touched
        self.num_workers = num_workers
        self.seed = seed
        self.on_bad_sample = on_bad_sample
        self.tags_from = tags_from
        self.size_thresholds = size_thresholds
        self.full_fraction = full_fraction
        self._sources: dict[str, SampleSource] = {}
        self._batch_transfer = BatchTransfer()

    # ---- what a data set writes -----------------------------------------------------------------------------

    @property
    @abstractmethod
    def class_names(self) -> list[str]:
        """Names of the K classes, background first; known without any file."""

    @abstractmethod
    def train_source(self) -> SampleSource:
        """Find the training images.

        Raises:
            FileNotFoundError: if they are not there; says what is missing, where it was looked for, the ways out.
        """

    @abstractmethod
    def val_source(self) -> SampleSource:
        """Find the validation images."""

    def test_source(self) -> SampleSource:
        """Find the test images; those of validation by default."""
        return self.val_source()

    def predict_source(self) -> SampleSource:
        """Find the images to predict; those of the test by default."""
        return self.test_source()

    # ---- what modules and callbacks read --------------------------------------------------------------------

    @property
    def num_classes(self) -> int:
        """Classes K, background included."""
        return len(self.class_names)

    @property
    def palette(self) -> Colors:
        """Colors of the classes, uint8 ``(K, 3)``."""
        return voc_palette(self.num_classes)

    @property
    def has_validation(self) -> bool:
        """True if there are validation images; without, the last checkpoint is kept in place of the best one."""
        return True

    @property
    def has_cases(self) -> bool:
        """True if validation images are slices of cases, which are scored: known before training starts."""
        return False

    @property
    def has_guides(self) -> bool:
        """True if the training images bring maps of regions or boundaries, see :class:`weakseg_lightning.GridPotts`."""
        return False

    @property
    def has_channels(self) -> bool:
        """True if images are of named channels, and not RGB of 8 bits."""
        return False

    @property
    def channels(self) -> Channels | None:
        """The channels of the images with their statistics over the training images; None for RGB of 8 bits."""
        return None

    # ---- Lightning ------------------------------------------------------------------------------------------

    @override
    def setup(self, stage: str) -> None:
        """Find the files of a stage and check them."""
        for split in _SPLITS_OF[stage]:
            self._source(split)

    @override
    def train_dataloader(self) -> DataLoader[Any]:
        """Load shuffled, augmented crops."""
        data = self._dataset("train", transform=self._training_transform(), tags_from=self.tags_from)
        sampler = self._sampler(data, self._references(data))
        drop_last = len(sampler) >= self.batch_size
        loading = self._loading() | {"collate_fn": partial(collate, batch_hook=self.batch_hook)}
        loader = EpochLoader(data, batch_size=self.batch_size, sampler=sampler, drop_last=drop_last, **loading)
        loader.batches_trained, loader.lookahead = self._batches_trained, self.lookahead
        return loader

    @override
    def val_dataloader(self) -> DataLoader[Any]:
        """Load whole images, one by one."""
        return self._evaluation_loader("val")

    @override
    def test_dataloader(self) -> DataLoader[Any]:
        """Load whole images, one by one."""
        return self._evaluation_loader("test")

    @override
    def predict_dataloader(self) -> DataLoader[Any]:
        """Load whole images, one by one."""
        return self._evaluation_loader("predict")

    @override
    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Move a batch, then decode it; each is moved once, also where it was the next of another."""
        transfer = super().transfer_batch_to_device

        # Not in `on_after_batch_transfer`: that of a module, which augments on the device say, would be left out.
        def move(alone: dict[str, Any]) -> dict[str, Any]:
            decoded = decode_batch(transfer(alone, device, dataloader_idx))
            if works_aside(device) and not torch.is_inference_mode_enabled():
                # Solvers ask on the CPU which labels an image may have; hooks may put other sets into the batch.
                sets = [name for name in ("tags", "seed_labels") if name in alone]
                decoded |= {"on_host": {name: HostCopy(decoded[name], alone[name]) for name in sets}}
            # Lightning gave the batch its precision before, while the images were bytes.
            return decoded if self.trainer is None else self.trainer.precision_plugin.convert_input(decoded)

        ours = isinstance(batch, dict) and "image" in batch
        return self._batch_transfer(batch, move) if ours else transfer(batch, device, dataloader_idx)

    @override
    def teardown(self, stage: str) -> None:
        """Keep no batch beyond the run."""
        self._batch_transfer.forget()

    def whole_images(self, split: Literal["train", "val"]) -> SegmentationDataset:
        """The images of a split as evaluation sees them, whole and without augmentation."""
        return self._dataset(split)

    def facts_of_training(self) -> Iterator[dict[str, Any]]:
        """Read the facts about each training image, see :meth:`SegmentationDataset.facts`."""
        data = self._dataset("train")
        with ThreadPoolExecutor(_available_cores()) as pool:  # decoding releases the GIL
            yield from pool.map(data.facts, range(len(data)))

    def replay(self, labels: Tensor, draw: int, seeds: Tensor) -> Tensor:
        """Augment a labeling of a training image, uint8 ``(h, w)``, as its image was: see :func:`replay`."""
        return replay(self._training_transform(), labels, draw, seeds)

    # ---- inside ---------------------------------------------------------------------------------------------

    def _training_transform(self) -> v2.Transform:
        colors = {"color_jitter": self.color_jitter, "noise": self.noise}
        places = {"rotation": self.rotation, "balanced_crops": self.balanced_crops}
        return training_transform(self.crop_size, self.scale_range, self.flip, **colors, **places, rgb=self._rgb)

    def _sampler(self, data: SegmentationDataset, extras: Callable[[int], tuple[Any, ...]] | None) -> EpochSampler:
        """Choose the order of the training images."""
        rank, world = self._rank()
        # Batch norm cannot train on one crop: where a rank has a single image, its crops fill the batch.
        repeats = self.batch_size if len(data) < 2 * world else 1
        return EpochSampler(data, world, rank, seed=data.seed, drop_last=True, extras=extras, repeats=repeats)

    def _references(self, data: SegmentationDataset) -> Callable[[int], tuple[Any, ...]] | None:
        """Hand the batch hook's reference for an image to the worker with every index."""
        batch_hook, ids = self.batch_hook, list(data.source.ids)
        if batch_hook is None:
            return None
        return lambda index: (batch_hook.reference(ids[index]),) if batch_hook.enabled else ()

    def _batches_trained(self) -> int:
        """Batches of the current epoch that the trainer has trained with; 0 where the epoch is complete."""
        if self.trainer is None:
            return 0
        done: int = self.trainer.fit_loop.epoch_loop.batch_progress.current.processed  # type: ignore[attr-defined]
        return done if done < self.trainer.num_training_batches else 0

    def _evaluation_loader(self, split: str) -> DataLoader[Any]:
        data = self._dataset(split)
        rank, world = self._rank()
        if len(data) < world:
            raise UserError(f"{len(data)} images cannot be shared out to {world} ranks: use fewer `trainer.devices`")
        shared = UnrepeatedDistributedSampler(data, num_replicas=world, rank=rank, shuffle=False) if world > 1 else None
        return DataLoader(data, batch_size=1, sampler=shared, **self._loading())

    def _dataset(self, split: str, **kwargs: Any) -> SegmentationDataset:
        kwargs |= {"on_bad_sample": self.on_bad_sample, "size_thresholds": self.size_thresholds}
        return SegmentationDataset(self._source(split), self.num_classes, seed=self._seed(), **kwargs)

    def _seed(self) -> int:
        return int(os.environ.get("PL_GLOBAL_SEED", 0)) if self.seed is None else self.seed

    def _source(self, split: str) -> SampleSource:
        """Find and check the samples of a split, once."""
        if split not in self._sources:
            source: SampleSource = getattr(self, f"{split}_source")()
            source = checked(source, split, self.num_classes, self.on_bad_sample)
            partly_full = split == "train" and self.full_fraction > 0
            self._sources[split] = FullyLabelled(source, self.full_fraction, self._seed()) if partly_full else source
        return self._sources[split]

    def _rank(self) -> tuple[int, int]:
        if self.trainer is not None:
            return self.trainer.global_rank, self.trainer.world_size
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            return torch.distributed.get_rank(), torch.distributed.get_world_size()
        return 0, 1

    def _loading(self) -> dict[str, Any]:
        """Arguments of all loaders; by name only, or Lightning cannot rebuild a loader for prediction."""
        workers = min(self.num_workers, max(1, _available_cores() // self._ranks_here()))
        return {
            "num_workers": workers,
            "multiprocessing_context": _start_method() if workers else None,
            "persistent_workers": workers > 0,
            "pin_memory": count_aside() > 0,
            "collate_fn": collate,
            "generator": torch.Generator(),  # of its own, or starting workers would advance the global one
        }

    def _ranks_here(self) -> int:
        return self.trainer.num_devices if self.trainer is not None else 1


def _start_method() -> str | None:
    """Name how workers start: as the platform has it, or forked from a server without threads."""
    fsspec = sys.modules.get("fsspec.asyn")
    # Forked beside the thread of an object store's client, a worker may wait for ever for a lock that the thread held.
    threaded = fsspec is not None and fsspec.iothread[0] is not None
    return "forkserver" if threaded and "forkserver" in get_all_start_methods() else None


def _available_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
