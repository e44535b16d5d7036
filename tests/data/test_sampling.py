"""Order by (seed, epoch) alone, shared out between ranks."""

import pytest
import torch

from weakseg_lightning.data.sampling import EpochLoader, EpochSampler, derive_seed


def draw(epoch: int = 0, **arguments: object) -> list[tuple[int, int]]:
    sampler = EpochSampler(range(arguments.pop("size", 11)), **arguments)
    sampler.set_epoch(epoch)
    assert len(sampler) == len(list(sampler))
    return list(sampler)


def test_epoch_comes_with_every_index():
    drawn = draw(epoch=3)
    assert {epoch for epoch, _ in drawn} == {3}
    assert sorted(index for _, index in drawn) == list(range(11))


def test_order_is_a_function_of_seed_and_epoch():
    torch.manual_seed(1)
    first = draw(epoch=2, seed=5)
    torch.manual_seed(2)
    assert draw(epoch=2, seed=5) == first
    others = [[index for _, index in draw(epoch, seed=seed)] for epoch, seed in [(3, 5), (2, 6), (3, 4), (1, 6)]]
    assert all(order != [index for _, index in first] for order in others)


def test_resumed_sampler_repeats_the_epoch():
    undisturbed = EpochSampler(range(20), seed=1)
    orders = []
    for epoch in range(4):
        undisturbed.set_epoch(epoch)
        orders.append(list(undisturbed))
    assert draw(epoch=3, seed=1, size=20) == orders[3]


@pytest.mark.parametrize(("size", "ranks"), [(10, 2), (11, 2), (12, 5), (2, 3), (1, 4)])
def test_ranks_share_the_data_set_evenly(size, ranks):
    shares = [draw(size=size, num_replicas=ranks, rank=rank) for rank in range(ranks)]
    assert len({len(share) for share in shares}) == 1
    assert {index for share in shares for _, index in share} == set(range(size))


@pytest.mark.parametrize(("size", "ranks"), [(10, 2), (11, 2), (13, 5)])
def test_dropping_gives_no_index_twice(size, ranks):
    shares = [draw(size=size, num_replicas=ranks, rank=rank, drop_last=True) for rank in range(ranks)]
    drawn = [index for share in shares for _, index in share]
    assert [len(share) for share in shares] == [size // ranks] * ranks
    assert len(set(drawn)) == len(drawn)


def test_more_ranks_than_samples_are_not_left_empty():
    assert all(len(draw(size=2, num_replicas=3, rank=rank, drop_last=True)) == 1 for rank in range(3))


def test_empty_data_set_is_refused():
    with pytest.raises(ValueError, match="`data` is empty"):
        EpochSampler([])


@pytest.mark.parametrize("workers", [0, 2])
def test_loader_asks_for_indices_when_the_first_batch_is_wanted(workers):
    class Echo:
        def __len__(self) -> int:
            return 6

        def __getitem__(self, index: tuple[int, int]) -> tuple[int, int]:
            return index

    data = Echo()
    sampler = EpochSampler(data)
    loader = EpochLoader(data, 2, sampler=sampler, num_workers=workers, collate_fn=list)
    iterator = iter(loader)
    sampler.set_epoch(9)  # as Lightning does after a restart, see EpochLoader
    assert {epoch for batch in iterator for epoch, _ in batch} == {9}


def test_derived_seeds_do_not_repeat():
    seeds = {derive_seed(seed, epoch, index) for seed in range(10) for epoch in range(10) for index in range(100)}
    assert len(seeds) == 10_000
    assert all(0 <= seed < 2**63 for seed in seeds)
