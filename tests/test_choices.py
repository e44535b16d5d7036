"""A word that is none of an argument's choices is an error in Python, too, not another method in silence."""

import inspect
import typing
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

import pytest

import weakseg_lightning
from weakseg_lightning import (
    DecomposeReconstructModule,
    DMPLSModule,
    ImageNetDogDataModule,
    Optimizer,
    PyDenseCRF,
    Segmenter,
    SMPNetwork,
    TagNetwork,
    UNet,
    UNet2DDualBranch,
)

NETWORK = SMPNetwork("unet", "resnet18", None)
NEEDED: dict[str, Any] = {  # values of arguments without a default
    "network": NETWORK,
    "num_classes": 3,
    "root": "photographs",
    "classifier": TagNetwork("resnet18", None),
    "path": "areas.csv",
    "constraints": [],
}
NETWORKS = {
    DecomposeReconstructModule: UNet(),
    DMPLSModule: UNet2DDualBranch(),
}
CHECKED_LATER = {
    (PyDenseCRF, "normalization"),  # after its library is there
    (Segmenter, "device"),  # a torch.device as well
    (ImageNetDogDataModule, "tags_from"),  # always the image: no argument
}


def literals(kind: Any) -> bool:
    """Whether an annotation is a choice of words, or of words and null."""
    parts = [kind] if get_origin(kind) is Literal else get_args(kind)
    return any(get_origin(part) is Literal and isinstance(get_args(part)[0], str) for part in parts)


def choices() -> Iterator[tuple[type, str]]:
    """Public classes with their arguments that take one of some words, those of their bases included."""
    for name in weakseg_lightning.__all__:
        public = getattr(weakseg_lightning, name)
        if not inspect.isclass(public) or inspect.isabstract(public):
            continue
        for base in public.__mro__:
            if "__init__" not in vars(base) or not base.__module__.startswith("weakseg_lightning"):
                continue
            hints = typing.get_type_hints(vars(base)["__init__"])
            yield from ((public, argument) for argument, kind in hints.items() if literals(kind))


FOUND = sorted(set(choices()) - CHECKED_LATER, key=lambda found: (found[0].__name__, found[1]))


def test_there_are_choices():
    assert (Optimizer, "algorithm") in FOUND
    assert len(FOUND) > 30


@pytest.mark.parametrize(
    ("public", "argument"), FOUND, ids=lambda part: part if isinstance(part, str) else part.__name__
)
def test_another_word_is_an_error(public, argument):
    taken = inspect.signature(public).parameters
    given = {
        name: value
        for name, value in NEEDED.items()
        if name in taken and taken[name].default is inspect.Parameter.empty
    }
    if public in NETWORKS:
        given["network"] = NETWORKS[public]
    with pytest.raises(ValueError, match=rf"`{argument}` must be .*'other words'"):
        public(**given, **{argument: "other words"})
