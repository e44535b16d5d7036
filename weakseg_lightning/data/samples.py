"""Samples, and where they come from."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from typing_extensions import override

from weakseg_lightning.data.sampling import derive_seed
from weakseg_lightning.errors import UserError

__all__ = [
    "BadSampleError",
    "CaseSlice",
    "FullyLabelled",
    "Sample",
    "SampleSource",
    "SampleView",
    "buckets_of_fractions",
    "every",
    "present_labels",
    "size_buckets",
]


class BadSampleError(UserError):
    """A sample cannot be used; the message names the file and the remedy."""


class CaseSlice(NamedTuple):
    """Place of an image that is one slice of a case: of a patient's volume, say.

    Attributes:
        case: name of the case.
        place: its number in the order of the slices.
        spacing: distance of neighboring slices, rows and columns, in mm; 1 each where it is not known.
    """

    case: str
    place: int
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class Sample:
    """One image with what is known about it, at its original size.

    Attributes:
        id: name of the image, unique in its data set.
        image: RGB, uint8 ``(3, H, W)``; or C channels, float32 ``(C, H, W)``, each of them about 0 to 1.
        seeds: class of the labelled pixels, 255 elsewhere, uint8 ``(H, W)``.
        mask: true class of every pixel, 255 = void, uint8 ``(H, W)``; None where it is not known.
        tags: classes of the whole image, bool ``(K,)``.
        boxes: ``x1, y1, x2, y2, class`` in pixels, float32 ``(n, 5)``; None where supervision is not by boxes.
        full: whether ``seeds`` are a full mask, among images that are weakly labelled.
        fractions: fraction of the image that each class covers, float32 ``(K,)``, NaN where it is not known; for images
            without a mask, which says it otherwise.
        guide: map of regions or boundaries that pairwise terms may look at, int32 ``(1, H, W)``, at least 0 and below
            2^24; None where the data bring none.
        case: the case that it is a slice of; None where the data name no cases.
        colors: numbers of the channels that pairwise terms and pictures see as red, green and blue, int64 ``(3,)``;
            None for RGB.
        valid: pixels that have data, bool ``(H, W)``: the others are in no loss, energy or score, as padding; None
            where all have.
    """

    id: str
    image: Tensor
    seeds: Tensor
    mask: Tensor | None
    tags: Tensor
    boxes: Tensor | None = None
    full: bool = False
    fractions: Tensor | None = None
    guide: Tensor | None = None
    case: CaseSlice | None = None
    colors: Tensor | None = None
    valid: Tensor | None = None


class SampleSource(ABC):
    """An indexable collection of samples. To bring your own data, write ``ids`` and ``__getitem__``."""

    @property
    @abstractmethod
    def ids(self) -> Sequence[str]:
        """Names of the samples, in order."""

    @abstractmethod
    def __getitem__(self, index: int) -> Sample:
        """Read a sample.

        Raises:
            BadSampleError: if it cannot be used.
        """

    def __len__(self) -> int:
        return len(self.ids)

    def labels(self, index: int) -> Sample:
        """Read what is known about a sample, its ``image`` left out where that saves time."""
        return self[index]

    def has_mask(self, index: int) -> bool:
        """Tell if the mask of a sample is known, without reading it."""
        return True

    def origin(self, index: int, what: Literal["image", "seeds", "mask"]) -> str:
        """Say for error messages where a part of a sample comes from, as a file name for example."""
        return f"{what} of {self.ids[index]!r}"

    def find_problems(self) -> dict[int, str]:
        """Look for bad samples without reading them in full (missing files, sizes): message by index."""
        return {}


class SampleView(SampleSource):
    """Samples of other sources: some of them, in another order, of several sources, or shown otherwise.

    Args:
        places: the source of each sample, and its index there.
    """

    def __init__(self, places: Iterable[tuple[SampleSource, int]]) -> None:
        self.places = list(places)

    def show(self, index: int, sample: Sample) -> Sample:
        """Change a sample that was read; here it stays as it is."""
        return sample

    @property
    @override
    def ids(self) -> Sequence[str]:
        names = self._of_sources(lambda source: source.ids)
        return [names[id(source)][index] for source, index in self.places]

    @override
    def __getitem__(self, index: int) -> Sample:
        source, place = self.places[index]
        return self.show(index, source[place])

    @override
    def __len__(self) -> int:
        return len(self.places)

    @override
    def labels(self, index: int) -> Sample:
        source, place = self.places[index]
        return self.show(index, source.labels(place))

    @override
    def has_mask(self, index: int) -> bool:
        source, place = self.places[index]
        return source.has_mask(place)

    @override
    def origin(self, index: int, what: Literal["image", "seeds", "mask"]) -> str:
        source, place = self.places[index]
        return source.origin(place, what)

    @override
    def find_problems(self) -> dict[int, str]:
        found = self._of_sources(lambda source: source.find_problems())
        places = enumerate(self.places)
        return {index: found[id(source)][place] for index, (source, place) in places if place in found[id(source)]}

    def _of_sources(self, read: Callable[[SampleSource], Any]) -> dict[int, Any]:
        """Read something of each source, once."""
        sources = {id(source): source for source, _ in self.places}
        return {key: read(source) for key, source in sources.items()}


def every(*sources: SampleSource) -> list[tuple[SampleSource, int]]:
    """The places of all samples of some sources, one source after the other."""
    return [(source, index) for source in sources for index in range(len(source))]


class FullyLabelled(SampleView):
    """A source of which some samples show their full mask: semi-supervised training.

    Which ones depends on the seed and the names alone: a larger fraction contains a smaller one.

    Args:
        source: the weakly labelled samples.
        fraction: fraction of the samples whose ``seeds`` become their mask, 0..1.
        seed: chooses them, among those that have a mask.

    Raises:
        ValueError: if too few samples have a mask.
    """

    def __init__(self, source: SampleSource, fraction: float, seed: int) -> None:
        super().__init__(every(source))
        ids = source.ids
        count = round(fraction * len(ids))
        masked = [index for index in range(len(ids)) if source.has_mask(index)]
        if count > len(masked):
            raise UserError(
                f"`full_fraction: {fraction}` asks for {count} of {len(ids)} training images with a mask, "
                f"{len(masked)} have one: lower it"
            )
        shuffled = sorted(masked, key=lambda index: derive_seed(seed, *ids[index].encode()))
        self.chosen = frozenset(shuffled[:count])

    @override
    def origin(self, index: int, what: Literal["image", "seeds", "mask"]) -> str:
        return super().origin(index, "mask" if what == "seeds" and index in self.chosen else what)

    @override
    def show(self, index: int, sample: Sample) -> Sample:
        if index not in self.chosen:
            return sample
        if sample.mask is None:
            raise BadSampleError(f"{self.origin(index, 'mask')} is missing: images shown with theirs need one")
        return replace(sample, seeds=sample.mask, full=True)


def present_labels(labels: Tensor, num_classes: int) -> Tensor:
    """Tell which classes occur in a label map.

    Args:
        labels: uint8 ``(H, W)`` of classes and 255.
        num_classes: classes K.

    Returns:
        bool ``(K,)``, background always True.

    Example:
        >>> present_labels(torch.tensor([[2, 255]], dtype=torch.uint8), 3).tolist()
        [True, False, True]
    """
    present: Tensor = torch.bincount(labels.flatten(), minlength=256)[:num_classes] > 0
    present[0] = True
    return present


def size_buckets(mask: Tensor, tags: Tensor, thresholds: Sequence[float], pixels: int) -> Tensor:
    """Tell roughly how large each class is.

    Args:
        mask: uint8 ``(H, W)`` of classes and 255.
        tags: the classes of the image, bool ``(K,)``.
        thresholds: fractions of the image, ascending, that part the buckets.
        pixels: pixels of the image, void included.

    Returns:
        int8 ``(K,)``: how many of the thresholds the class exceeds, -1 for those that are not tagged.

    Example:
        >>> mask = torch.tensor([[0, 0, 0, 2]], dtype=torch.uint8)
        >>> size_buckets(mask, torch.tensor([True, False, True]), [0.1, 0.5], 4).tolist()
        [2, -1, 1]
    """
    fractions = torch.bincount(mask.flatten(), minlength=256)[: len(tags)] / max(pixels, 1)
    return buckets_of_fractions(fractions, tags, thresholds)


def buckets_of_fractions(fractions: Tensor, tags: Tensor, thresholds: Sequence[float]) -> Tensor:
    """Tell which bucket of size each class is in.

    Args:
        fractions: fraction of the image that each class covers, ``(K,)``; NaN where it is not known.
        tags: the classes of the image, bool ``(K,)``.
        thresholds: fractions, ascending, that part the buckets.

    Returns:
        int8 ``(K,)``: how many of the thresholds the class exceeds, -1 for those that are not tagged or not known.

    Example:
        >>> buckets_of_fractions(torch.tensor([float("nan"), 0.3, 0.0]), torch.tensor([True] * 3), [0.1]).tolist()
        [-1, 1, 0]
    """
    exceeded = (fractions[:, None] > torch.tensor(thresholds)).sum(1)
    return torch.where(tags & ~fractions.isnan(), exceeded, -1).to(torch.int8)
