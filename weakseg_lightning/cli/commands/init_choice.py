"""The choices of `weakseg init`: the method for what a folder holds, what of the network learns, the computer."""

from collections.abc import Iterator
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
        frozen: whether a head on a frozen encoder learns, in place of the whole network.
    """

    recipe: str
    supervision: Supervision | None
    why: str
    whole: bool = False
    frozen: bool = False


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


Learns = Literal["auto", "head", "network"]

METHODS: dict[Supervision, Method] = {
    "scribble": Method("trust_region_grid", "scribble", "scribbles"),
    "point": Method("trust_region_grid", "point", "clicks"),
    "box": Method("ccnn_boxes", "box", "boxes", whole=True),
    "tags": Method("ccnn_tags", "tags", "tags", whole=True),
    "full": Method("full", "full", "masks"),
}
_WITH_SIZES = Method("ccnn_tags_size", "tags", "tags and sizes", whole=True)
_TWO_FOLDERS = Method("decompose_dog", None, f"two folders, {POSITIVE}/ and {NEGATIVE}/")

# The method with a head on a frozen encoder, and up to how many images it is the better one; without a GPU it is with
# all numbers that were measured (tests/benchmarks/README.md).
_WITH_FROZEN: dict[Supervision | None, str] = {"scribble": "adm_grid", "point": "adm_grid", "full": "full"}
_FEW_FOR_A_GPU = 200


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
    return METHODS[wanted]


def choose_what_learns(method: Method, learns: Learns, images: int, hardware: Hardware) -> Method:
    """Choose what learns: the whole network, or a head on its frozen encoder.

    Args:
        method: the method for the annotations.
        learns: the user's choice.
        images: images to learn from.
        hardware: the computer.

    Raises:
        UserError: if the user chose the head for a method that needs the whole network.
    """
    recipe = _WITH_FROZEN.get(method.supervision)
    if recipe is None and learns == "head":
        raise UserError(f"`learns: head` is for scribbles, clicks and masks; {method.why} need the whole network")
    few = hardware.accelerator == "cpu" or images <= _FEW_FOR_A_GPU
    if recipe is None or learns == "network" or (learns == "auto" and not few):
        return method
    return replace(method, recipe=recipe, whole=True, frozen=True)


def kinds_of(contents: FolderContents) -> Iterator[Supervision]:
    """The kinds of annotation that are there, those that say more about pixels first.

    Labels that were accepted while painting come last where more images have masks or boxes and none has strokes.
    """
    names = list(contents.images)
    masks = [name for name in names if contents.has_mask(name)]
    boxes = [name for name in names if contents.has(name, "box")]
    drawn = bool(contents.scribbles) or any(contents.has(name, "stroke") for name in names)
    fewer = not drawn and len(contents.accepted) < max(len(masks), len(boxes))
    if drawn or (contents.accepted and not fewer):
        yield "scribble"
    if any(contents.has(name, "click") for name in names):
        yield "point"
    if boxes:
        yield "box"
    if any(contents.has(name, "tag", "size") for name in names):
        yield "tags"
    if masks:
        yield "full"
    if contents.accepted and fewer:
        yield "scribble"


def find_hardware() -> Hardware:
    """Look at the computer: a GPU of NVIDIA, or the CPU."""
    if not torch.cuda.is_available():
        return Hardware("a computer without a GPU", "cpu", 8, side=500, crop=192, steps=960, workers=1)
    properties = torch.cuda.get_device_properties(0)
    batch = next(size for gigabytes, size in ((14, 16), (7, 8), (0, 4)) if properties.total_memory >= gigabytes * 2**30)
    return Hardware(f"one GPU ({properties.name})", "gpu", batch, side=640, crop=384, steps=6000, workers=4)
