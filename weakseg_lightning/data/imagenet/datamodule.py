"""Dogs and no dogs: the data of the decomposition report, made of ImageNet, or of any two folders of images."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor
from torch.nn import functional as F
from typing_extensions import override

from weakseg_lightning.checks import above, at_least, at_least_and_below, one_of
from weakseg_lightning.data.base import SegmentationDataModule
from weakseg_lightning.data.dataset import SegmentationDataset
from weakseg_lightning.data.imagenet.index import FolderIndex, find_imagenet
from weakseg_lightning.data.images.reading import read_image
from weakseg_lightning.data.samples import Sample, SampleSource, SampleView, every
from weakseg_lightning.data.sampling import BalancedSampler, EpochSampler, derive_seed
from weakseg_lightning.data.voc.datamodule import VOC_CLASSES, VOCSource
from weakseg_lightning.data.voc.files import VOCFiles
from weakseg_lightning.data.voc.seeds import MaskSeeds
from weakseg_lightning.energies.potts import VOID
from weakseg_lightning.errors import MissingFileError, UserError

__all__ = ["ImageNetDogDataModule", "TaggedImages"]

Entry = tuple[str, Path, bool]
"""Name of an image, its file, and whether it shows the class."""


@dataclass(frozen=True)
class TaggedImages(SampleSource):
    """Images of which is known whether they show the one class there is, cut to squares of one size.

    Args:
        entries: name, file and tag of each image.
        size: the shorter side is resized to so many pixels, and the middle of the longer one is taken.
    """

    entries: Sequence[Entry]
    size: int

    @property
    @override
    def ids(self) -> Sequence[str]:
        return [name for name, _, _ in self.entries]

    @property
    def positive(self) -> list[bool]:
        """For each image, if it shows the class."""
        return [positive for _, _, positive in self.entries]

    @override
    def __getitem__(self, index: int) -> Sample:
        return replace(self.labels(index), image=square(read_image(self.entries[index][1]), self.size))

    @override
    def labels(self, index: int) -> Sample:
        name, _, positive = self.entries[index]
        image = torch.empty(3, self.size, self.size, dtype=torch.uint8, device="meta")
        nothing = torch.full((self.size, self.size), VOID, dtype=torch.uint8)
        return Sample(name, image, nothing, None, torch.tensor([True, positive]))

    @override
    def origin(self, index: int, what: Literal["image", "seeds", "mask"]) -> str:
        return str(self.entries[index][1])

    @override
    def find_problems(self) -> dict[int, str]:
        missing = (index for index, (_, path, _) in enumerate(self.entries) if not path.is_file())
        return {index: f"{self.entries[index][1]} is missing: list the folders again" for index in missing}


def square(image: Tensor, size: int) -> Tensor:
    """Resize the shorter side to ``size`` and take the middle of the longer one: uint8 ``(3, size, size)``."""
    height, width = image.shape[-2:]
    scale = size / min(height, width)
    target = (max(size, round(height * scale)), max(size, round(width * scale)))
    resized = F.interpolate(image[None].float(), size=target, mode="bilinear", antialias=True)[0]
    top, left = (target[0] - size) // 2, (target[1] - size) // 2
    return resized[:, top : top + size, left : left + size].round().clamp(0, 255).to(torch.uint8)


class MaskedImages(SampleView):
    """Images of VOC with masks of one of its classes: 1 where it is, 0 where it is not, 255 where VOC says void.

    Args:
        source: the images of VOC.
        label: index of the class in VOC.
    """

    def __init__(self, source: VOCSource, label: int) -> None:
        super().__init__(every(source))
        self.label = label

    @override
    def show(self, index: int, sample: Sample) -> Sample:
        mask = sample.mask
        if mask is not None:
            mask = torch.where(mask == VOID, VOID, (mask == self.label).to(torch.uint8))
        tags = torch.stack([torch.tensor(True), sample.tags[self.label]])
        return replace(sample, seeds=torch.full_like(sample.seeds, VOID), mask=mask, tags=tags)


class ImageNetDogDataModule(SegmentationDataModule):
    """Images with a dog and images without: two classes, ``background`` and ``dog``, known by their tags alone.

    Dogs are drawn from the 118 classes of ImageNet-1k that are dogs, the others from all its other classes; or
    positives and negatives come from folders of your own (or both). Of each kind, ``num_positive`` and ``num_negative``
    are drawn and divided into training and validation by ``split_seed`` and the images' names alone, in whatever order
    the files lie. Training batches hold as many images of either kind.

    The validation images have no masks, but those without a dog show false positives. With ``masks_root`` the images of
    VOC's validation list come first, with dogs' masks, so that there is an IoU.

    Args:
        root: folder of ImageNet-1k, which holds a folder for each wnid or has them in ``train``; null = none.
        positive: folders of more images that show the class.
        negative: folders of more images that do not.
        class_name: name of the class.
        num_positive: images of the class that are used; null = all there are.
        num_negative: images without it that are used; null = all there are.
        val_fraction: fraction of the images of either kind that are for validation, 0..1.
        split_seed: draws the images and divides them; apart from ``seed``, so that other runs have the same images.
        index: file that remembers the lists of the folders; null = in the user's cache.
        masks_root: folder that holds ``VOCdevkit/VOC2012``, whose validation images have masks; null = none.
        masks_split: list in ``ImageSets/Segmentation`` of these images.
        masks_class: the class of VOC that they show.
        supervision: ``tags``, the only one there is.
        size: images are resized and cut to squares of so many pixels.
        batch_size: training images in a batch, on each rank; even, half of them positive.
        crop_size: side of the training crops in pixels; that of the images by default.
        scale_range: training images are resized by a factor drawn from this interval.
        flip: mirror half of the training images.
        base: the others of :class:`SegmentationDataModule` that mean something without masks.

    References:
        Zeng: Weak Segmentation by Reconstruction from Structured Decomposition, project report, 2024, section 4.1.
    """

    def __init__(
        self,
        root: str | Path | None = "datasets/imagenet",
        positive: list[str] | None = None,
        negative: list[str] | None = None,
        class_name: str = "dog",
        num_positive: int | None = 10_000,
        num_negative: int | None = 10_000,
        val_fraction: float = 0.2,
        split_seed: int = 0,
        index: str | Path | None = None,
        masks_root: str | Path | None = None,
        masks_split: str = "val",
        masks_class: str = "dog",
        supervision: Literal["tags"] = "tags",
        size: int = 224,
        batch_size: int = 8,
        crop_size: int | None = None,
        scale_range: tuple[float, float] = (1.0, 1.0),
        flip: bool = False,
        **base: Any,
    ) -> None:
        super().__init__(
            batch_size=batch_size,
            crop_size=size if crop_size is None else crop_size,
            scale_range=scale_range,
            flip=flip,
            tags_from="image",
            size_thresholds=(0.1,),
            full_fraction=0.0,
            **base,
        )
        if batch_size % 2:
            raise UserError(f"`batch_size` must be even, half of it positive, got {batch_size}")
        above("val_fraction", val_fraction, 0)
        at_least_and_below("val_fraction", val_fraction, 0, 1)
        at_least("size", size, 1)
        one_of("supervision", supervision, ("tags",))
        one_of("masks_class", masks_class, VOC_CLASSES[1:])
        self.root = root
        self.positive = positive
        self.negative = negative
        self.class_name = class_name
        self.num_positive = num_positive
        self.num_negative = num_negative
        self.val_fraction = val_fraction
        self.split_seed = split_seed
        self.index = index
        self.masks_root = masks_root
        self.masks_split = masks_split
        self.masks_class = masks_class
        self.supervision = supervision
        self.size = size
        self._split: dict[str, list[Entry]] = {}

    @property
    @override
    def class_names(self) -> list[str]:
        """``background`` and the class."""
        return ["background", self.class_name]

    @override
    def train_source(self) -> TaggedImages:
        """Find the training images."""
        entries = self._entries("train")
        positive = sum(tag for _, _, tag in entries)
        rank_zero_info(
            f"{len(entries)} training images: {positive} with {self.class_name}, {len(entries) - positive} without"
        )
        return TaggedImages(entries, self.size)

    @override
    def val_source(self) -> SampleSource:
        """Find the validation images, those with masks first."""
        tagged = TaggedImages(self._entries("val"), self.size)
        return tagged if self.masks_root is None else SampleView(every(self._masked(), tagged))

    def _masked(self) -> MaskedImages:
        files = VOCFiles(Path(self.masks_root or "").expanduser().absolute())
        if missing := files.missing(self.masks_split):
            raise MissingFileError(
                f"`masks_root`: PASCAL VOC 2012 is not complete in {files.root}: {'; '.join(missing)}"
            )
        label = VOC_CLASSES.index(self.masks_class)
        return MaskedImages(VOCSource(files, files.names(self.masks_split), MaskSeeds("tags")), label)

    @override
    def _sampler(self, data: SegmentationDataset, extras: Callable[[int], tuple[Any, ...]] | None) -> EpochSampler:
        rank, world = self._rank()
        source = data.source
        positive = [bool(source.labels(index).tags[1]) for index in range(len(source))]
        return BalancedSampler(positive, world, rank, seed=data.seed, extras=extras)

    # ---- which images ---------------------------------------------------------------------------------------

    def _entries(self, split: str) -> list[Entry]:
        if not self._split:
            positive, negative = self._drawn()
            self._split = {"train": positive[0] + negative[0], "val": positive[1] + negative[1]}
        return self._split[split]

    def _drawn(self) -> list[tuple[list[Entry], list[Entry]]]:
        """Images for training and for validation, of either kind."""
        dogs, others = ([], []) if self.root is None else find_imagenet(self.root)
        kinds = (
            ("positive", dogs, self.positive, self.num_positive, True),
            ("negative", others, self.negative, self.num_negative, False),
        )
        found = []
        for name, folders, more, wanted, tag in kinds:
            places = [*folders, *(Path(folder).expanduser().absolute() for folder in more or ())]
            if not places:
                raise UserError(f"`{name}` must name folders of images where there is no `root`")
            found.append(
                self._divided(FolderIndex(self.index and _beside(self.index, name)).list(places), name, wanted, tag)
            )
        return found

    def _divided(
        self, paths: Sequence[Path], kind: str, wanted: int | None, positive: bool
    ) -> tuple[list[Entry], list[Entry]]:
        """Draw the images of a kind and divide them, by their names and the seed alone."""
        if len(paths) < max(2, wanted or 0):
            raise UserError(
                f"`num_{kind}`: {len(paths)} {kind} images were found, {max(2, wanted or 0)} are wanted: set it to "
                "null to use all, or give more folders"
            )
        entries = [(f"{path.parent.name}/{path.stem}", path, positive) for path in paths]
        shuffled = sorted(entries, key=lambda entry: (derive_seed(self.split_seed, *entry[0].encode()), entry[0]))
        drawn = shuffled[:wanted]
        held_out = min(len(drawn) - 1, max(1, round(self.val_fraction * len(drawn))))
        return sorted(drawn[held_out:]), sorted(drawn[:held_out])


def _beside(index: str | Path, kind: str) -> Path:
    path = Path(index)
    return path.with_name(f"{path.stem}-{kind}{path.suffix or '.json'}")
