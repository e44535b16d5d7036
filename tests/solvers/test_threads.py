import pytest
import torch

from weakseg_lightning.solvers import AlphaExpansion, MeanField, SoftPotts, threads


@pytest.fixture
def sixteen_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    monkeypatch.setattr(threads.os, "sched_getaffinity", lambda _: set(range(16)), raising=False)


@pytest.mark.usefixtures("sixteen_cores")
@pytest.mark.parametrize(("ranks", "expected"), [("1", 16), ("4", 4), ("5", 3), ("64", 1), ("nonsense", 16)])
def test_ranks_of_a_machine_share_its_cores(ranks: str, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", ranks)
    assert threads.default_num_threads() == expected


@pytest.mark.usefixtures("sixteen_cores")
@pytest.mark.parametrize(("ranks", "loaders", "expected"), [(1, 4, 12), (4, 1, 3), (4, 4, 2), (1, 99, 8), (16, 4, 1)])
def test_loaders_get_their_cores_but_no_more_than_half(
    ranks: int, loaders: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(ranks))
    threads.leave_cores(loaders)
    try:
        assert threads.default_num_threads() == expected
    finally:
        threads.leave_cores(0)


def test_solvers_do_not_mind_the_default_type_that_a_network_in_half_precision_sets():
    """It holds for all threads: the solver's are of single precision all the same."""
    logits, image = torch.randn(1, 3, 6, 7), torch.rand(1, 3, 6, 7)
    seeds = torch.full((1, 6, 7), 255)
    seeds[0, 0, 0], seeds[0, 5, 6] = 0, 2
    for solver in (AlphaExpansion(), SoftPotts(), SoftPotts(relaxation="normalized", max_sweeps=5), MeanField()):
        expected = solver.solve(logits, image, seeds=seeds).labels
        torch.set_default_dtype(torch.bfloat16)
        try:
            found = solver.solve(logits, image, seeds=seeds)
        finally:
            torch.set_default_dtype(torch.float32)
        assert torch.equal(found.labels, expected), type(solver).__name__
