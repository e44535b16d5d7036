"""The choices of `weakseg init`: the method for what a folder holds, what of the network learns, the computer."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import torch

from weakseg_lightning.data.folder.contents import NEGATIVE, POSITIVE, FolderContents, two_folders
from weakseg_lightning.data.weak_labels import Supervision
from weakseg_lightning.errors import UserError


@dataclass(frozen=True)
class Method:
    """A way to learn from a kind of annotation.

    Attributes:
        recipe: the recipe of the package that the new one is made from.
        supervision: the data module's; None where the recipe's own data module is told two folders.
        why: what it learns from, in words.
        whole: whether it needs whole images in a batch, not crops.
        learns: a ``head`` on a frozen encoder, this and then its ``encoder``, too, or the whole ``network``.
    """

    recipe: str
    supervision: Supervision | None
    why: str
    whole: bool = False
    learns: Literal["head", "encoder", "network"] = "network"

    @property
    def fits_head(self) -> bool:
        """True where a head is fitted to the features of a frozen encoder first."""
        return self.learns != "network"


@dataclass(frozen=True)
class Hardware:
    """The computer to train on, and what fits on it.

    Attributes:
        name: in words.
        accelerator: the trainer's.
        batch_size: images per batch.
        side: pixels of an image that the network sees, along its longer side.
        crop: side of the training crops in these pixels.
        steps: iterations.
        workers: processes that load data.
    """

    name: str
    accelerator: str
    batch_size: int
    side: int
    crop: int
    steps: int
    workers: int


Learns = Literal["auto", "head", "encoder", "network"]

METHODS: dict[Supervision, Method] = {
    "scribble": Method("trust_region_grid", "scribble", "scribbles"),
    "point": Method("trust_region_grid", "point", "clicks"),
    "box": Method("ccnn_boxes", "box", "boxes", whole=True),
    "tags": Method("ccnn_tags", "tags", "tags", whole=True),
    "full": Method("full", "full", "masks"),
}
_WITH_SIZES = Method("ccnn_tags_size", "tags", "tags and sizes", whole=True)
_TWO_FOLDERS = Method("decompose_dog", None, f"two folders, {POSITIVE}/ and {NEGATIVE}/")

# Of strokes and clicks a head on a frozen encoder learns by trust region where images are so few, else by ADM: within a
# point of the best method for all numbers and kinds of images but one that were measured (tests/benchmarks/README.md).
# They had at most 500 pixels a side. Trust region labels pixels, ADM the cells of a map: with images of 7 megapixels it
# takes about twice the time.
_FEW_FOR_TRUST_REGION, _SIDE_FOR_TRUST_REGION = 50, 1024
# Up to so many images a GPU trains the head alone; without one it is better in its time with all numbers of images that
# were measured (tests/benchmarks/README.md).
_FEW_FOR_A_GPU = 500


def choose_method(contents: FolderContents, supervision: Supervision | None = None) -> Method:
    """Choose how to learn from what a folder holds.

    Args:
        contents: the folder.
        supervision: what the user wants; by default strokes come before clicks, boxes, tags and masks.

    Raises:
        UserError: if there is nothing of that kind to learn from.
    """
    if supervision is None and two_folders(contents.root):
        return _TWO_FOLDERS
    wanted = supervision or next(kinds_of(contents), None)
    if wanted is None:
        raise UserError(
            f"{contents.root} has no annotation to learn from: add scribbles/, points.csv, boxes.csv, tags.csv or "
            "masks/ (`weakseg check --help` explains them)"
        )
    if not contents.of(wanted):
        raise UserError(f"`supervision`: no image of {contents.root} has {METHODS[wanted].why}")
    tagged = contents.of("tags")
    if wanted == "tags" and all(contents.has(name, "size") or contents.has_mask(name) for name in tagged):
        return _WITH_SIZES if any(contents.has(name, "size") for name in tagged) else METHODS[wanted]
    return replace(METHODS[wanted], why=words_for(contents, wanted))


def choose_what_learns(method: Method, learns: Learns, images: int, longest: int, hardware: Hardware) -> Method:
    """Choose what learns: a head on a frozen encoder, the encoder after it, too, or the whole network.

    Args:
        method: the method for the annotations.
        learns: the user's choice.
        images: images to learn from.
        longest: longest side of any image.
        hardware: the computer.
    """
    if learns == "auto":
        learns = "head" if hardware.accelerator == "cpu" or images <= _FEW_FOR_A_GPU else "encoder"
    if learns == "network":
        return method
    few_and_small = images <= _FEW_FOR_TRUST_REGION and longest <= _SIDE_FOR_TRUST_REGION
    if method.supervision in ("scribble", "point") and (learns == "encoder" or not few_and_small):
        method = replace(method, recipe="adm_grid")
    return replace(method, whole=True, learns=learns)


def counts_of(contents: FolderContents) -> Counter[str]:
    """Count the images that have each kind of annotation, named in words."""
    has: dict[str, Callable[[str], bool]] = {
        "scribbles": lambda name: name in contents.scribbles or contents.has(name, "stroke"),
        "clicks": lambda name: contents.has(name, "click"),
        "accepted labels": contents.accepted.__contains__,
        "boxes": lambda name: contents.has(name, "box"),
        "tags": lambda name: contents.has(name, "tag", "size"),
        "masks": contents.has_mask,
    }
    return Counter({kind: sum(map(test, contents.images)) for kind, test in has.items()})


def kinds_of(contents: FolderContents) -> Iterator[Supervision]:
    """The kinds of annotation that are there, those that say more about pixels first.

    Clicks beside labels that were accepted while painting are learned from with these, as scribbles. Accepted labels
    alone come last where more images have masks or boxes.
    """
    counts = counts_of(contents)
    accepted = counts["accepted labels"]
    few = not counts["clicks"] and accepted < max(counts["masks"], counts["boxes"])
    seeds = counts["scribbles"] > 0 or (accepted > 0 and not few)
    if seeds:
        yield "scribble"
    if counts["clicks"]:
        yield "point"
    if counts["boxes"]:
        yield "box"
    if counts["tags"]:
        yield "tags"
    if counts["masks"]:
        yield "full"
    if accepted and not seeds:
        yield "scribble"


def words_for(contents: FolderContents, supervision: Supervision) -> str:
    """Name the annotations that a kind of supervision learns from."""
    if supervision != "scribble":
        return METHODS[supervision].why
    counts = counts_of(contents)
    *others, last = [kind for kind in ("scribbles", "clicks", "accepted labels") if counts[kind]]
    return f"{', '.join(others)} and {last}" if others else last


def find_hardware() -> Hardware:
    """Look at the computer: a GPU of NVIDIA, or the CPU."""
    if not torch.cuda.is_available():
        return Hardware("a computer without a GPU", "cpu", 8, side=500, crop=192, steps=960, workers=1)
    properties = torch.cuda.get_device_properties(0)
    batch = next(size for gigabytes, size in ((14, 16), (7, 8), (0, 4)) if properties.total_memory >= gigabytes * 2**30)
    return Hardware(f"one GPU ({properties.name})", "gpu", batch, side=640, crop=384, steps=6000, workers=4)
