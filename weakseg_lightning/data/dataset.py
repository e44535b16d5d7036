"""Samples, where they come from, and the data set that turns them into batches."""

import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F
from typing_extensions import override

from weakseg_lightning.data.samples import (
    BadSampleError,
    Sample,
    SampleSource,
    buckets_of_fractions,
    present_labels,
    size_buckets,
)
from weakseg_lightning.data.sampling import derive_seed
from weakseg_lightning.data.transforms import replay, seeded
from weakseg_lightning.energies.potts import VOID

__all__ = ["BatchHook", "Loaded", "OnBadSample", "SegmentationDataset", "TagsFrom", "collate"]

Index = int | tuple[int, int] | tuple[int, int, Any]
"""The key of an item of a data set: its index; epoch and index; or these and the reference of a batch hook."""

OnBadSample = Literal["error", "skip"]
TagsFrom = Literal["image", "crop"]

# A data set with so many bad samples in a row is broken as a whole.
_MAX_SUBSTITUTES = 20


@dataclass(frozen=True)
class Loaded:
    """A training image as it was read, with what moves more of it along.

    Attributes:
        reference: what :meth:`BatchHook.reference` made for it; None where another image stands in for a bad one.
        image: RGB, uint8 ``(3, h, w)``, before augmentation; or C channels, float32 ``(C, h, w)``.
        seeds: its labelled pixels, uint8 ``(h, w)``.
        tags: classes of the whole image, bool ``(K,)``.
        draw: what :meth:`SegmentationDataModule.replay` takes.
        transform: the augmentation.
        guide: its map of regions or boundaries, int32 ``(1, h, w)``; None without one.
        colors: the channels that pairwise terms see, int64 ``(3,)``; None for RGB.
        valid: its pixels that have data, bool ``(h, w)``; None where all have.
        boxes: its boxes, float32 ``(n, 5)``; None where supervision is not by boxes.
    """

    reference: Any
    image: Tensor
    seeds: Tensor
    tags: Tensor
    draw: int
    transform: v2.Transform | None
    guide: Tensor | None = None
    colors: Tensor | None = None
    valid: Tensor | None = None
    boxes: Tensor | None = None

    def move(self, labels: Tensor) -> Tensor:
        """Augment a labeling, uint8 ``(h, w)``, as the image was."""
        return labels if self.transform is None else replay(self.transform, labels, self.draw, self.seeds)

    def checksum(self) -> int:
        """Compute the CRC-32 of image and annotation: all that a labeling depends on besides solver and network."""
        total = 0
        for tensor in (self.image, self.seeds, self.tags, self.guide, self.colors, self.valid, self.boxes):
            total = zlib.crc32(b"" if tensor is None else f"{tensor.dtype} {tuple(tensor.shape)}".encode(), total)
            if tensor is not None:
                total = zlib.crc32(tensor.contiguous().numpy().data, total)
        return total


class BatchHook(Protocol):
    """An addition to the training batches of a module, made by the workers that load them.

    Such as the labelings of a :class:`weakseg_lightning.LatentStore`. It travels to the workers when training
    starts; what it knows later reaches them by references alone.
    """

    enabled: bool
    """True where the batches of the next epoch are to hold what is attached."""

    def reference(self, image_id: str) -> Any:
        """Make what the worker is to know about an image; runs in the training process, shortly before it is read."""

    def attach(self, batch: dict[str, Any], loaded: Sequence[Loaded]) -> dict[str, Any]:
        """Make new entries for a batch that is otherwise complete; runs in a worker, or in the training process.

        The batch is as :func:`collate` makes it, its images uint8.
        """


class SegmentationDataset(Dataset[dict[str, Any]]):
    """Reads, checks and augments samples.

    An item is asked for by its index or by (epoch, index); what comes back depends on these and on ``seed`` alone.
    Items are dicts of uint8 tensors, see :func:`collate` for the batch. One asked for by (epoch, index, reference)
    holds what it was made from besides, as a :class:`Loaded`, for the hook that the reference is of.

    Args:
        source: where samples come from.
        num_classes: classes K, background included.
        transform: joint augmentation of ``tv_tensors``; None leaves whole images at their size.
        seed: seed of the augmentation.
        on_bad_sample: ``"error"`` raises; ``"skip"`` warns once for each bad sample and takes another in its place.
        size_thresholds: fractions of the image that part the sizes of classes into buckets, see :func:`size_buckets`.
        tags_from: whether tags and sizes are those of the whole ``image`` or of its ``crop``.
    """

    def __init__(
        self,
        source: SampleSource,
        num_classes: int,
        transform: v2.Transform | None = None,
        seed: int = 0,
        on_bad_sample: OnBadSample = "error",
        size_thresholds: Sequence[float] = (0.1,),
        tags_from: TagsFrom = "image",
    ) -> None:
        self.source = source
        self.num_classes = num_classes
        self.transform = transform
        self.seed = seed
        self.on_bad_sample = on_bad_sample
        self.size_thresholds = size_thresholds
        self.tags_from = tags_from
        # In shared memory, so that one worker's warning is not repeated by the others.
        self._warned = torch.zeros(len(source), dtype=torch.bool).share_memory_()  # type: ignore[no-untyped-call]

    def __len__(self) -> int:
        return len(self.source)

    @override
    def __getitem__(self, index: Index) -> dict[str, Any]:
        epoch, position, *references = index if isinstance(index, tuple) else (0, index)
        if not 0 <= position < len(self):  # ends iteration with `for`, as for any sequence
            raise IndexError(f"index {position} is out of range: there are {len(self)} samples")
        draw = derive_seed(self.seed, epoch, position)
        with seeded(draw):
            found, sample = self._read(position)
        item = self._item(sample, draw)
        for reference in references:
            known = reference if found == position else None
            apart = sample.guide, sample.colors, sample.valid, sample.boxes
            item["loaded"] = Loaded(known, sample.image, sample.seeds, sample.tags, draw, self.transform, *apart)
        return item

    def read(self, index: int) -> Sample:
        """Read a sample and check it.

        Raises:
            BadSampleError: if it cannot be used.
        """
        sample = self.source[index]
        problem = _find_fault(sample, self.num_classes)
        if problem is not None:
            what, message = problem
            raise BadSampleError(f"{self.source.origin(index, what)} {message}")
        return sample

    def facts(self, index: int) -> dict[str, Any]:
        """Read the facts about an image as a whole; the image itself is not read where that can be avoided.

        Returns:
            ``id``, ``height`` and ``width`` in pixels, ``boxes``, and ``tags``, ``full``, ``sizes`` as in the batches.
        """
        sample = self.source.labels(index)
        height, width = sample.seeds.shape
        facts = self._class_facts(sample, sample.tags, sample.mask, height * width)
        return {"id": sample.id, "height": height, "width": width, "boxes": sample.boxes, **facts}

    def _read(self, index: int) -> tuple[int, Sample]:
        for _ in range(_MAX_SUBSTITUTES):
            try:
                return index, self.read(index)
            except BadSampleError as error:
                if self.on_bad_sample == "error":
                    raise
                self._warn(index, error)
            index = int(torch.randint(len(self), ()))
        raise BadSampleError(f"{_MAX_SUBSTITUTES} bad samples in a row: the data set looks broken as a whole")

    def _warn(self, index: int, error: BadSampleError) -> None:
        if not self._warned[index]:
            self._warned[index] = True
            warnings.warn(f"skipping the sample {self.source.ids[index]!r}: {error}", stacklevel=2)

    def _item(self, sample: Sample, draw: int) -> dict[str, Any]:
        item = _annotated(sample)
        if self.transform is None:
            item["padded"] = False
        else:
            with seeded(draw):
                item = self.transform(item)
        planes = item.pop("planes").as_subclass(Tensor)
        item["image"] = item["image"].as_subclass(Tensor)
        item["seeds"], item["mask"], item["valid"] = planes[0], planes[1], planes[2] == 0
        if sample.guide is not None:
            item["guide"] = torch.where(item["valid"], item["guide"].as_subclass(Tensor), 0)
        if sample.boxes is not None:
            item["boxes"] = _join_boxes(item["boxes"], sample.boxes[:, 4])
        if sample.colors is not None:
            item["colors"] = sample.colors
        if sample.case is not None:
            item["case"] = sample.case
        seed_labels = present_labels(sample.seeds, self.num_classes)
        return {**item, **self._facts(sample, item), "id": sample.id, "seed_labels": seed_labels}

    def _facts(self, sample: Sample, item: dict[str, Any]) -> dict[str, Tensor]:
        """Facts about the image as a whole, or about its crop."""
        if self.tags_from == "image":
            return self._class_facts(sample, sample.tags, sample.mask, sample.seeds.numel())
        tags = present_labels(item["mask"], self.num_classes)
        return self._class_facts(sample, tags, item["mask"], int(item["valid"].sum()))

    def _class_facts(self, sample: Sample, tags: Tensor, mask: Tensor | None, pixels: int) -> dict[str, Tensor]:
        facts = {"tags": tags, "full": torch.tensor(sample.full)}
        if mask is not None:
            facts["sizes"] = size_buckets(mask, tags, self.size_thresholds, pixels)
        elif sample.fractions is not None:
            facts["sizes"] = buckets_of_fractions(sample.fractions, tags, self.size_thresholds)
        return facts


def _annotated(sample: Sample) -> dict[str, Any]:
    """Wrap what moves with the image; all labelings are planes of one mask, the third marks padding and no data."""
    mask = torch.full_like(sample.seeds, VOID) if sample.mask is None else sample.mask
    invalid = torch.zeros_like(sample.seeds)
    if sample.valid is not None:
        invalid[~sample.valid] = VOID
    planes = [sample.seeds, mask, invalid]
    item = {"image": tv_tensors.Image(sample.image), "planes": tv_tensors.Mask(torch.stack(planes))}
    if sample.guide is not None:
        item["guide"] = tv_tensors.Mask(sample.guide)
    if sample.boxes is not None:
        size = sample.image.shape[-2:]
        item["boxes"] = tv_tensors.BoundingBoxes(sample.boxes[:, :4], format="XYXY", canvas_size=tuple(size))
    return item


def collate(items: Sequence[dict[str, Any]], batch_hook: BatchHook | None = None) -> dict[str, Any]:
    """Make a batch of B items, as small as it can travel; :func:`weakseg_lightning.data.decode_batch` makes it usable.

    Args:
        items: items of a :class:`SegmentationDataset`, of one size.
        batch_hook: adds to the batches of items that were asked for by a reference.

    Returns:
        ``image`` uint8 ``(B, 3, H, W)``, RGB, or float32 ``(B, C, H, W)``, then with ``colors``, the numbers of the
        channels that pairwise terms and pictures see, int64 ``(B, 3)``;
        ``seeds`` and ``mask`` uint8 ``(B, H, W)``, 255 = none; ``valid`` bool ``(B, H, W)``, False on padding and where
        there are no data; ``tags`` and ``seed_labels`` bool ``(B, K)``, the classes of the whole image and those of its
        seeds before cropping, background always True; ``full`` bool ``(B,)``, whether the seeds are a full mask among
        weak labels; ``id`` list of B names. Where there are any: ``sizes`` int8 ``(B, K)``, see
        :func:`weakseg_lightning.data.samples.size_buckets`; ``boxes``, list of B float32 ``(n, 5)``; ``case``, list of
        B :class:`weakseg_lightning.data.CaseSlice`; ``guide`` int32 ``(B, 1, H, W)``, maps of regions or boundaries, 0
        on padding; ``padded`` False of whole images, where all that is not ``valid`` lies in the image; what the batch
        hook adds.
    """
    batch: dict[str, Any] = {"image": torch.stack([item["image"].contiguous() for item in items])}
    for name in ("seeds", "mask", "valid", "tags", "seed_labels", "full", "sizes", "guide", "colors"):
        if all(name in item for item in items):
            batch[name] = torch.stack([item[name] for item in items])
    for name in ("boxes", "case"):
        if all(name in item for item in items):
            batch[name] = [item[name] for item in items]
    batch["id"] = [item["id"] for item in items]
    if not any(item.get("padded", True) for item in items):
        batch["padded"] = False
    if batch_hook is not None and all("loaded" in item for item in items):
        batch |= batch_hook.attach(batch, [item["loaded"] for item in items])
    return batch


def _join_boxes(boxes: tv_tensors.BoundingBoxes, classes: Tensor) -> Tensor:
    """Drop boxes that left the crop, and put the classes back."""
    inside = F.clamp_bounding_boxes(boxes).as_subclass(Tensor)
    visible = ((inside[:, 2:] - inside[:, :2]) >= 1).all(1)
    return torch.cat([inside, classes[:, None]], 1)[visible].to(torch.float32)


def _find_fault(sample: Sample, num_classes: int) -> tuple[Literal["image", "seeds", "mask"], str] | None:
    """Find what would corrupt training silently, or stop it with a message that names no image."""
    if not _is_image(sample):
        expected = "uint8 (3, H, W)" if sample.colors is None else "float32 (C, H, W)"
        return "image", f"must be {expected}, got {sample.image.dtype} {tuple(sample.image.shape)}"
    if (guide := sample.guide) is not None and (guide.dtype, guide.shape[1:]) != (torch.int32, sample.image.shape[1:]):
        return "image", f"has a guide that must be int32 and of its size, got {guide.dtype} {tuple(guide.shape)}"
    # The mask first: seeds may be derived from it.
    for what, labels in (("mask", sample.mask), ("seeds", sample.seeds)):
        if labels is None:
            continue
        if labels.shape != sample.image.shape[1:]:
            fault = f"has {_size(labels)} pixels, its image {_size(sample.image)}: annotate the image at its own size"
        elif (unknown := _unknown_labels(labels, num_classes)).numel():
            shown = ", ".join(map(str, unknown[:5].tolist()))
            fault = (
                f"holds the labels {shown}, expected 0 to {num_classes - 1}, or 255 for void: "
                f"map them to these, or use a data set of more classes"
            )
        else:
            continue
        return what, fault  # type: ignore[return-value]
    return None


def _is_image(sample: Sample) -> bool:
    image = sample.image
    if sample.colors is None:
        return image.dtype == torch.uint8 and image.ndim == 3 and image.shape[0] == 3
    return image.dtype == torch.float32 and image.ndim == 3


def _unknown_labels(labels: Tensor, num_classes: int) -> Tensor:
    counts = torch.bincount(labels.flatten(), minlength=256)[num_classes:VOID]
    return counts.nonzero().flatten() + num_classes


def _size(tensor: Tensor) -> str:
    return f"{tensor.shape[-1]} x {tensor.shape[-2]}"
