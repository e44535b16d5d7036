"""The network's first acquaintance with the training images, before the first iteration."""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any, Protocol

import torch
from torch import Tensor

from weakseg_lightning.modules.core.batch_hooks import in_unit_range
from weakseg_lightning.networks import SegmentationNet
from weakseg_lightning.networks.evaluation import evaluating
from weakseg_lightning.solvers.threads import default_num_threads

Item = dict[str, Any]


class WholeImages(Protocol):
    """A method whose solver labels whole images."""

    net: SegmentationNet

    def score(self, images: Tensor) -> Tensor:
        """Logits of images."""

    def solve_latent(self, logits: Tensor, batch: Item) -> Any:
        """Solve for the latent labeling of a batch."""


def prepare_net(net: SegmentationNet, items: Sequence[Item], known: str, method: WholeImages | None, seed: int) -> None:
    """Let a network adapt to the training images, then, in rounds, to the labels that the method gives them.

    Args:
        net: the network.
        items: the training images as a data set gives them, whole.
        known: name of the labels in an item that need no solver.
        method: labels all images at the start of each round; None: there are no rounds.
        seed: of whatever is drawn.
    """
    net.prepare(((item["image"], item[known]) for item in _each(items)), seed)
    for _ in range(net.latent_rounds if method is not None else 0):
        assert method is not None
        found = _latent_labels(method, items)
        both = ((item["image"], labels) for i, item in enumerate(_each(items)) for labels in (item[known], found[i]))
        net.prepare(both, seed)


def _each(items: Sequence[Item]) -> Iterator[Item]:
    """One item after the other, so that one image at a time is in memory."""
    return (items[i] for i in range(len(items)))


def _latent_labels(method: WholeImages, items: Sequence[Item]) -> list[Tensor]:
    """The latent labeling of each image, solved for beside the scores of the next ones."""
    found: list[Tensor] = []
    threads = default_num_threads()
    with evaluating(method.net), torch.no_grad(), ThreadPoolExecutor(threads) as pool:
        waiting = _each(items)
        while solving := [_start(pool, method, item) for item in islice(waiting, threads + 1)]:
            found += [future.result().labels[0].cpu() for future in solving]
    return found


def _start(pool: ThreadPoolExecutor, method: WholeImages, item: Item) -> Future[Any]:
    batch = whole_batch(item)
    return pool.submit(method.solve_latent, method.score(batch["image"]).float(), batch)


def whole_batch(item: Item, initial: Tensor | None = None) -> Item:
    """A batch of one whole image.

    Args:
        item: as a data set gives it: ``image``, ``seeds``, ``tags``, ``seed_labels``, ``id``.
        initial: labeling to start the solver from, ``(1, H, W)``.
    """
    seeds = item["seeds"][None].long()
    return {
        "image": in_unit_range(item["image"][None]),
        "seeds": seeds,
        "valid": torch.ones_like(seeds, dtype=torch.bool),
        "tags": item["tags"][None],
        "seed_labels": item["seed_labels"][None],
        "initial": initial,
        "id": [item["id"]],
    }
