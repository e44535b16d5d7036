"""Order by (seed, epoch) alone, shared out between ranks."""

import pytest
import torch

from weakseg_lightning.data.sampling import BalancedSampler, EpochLoader, EpochSampler, derive_seed


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


def balanced(positive: list[bool], epoch: int = 0, **arguments: int) -> list[int]:
    sampler = BalancedSampler(positive, **arguments)
    sampler.set_epoch(epoch)
    drawn = list(sampler)
    assert len(sampler) == len(drawn)
    assert {found for found, _ in drawn} == {epoch}
    return [index for _, index in drawn]


def test_balanced_batches_hold_both_kinds_and_an_epoch_all_of_the_larger():
    positive = [index % 4 == 0 for index in range(20)]  # 5 and 15
    drawn = balanced(positive)
    assert [positive[index] for index in drawn] == [True, False] * 15
    assert sorted(drawn[1::2]) == [index for index in range(20) if not positive[index]]
    counts = [drawn[::2].count(index) for index in range(0, 20, 4)]
    assert counts == [3] * 5


def test_balanced_order_is_a_function_of_seed_and_epoch():
    positive = [index % 2 == 0 for index in range(30)]
    assert balanced(positive, 2, seed=5) == balanced(positive, 2, seed=5)
    others = [balanced(positive, epoch, seed=seed) for epoch, seed in [(2, 5), (3, 5), (2, 6)]]
    assert others[0] != others[1] != others[2] != others[0]


def test_balanced_ranks_share_an_epoch():
    positive = [index < 7 for index in range(20)]
    ranks = [balanced(positive, num_replicas=3, rank=rank) for rank in range(3)]
    assert [len(rank) for rank in ranks] == [8] * 3
    negative = [index for rank in ranks for index in rank[1::2]]
    assert len(set(negative)) == len(negative) == 12, "of 13, three ranks leave one out"
    assert all([positive[index] for index in rank] == [True, False] * 4 for rank in ranks)


def test_one_kind_alone_cannot_be_balanced():
    with pytest.raises(ValueError, match="`positive` must be true of some images and false of others"):
        BalancedSampler([True, True])
    with pytest.raises(ValueError, match="2 images cannot be shared out to 2 ranks"):
        BalancedSampler([True, False], num_replicas=2)


@pytest.mark.parametrize(("size", "world", "repeats"), [(1, 1, 4), (1, 2, 4), (2, 2, 4), (3, 2, 5)])
def test_repeated_samples_are_augmented_each_in_its_own_way(size, world, repeats):
    drawn = []
    for epoch in (0, 1):
        for rank in range(world):
            sampler = EpochSampler(range(size), world, rank, drop_last=True, repeats=repeats)
            sampler.set_epoch(epoch)
            drawn.append(list(sampler))
            assert len(drawn[-1]) == len(sampler) == size * repeats // world
            assert all(index in range(size) for _, index in drawn[-1])
    flat = [pair for of_rank in drawn for pair in of_rank]
    assert len(set(flat)) == len(flat)


def test_without_repeats_nothing_changes():
    once, again = EpochSampler(range(7), seed=3), EpochSampler(range(7), seed=3, repeats=1)
    for epoch in range(3):
        once.set_epoch(epoch)
        again.set_epoch(epoch)
        assert list(once) == list(again)
        assert {drawn for drawn, _ in once} == {epoch}
