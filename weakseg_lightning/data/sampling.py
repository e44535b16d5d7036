"""Samplers: reproducible order for training, every image once for evaluation."""

import hashlib
from collections.abc import Callable, Iterator, Sequence, Sized
from itertools import islice
from typing import Any

import torch
from torch.utils.data import DataLoader
from torch.utils.data.distributed import DistributedSampler
from typing_extensions import override

from weakseg_lightning.errors import UserError

__all__ = ["BalancedSampler", "EpochLoader", "EpochSampler", "derive_seed"]


def derive_seed(*parts: int) -> int:
    """Mix integers into the seed of a random generator, alike on every platform and in every process.

    Args:
        parts: for example the run's seed, the epoch and the index of a sample.

    Returns:
        63 well mixed bits: neighboring parts give unrelated seeds.

    Example:
        >>> derive_seed(0, 1) != derive_seed(1, 0)
        True
    """
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


class EpochSampler(DistributedSampler[tuple[Any, ...]]):
    """Shuffle by (seed, epoch) alone, and hand the epoch on to the data set with every index.

    The data set can then augment by (seed, epoch, index), which makes a run independent of the number of workers, and
    equal to itself after a restart. Lightning sets the epoch of a ``DistributedSampler`` and never replaces it.

    Every rank draws the same number of indices. Where the ranks do not divide the data set, ``drop_last`` leaves some
    samples out (others in each epoch), otherwise some come twice. Set to a number of indices, ``skip_next`` has the
    next iteration, and only that, begin after so many.

    Args:
        data: what is sampled; only its length counts.
        num_replicas: number of ranks.
        rank: this rank.
        shuffle: permute the indices in each epoch.
        seed: seed of the permutations.
        drop_last: how to even out the ranks, see above.
        extras: more to hand on with an index, called with it shortly before the sample is read.
        repeats: how often each sample comes in an epoch; what is handed on as the epoch then counts these, so that
            each time is augmented in its own way.

    Example:
        >>> sampler = EpochSampler(range(3), shuffle=False)
        >>> sampler.set_epoch(7)
        >>> list(sampler)
        [(7, 0), (7, 1), (7, 2)]
        >>> list(EpochSampler(range(1), shuffle=False, repeats=3))
        [(0, 0), (1, 0), (2, 0)]
    """

    def __init__(
        self,
        data: Sized,
        num_replicas: int = 1,
        rank: int = 0,
        shuffle: bool = True,
        seed: int = 0,
        drop_last: bool = False,
        extras: Callable[[int], tuple[Any, ...]] | None = None,
        repeats: int = 1,
    ) -> None:
        if len(data) == 0:
            raise UserError("there is nothing to sample from: `data` is empty")
        self.size, self.repeats = len(data), repeats
        positions = range(self.size * repeats)
        super().__init__(positions, num_replicas, rank, shuffle, seed, drop_last and len(positions) >= num_replicas)  # type: ignore[arg-type]
        self.extras = extras
        self.skip_next = 0

    @override
    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        epoch = self.epoch
        skipped, self.skip_next = self.skip_next, 0
        for position in islice(self.order(torch.Generator().manual_seed(derive_seed(self.seed, epoch))), skipped, None):
            repeat, index = divmod(position, self.size)
            yield epoch * self.repeats + repeat, index, *(self.extras(index) if self.extras is not None else ())

    def order(self, generator: torch.Generator) -> Iterator[int]:
        """Indices of one epoch, those of this rank; repeats go on counting where the samples end."""
        size = len(self.dataset)  # type: ignore[arg-type]
        # No list: of 1e8 images it would take 4 GB on each rank.
        order = torch.randperm(size, generator=generator) if self.shuffle else range(size)
        for position in range(self.rank, self.total_size, self.num_replicas):
            yield int(order[position % size])


class BalancedSampler(EpochSampler):
    """Alternate between images that show a class and images that do not, so that each even batch has as many of both.

    An epoch goes once through the larger kind; the smaller is gone through again, in a new order, as often as needed.

    Args:
        positive: whether each image shows the class; some do and some do not.
        num_replicas: number of ranks; what they do not divide is left out, of others in each epoch.
        rank: this rank.
        seed: seed of the permutations.
        extras: more to hand on with an index, see :class:`EpochSampler`.

    Raises:
        ValueError: if there are images of one kind alone.

    Example:
        >>> positive = [True, False, False, False]
        >>> [positive[index] for _, index in BalancedSampler(positive)]
        [True, False, True, False, True, False]
    """

    def __init__(
        self,
        positive: Sequence[bool],
        num_replicas: int = 1,
        rank: int = 0,
        seed: int = 0,
        extras: Callable[[int], tuple[Any, ...]] | None = None,
    ) -> None:
        self.kinds = [[index for index, one in enumerate(positive) if one == kind] for kind in (True, False)]
        if not all(self.kinds):
            raise UserError("`positive` must be true of some images and false of others, or no batch can be balanced")
        self.pairs = max(map(len, self.kinds)) // num_replicas
        if self.pairs == 0:
            raise UserError(f"{len(positive)} images cannot be shared out to {num_replicas} ranks")
        super().__init__(positive, num_replicas, rank, seed=seed, extras=extras)

    @override
    def __len__(self) -> int:
        return 2 * self.pairs

    @override
    def order(self, generator: torch.Generator) -> Iterator[int]:
        """Pairs of a positive and a negative, those of this rank."""
        wanted = self.pairs * self.num_replicas
        drawn = [_cycled(kind, max(map(len, self.kinds)), generator)[:wanted] for kind in self.kinds]
        for position in range(self.rank, wanted, self.num_replicas):
            yield from (kind[position] for kind in drawn)


def _cycled(indices: Sequence[int], count: int, generator: torch.Generator) -> list[int]:
    """At least ``count`` indices, each as often as the others, but for the last round."""
    rounds = -(-count // len(indices))
    orders = (torch.randperm(len(indices), generator=generator).tolist() for _ in range(rounds))
    return [indices[place] for order in orders for place in order]


class EpochLoader(DataLoader[Any]):
    """A loader that goes on within an epoch, after the batches that the checkpoint of a run had trained with.

    It asks its sampler for indices when the first batch is wanted, not when iteration is announced: Lightning calls
    ``iter`` on the training loader before it restores the epoch from a checkpoint, and keeps that iterator. Workers
    that start at once would fetch the first batches of epoch 0 in a resumed run.
    """

    batches_trained: Callable[[], int] | None = None
    """Tells how many batches of the current epoch are trained with; batches that wait in memory do not count."""

    lookahead: bool = False
    """True to have each batch hold the one after it in the epoch, as ``next_batch``."""

    def state_dict(self) -> dict[str, Any]:
        """The place of the run in the epoch, for its checkpoint; Lightning calls this, and the next."""
        return {"batches": 0 if self.batches_trained is None else self.batches_trained()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Begin the next iteration where :meth:`state_dict` was called."""
        assert isinstance(self.sampler, EpochSampler)
        assert self.batch_size is not None
        self.sampler.skip_next = state["batches"] * self.batch_size

    @override
    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        batches = super().__iter__()
        yield from _with_next(batches) if self.lookahead else batches


def _with_next(batches: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    batch = next(batches, None)
    while batch is not None:
        following = next(batches, None)
        yield batch if following is None else batch | {"next_batch": following}
        batch = following
