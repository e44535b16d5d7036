"""Samplers: reproducible order for training, every image once for evaluation."""

import hashlib
from collections.abc import Callable, Iterator, Sized
from typing import Any

import torch
from torch.utils.data import DataLoader
from torch.utils.data.distributed import DistributedSampler
from typing_extensions import override

__all__ = ["EpochLoader", "EpochSampler", "derive_seed"]


def derive_seed(*parts: int) -> int:
    """Mix integers into the seed of a random generator, alike on every platform and in every process.

    Args:
        parts: for example the run's seed, the epoch and the index of a sample.

    Returns:
        63 well mixed bits: neighbouring parts give unrelated seeds.

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

    Example:
        >>> sampler = EpochSampler(range(3), shuffle=False)
        >>> sampler.set_epoch(7)
        >>> list(sampler)
        [(7, 0), (7, 1), (7, 2)]
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
    ) -> None:
        if len(data) == 0:
            raise ValueError("there is nothing to sample from: `data` is empty")
        super().__init__(data, num_replicas, rank, shuffle, seed, drop_last and len(data) >= num_replicas)  # type: ignore[arg-type]
        self.extras = extras
        self.skip_next = 0

    @override
    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        size, epoch = len(self.dataset), self.epoch  # type: ignore[arg-type]
        generator = torch.Generator().manual_seed(derive_seed(self.seed, epoch))
        # No list: of 1e8 images it would take 4 GB on each rank.
        order = torch.randperm(size, generator=generator) if self.shuffle else range(size)
        skipped, self.skip_next = self.skip_next, 0
        for position in range(self.rank + skipped * self.num_replicas, self.total_size, self.num_replicas):
            index = int(order[position % size])
            yield epoch, index, *(self.extras(index) if self.extras is not None else ())


class EpochLoader(DataLoader[Any]):
    """A loader that goes on within an epoch, after the batches that the checkpoint of a run had trained with.

    It asks its sampler for indices when the first batch is wanted, not when iteration is announced: Lightning calls
    ``iter`` on the training loader before it restores the epoch from a checkpoint, and keeps that iterator. Workers
    that start at once would fetch the first batches of epoch 0 in a resumed run.
    """

    batches_trained: Callable[[], int] | None = None
    """Tells how many batches of the current epoch are trained with; batches that wait in memory do not count."""

    lookahead: bool = False
    """Whether each batch holds the one after it in the epoch, as ``following``."""

    def state_dict(self) -> dict[str, Any]:
        """Where in the epoch the run is, for its checkpoint; Lightning calls this, and the next."""
        return {"batches": 0 if self.batches_trained is None else self.batches_trained()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Begin the next iteration where :meth:`state_dict` was called."""
        assert isinstance(self.sampler, EpochSampler)
        assert self.batch_size is not None
        self.sampler.skip_next = state["batches"] * self.batch_size

    @override
    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        batches = super().__iter__()
        yield from _with_following(batches) if self.lookahead else batches


def _with_following(batches: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    batch = next(batches, None)
    while batch is not None:
        following = next(batches, None)
        yield batch if following is None else batch | {"following": following}
        batch = following
