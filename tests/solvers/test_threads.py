import pytest

from weakseg_lightning.solvers import threads


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
