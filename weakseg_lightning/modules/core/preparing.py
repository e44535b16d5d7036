"""The network's first acquaintance with the training images, before the first iteration."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

import torch
from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch import Trainer
from torch import Tensor, nn

from weakseg_lightning.devices import in_unit_range, works_aside
from weakseg_lightning.errors import UserError
from weakseg_lightning.networks import SegmentationNet
from weakseg_lightning.networks.evaluation import evaluating
from weakseg_lightning.solvers.threads import cores_of_rank

Item = dict[str, Any]


class WholeImages(Protocol):
    """A method whose solver labels whole images.

    Attributes:
        net: its network.
        num_classes: classes K.
        solves_with_network: whether its labelings depend on the network's scores; else it gets scores of zero.
    """

    net: SegmentationNet
    num_classes: int
    solves_with_network: bool

    def score(self, images: Tensor) -> Tensor:
        """Logits of images."""

    def solve_latent(self, logits: Tensor, batch: Item) -> Any:
        """Solve for the latent labeling of a batch."""

    def report_unsolved(self, messages: Sequence[str], names: Sequence[str]) -> None:
        """Warn of images that the solver could not label, or raise."""


def prepare_net(net: SegmentationNet, items: Sequence[Item], known: str, method: WholeImages | None, seed: int) -> None:
    """Let a network adapt to the training images, then, in rounds, to the labels that the method gives them.

    A network that is prepared already, as one that has been trained, stays as it is.

    Args:
        net: the network.
        items: the training images as a data set gives them, whole.
        known: name of the labels in an item that need no solver.
        method: labels all images in each round, of which there is one if the network has no part in that; None: there
            are no rounds.
        seed: of whatever is drawn.
    """
    if net.is_prepared:
        return
    net.preparing = True
    try:
        net.prepare(((item["image"], [item[known]]) for item in _each(items)), seed)
        if method is None:
            return
        for _ in range(net.latent_rounds if method.solves_with_network else min(1, net.latent_rounds)):
            net.prepare(_labeled(method, items, known), seed)
    finally:
        net.preparing = False


def on_first_rank(prepare: Callable[[], None], net: nn.Module, trainer: Trainer) -> None:
    """Prepare a network on the first rank, and give its weights to the others.

    Args:
        prepare: changes the weights.
        net: the network.
        trainer: the trainer, all of whose ranks have to call this.

    Raises:
        ValueError: on the ranks that wait for the weights, if ``prepare`` raises; the first one raises its own error.
    """
    failure: Exception | None = None
    if trainer.is_global_zero:
        try:
            prepare()
        except Exception as error:
            failure = error
    if trainer.world_size > 1:
        state = {name: value.cpu() for name, value in net.state_dict().items()}  # of no rank's GPU
        told, state = trainer.strategy.broadcast((failure and (str(failure) or repr(failure)), state))
        if told and not failure:
            raise UserError(told)
        net.load_state_dict(state)
    if failure is not None:
        raise failure


def _each(items: Sequence[Item]) -> Iterator[Item]:
    """One item after the other, so that one image at a time is in memory."""
    return (items[i] for i in range(len(items)))


def _labeled(method: WholeImages, items: Sequence[Item], known: str) -> Iterator[tuple[Tensor, list[Tensor]]]:
    """Each image with its known labels and the latent ones, solved for beside the scores of the next images."""
    # DataLoader workers have nothing to do yet. On a GPU the scores of whole images would fill its memory.
    threads = 1 if works_aside(method.net.mean.device) else cores_of_rank()
    begun: deque[tuple[Item, Future[Any]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for item in _each(items):
            begun.append((item, _start(pool, method, item)))
            if len(begun) > threads:  # no more labelings are in memory, however many images there are
                yield _with_latent(method, *begun.popleft(), known)
        while begun:
            yield _with_latent(method, *begun.popleft(), known)


def _start(pool: ThreadPoolExecutor, method: WholeImages, item: Item) -> Future[Any]:
    batch = move_data_to_device(whole_batch(item), method.net.mean.device)
    if method.solves_with_network:
        with evaluating(method.net), torch.no_grad():
            logits = method.score(batch["image"]).float()
    else:
        logits = torch.zeros_like(batch["image"][:, :1]).repeat(1, method.num_classes, 1, 1)
    return pool.submit(method.solve_latent, logits, batch)


def _with_latent(method: WholeImages, item: Item, solved: Future[Any], known: str) -> tuple[Tensor, list[Tensor]]:
    """An image with its labels; with the known ones alone if the solver failed and the method goes on all the same."""
    result = solved.result()
    method.report_unsolved(result.message, [item["id"]])
    found = [] if result.message[0] else [result.latent[0].cpu()]
    return item["image"], [item[known], *found]


def whole_batch(item: Item, initial: Tensor | None = None) -> Item:
    """A batch of one whole image.

    Args:
        item: as a data set gives it: ``image``, ``seeds``, ``tags``, ``seed_labels``, ``id``, and ``guide``, ``valid``
            and ``boxes`` if any.
        initial: labeling to start the solver from, ``(1, H, W)``.
    """
    seeds = item["seeds"][None].long()
    given: Item = {name: item[name][None] for name in ("guide", "colors") if name in item}
    given |= {"boxes": [item["boxes"]]} if "boxes" in item else {}
    return {
        **given,
        "image": in_unit_range(item["image"][None]),
        "seeds": seeds,
        "valid": torch.ones_like(seeds, dtype=torch.bool) if "valid" not in item else item["valid"][None],
        "tags": item["tags"][None],
        "seed_labels": item["seed_labels"][None],
        "initial": initial,
        "id": [item["id"]],
    }
