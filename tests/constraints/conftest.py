"""Facts about small batches."""

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from weakseg_lightning.constraints import ImageFacts, LinearConstraints

NAMES = ("background", "person", "dog", "cat")


@pytest.fixture
def know() -> Callable[..., ImageFacts]:
    """ImageFacts of images that are tagged with the given classes, each a set of indices; the background always."""

    def known(
        *tags: set[int],
        size: tuple[int, int] = (4, 4),
        sizes: Sequence[Sequence[int]] | None = None,
        boxes: Sequence[Sequence[Sequence[float]]] | None = None,
        masks: dict[str, Tensor] | None = None,
        names: Sequence[str] = NAMES,
    ) -> ImageFacts:
        held = torch.tensor([[k == 0 or k in image for k in range(len(names))] for image in tags], dtype=torch.bool)
        held = held.reshape(len(tags), len(names))
        return ImageFacts(
            [f"i{number}" for number in range(len(tags))],
            names,
            held,
            torch.ones((len(tags), *size), dtype=torch.bool),
            None if sizes is None else torch.tensor(sizes, dtype=torch.int64).reshape(held.shape),
            None if boxes is None else [torch.tensor(image).float().reshape(-1, 5) for image in boxes],
            masks or {},
        )

    return known


@pytest.fixture
def said() -> Callable[[LinearConstraints, int], list[str]]:
    """Statements of the active rows about an image."""

    def read(constraints: LinearConstraints, image: int = 0) -> list[str]:
        return [constraints.name(image, row) for row in constraints.active[image].nonzero().flatten().tolist()]

    return read
