"""Samples of a folder of images."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import override

from weakseg_lightning.channels import Channels
from weakseg_lightning.data.folder.contents import FolderContents
from weakseg_lightning.data.folder.images.guides import lacking_guides, read_guide
from weakseg_lightning.data.folder.inspection import inspect_all, nothing_labelled
from weakseg_lightning.data.folder.label_maps import Size
from weakseg_lightning.data.folder.labels import boxes_of, read_mask, read_seeds, scribbles_of
from weakseg_lightning.data.images.nodata import NODATA_COLOR, Flags
from weakseg_lightning.data.samples import BadSampleError, Sample, SampleSource
from weakseg_lightning.data.weak_labels import Supervision
from weakseg_lightning.energies.potts import VOID

__all__ = ["FolderSource"]

Labels = NDArray[np.uint8]
_FRACTIONS = {"small": 0.0, "large": 1.0}
"""Fractions that the words stand for: beyond whatever thresholds part the sizes."""


@dataclass(frozen=True)
class FolderSource(SampleSource):
    """Images of a folder with what is known about them.

    Args:
        contents: the folder.
        names: ids of the images.
        supervision: which annotations become seeds; None for no seeds, and no guides, as it is not for training.
        channels: the channels of the images, with their statistics; None for gray and RGB.
    """

    contents: FolderContents
    names: Sequence[str]
    supervision: Supervision | None
    channels: Channels | None = None

    @property
    @override
    def ids(self) -> Sequence[str]:
        return self.names

    @override
    def __getitem__(self, index: int) -> Sample:
        name = self.names[index]
        image, valid = self._image(name), self.contents.valid_of(name)
        if valid is not None:
            neutral = torch.tensor(NODATA_COLOR if self.channels is None else self.channels.normalization[0])
            image = torch.where(torch.from_numpy(valid), image, neutral.to(image.dtype)[:, None, None])
        return replace(self._sample(name, image, valid), guide=self._guide(name, (image.shape[2], image.shape[1])))

    @override
    def labels(self, index: int) -> Sample:
        name = self.names[index]
        width, height = self.contents.size_of(name)
        image = torch.empty(3, height, width, dtype=torch.uint8, device="meta")
        return self._sample(name, image, self.contents.valid_of(name))

    @override
    def has_mask(self, index: int) -> bool:
        return self.contents.has_mask(self.names[index])

    @override
    def origin(self, index: int, what: Literal["image", "seeds", "mask"]) -> str:
        name = self.names[index]
        contents = self.contents
        maps = {"seeds": contents.accepted | contents.scribbles, "mask": contents.masks}.get(what, {})
        return str(maps.get(name, contents.images[name]))

    @override
    def find_problems(self) -> dict[int, str]:
        """Read everything: users' own images are few, and a fault is better found now than in the night."""
        looked = list(inspect_all(self.contents, self.names))
        hollow = nothing_labelled(self.contents, looked) if self.supervision in ("full", "box") else []
        trained = self.names if self.supervision is not None else ()
        lacking = {problem.image: [problem] for problem in lacking_guides(self.contents, trained)}
        each = ([*one.problems, *hollow, *lacking.get(one.name, ())] for one in looked)
        return {index: "; ".join(map(str, found)) for index, found in enumerate(each) if found}

    def _image(self, name: str) -> Tensor:
        contents = self.contents
        return contents.read_image(name) if self.channels is None else self.channels.scaled(contents.read_planes(name))

    def _sample(self, name: str, image: Tensor, valid: Flags | None) -> Sample:
        contents, size = self.contents, (image.shape[2], image.shape[1])
        labels = _within(valid, read_mask(contents, name, size))
        mask = None if labels is None else torch.from_numpy(labels)
        seeds = _within(valid, read_seeds(contents, name, size, self.supervision))
        boxes = boxes_of(contents, name, mask) if self.supervision == "box" else None
        void = torch.full(image.shape[1:], VOID, dtype=torch.uint8)
        return Sample(
            id=name,
            image=image,
            seeds=void if seeds is None else torch.from_numpy(seeds),
            mask=mask,
            tags=self._tags(name, self._present(name, size, mask, seeds)),
            boxes=boxes,
            case=contents.cases.get(name),
            colors=None if self.channels is None else torch.tensor(self.channels.colors),
            fractions=self._fractions(name) if mask is None and contents.has(name, "size") else None,
            valid=None if valid is None else torch.from_numpy(valid),
        )

    def _guide(self, name: str, size: Size) -> Tensor | None:
        if self.contents.guides is None or self.supervision is None:
            return None
        if name not in self.contents.guides:
            raise BadSampleError(str(next(lacking_guides(self.contents, [name]))))
        return torch.from_numpy(read_guide(self.contents.guides[name], size))[None]

    def _present(self, name: str, size: Size, mask: Tensor | None, seeds: Labels | None) -> Labels | None:
        """The labels that say which classes there are: accepted ones among them where they are seeds."""
        if mask is not None:
            return mask.numpy()
        return scribbles_of(self.contents, name, size) if seeds is None else seeds

    def _tags(self, name: str, labels: Labels | None) -> Tensor:
        """Classes that anything says are in the image."""
        tags = torch.zeros(len(self.contents.classes.names), dtype=torch.bool)
        tags[0] = True
        if labels is not None:
            present = np.unique(labels)
            tags[present[present != VOID].astype(np.int64)] = True
        for known in self.contents.about(name):
            if known.names_class:
                tags[known.label] = True
        return tags

    def _fractions(self, name: str) -> Tensor:
        fractions = torch.full((len(self.contents.classes.names),), float("nan"))
        for known in self.contents.about(name):
            fraction = known.annotation.fraction
            if known.label is not None and fraction is not None:
                fractions[known.label] = _FRACTIONS[fraction] if isinstance(fraction, str) else fraction
        return fractions


def _within(valid: Flags | None, labels: Labels | None) -> Labels | None:
    """Labels that are void where an image has no data."""
    return labels if valid is None or labels is None else np.where(valid, labels, np.uint8(VOID))
