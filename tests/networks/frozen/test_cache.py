"""Features are computed once per content, and again where they are lost, damaged or too many."""

import copy
import multiprocessing
import pickle

import pytest
import torch

from weakseg_lightning.networks.frozen.cache import FeatureCache, digest_of

MEGABYTE = 2**20


def maps(value: float) -> list[torch.Tensor]:
    return [torch.full((1, 8, 16, 16), value, dtype=torch.half), torch.full((1, 4, 8, 8), -value, dtype=torch.half)]


class Encoder:
    """Counts what it computes."""

    def __init__(self) -> None:
        self.calls: list[float] = []

    def __call__(self, value: float):
        def compute() -> list[torch.Tensor]:
            self.calls.append(value)
            return maps(value)

        return compute


@pytest.fixture
def encode() -> Encoder:
    return Encoder()


def same(found, value: float) -> bool:
    return len(found) == 2 and all(torch.equal(ours, theirs) for ours, theirs in zip(found, maps(value), strict=True))


def test_names_tell_content_shape_of_names_and_type_apart():
    one = torch.arange(6.0)
    assert digest_of({"a": one}) == digest_of({"a": one.clone().view(2, 3)})
    others = [{"a": one + 1}, {"b": one}, {"a": one.double()}, {"a": one, "b": one}, {"a": -one}]
    assert len({digest_of(tensors) for tensors in [{"a": one}, *others]}) == 6


def test_each_is_computed_once(encode):
    cache = FeatureCache()
    for value in (1, 2, 1, 2, 2):
        assert same(cache.get(str(value), encode(value)), value)
    assert encode.calls == [1, 2]


def test_memory_holds_its_budget_and_the_latest(encode):
    each = sum(features.nbytes for features in maps(1))
    cache = FeatureCache(memory=2.5 * each / 2**30)
    for value in (1, 2, 1, 3, 1, 2):  # 3 drives out 2, which was used longest ago
        cache.get(str(value), encode(value))
    assert encode.calls == [1, 2, 3, 2]
    assert cache._kept_bytes == 2 * each


def test_what_memory_cannot_hold_is_read_from_disk(tmp_path, encode):
    cache = FeatureCache(str(tmp_path / "features"), memory=0)
    for value in (1, 2, 1, 2):
        assert same(cache.get(f"lite0/{value}", encode(value)), value)
    assert encode.calls == [1, 2]
    again = FeatureCache(str(tmp_path / "features"))
    assert same(again.get("lite0/2", encode(7)), 2)
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["1.safetensors", "2.safetensors"]


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[-5] ^= 4
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [cut, flip_a_bit, lambda path: path.write_bytes(b""), lambda path: path.unlink()])
def test_damaged_entries_are_made_again(tmp_path, encode, damage):
    folder = str(tmp_path)
    FeatureCache(folder).get("a/1", encode(1))
    damage(tmp_path / "a" / "1.safetensors")
    assert same(FeatureCache(folder).get("a/1", encode(1)), 1)
    assert encode.calls == [1, 1]
    assert same(FeatureCache(folder).get("a/1", encode(1)), 1)
    assert encode.calls == [1, 1]


def test_disk_holds_its_budget_and_says_so_once(tmp_path, encode):
    each = sum(features.nbytes for features in maps(1))
    cache = FeatureCache(str(tmp_path), memory=0, disk=2.5 * each / 2**30)
    for value in (1, 2):
        cache.get(str(value), encode(value))
    with pytest.warns(UserWarning, match=r"not all features fit into the `disk: .* train on whole images"):
        cache.get("3", encode(3))
    for value in (4, 3, 1):  # no second warning, which would be an error here
        assert same(cache.get(str(value), encode(value)), value)
    assert encode.calls == [1, 2, 3, 4, 3]
    assert len(list(tmp_path.iterdir())) == 2


def test_an_entry_that_does_not_fit_leaves_room_for_others(tmp_path, encode):
    each = sum(features.nbytes for features in maps(1))
    cache = FeatureCache(str(tmp_path), memory=0, disk=2.5 * each / 2**30)
    with pytest.warns(UserWarning, match="not all features fit"):
        cache.get("large", lambda: [torch.zeros(3 * each, dtype=torch.uint8)])
    for value in (1, 2, 1, 2):
        assert same(cache.get(str(value), encode(value)), value)
    assert encode.calls == [1, 2]
    assert sorted(path.stem for path in tmp_path.iterdir()) == ["1", "2"]


def test_a_folder_that_cannot_be_written_costs_time_alone(tmp_path, encode):
    (tmp_path / "file").write_text("")
    cache = FeatureCache(str(tmp_path / "file" / "features"), memory=0)
    with pytest.warns(UserWarning, match="features are not kept on disk"):
        cache.get("1", encode(1))
    assert same(cache.get("1", encode(1)), 1)
    assert encode.calls == [1, 1]


def _get(folder: str, rounds: int) -> None:
    cache = FeatureCache(folder, memory=0)
    for number in range(rounds):
        assert same(cache.get(f"a/{number % 5}", lambda number=number: maps(number % 5)), number % 5)


def test_processes_share_a_folder(tmp_path):
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_get, args=(str(tmp_path), 200)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert len(list(tmp_path.rglob("*.safetensors"))) == 5
    assert not list(tmp_path.rglob("*.tmp"))


def test_copies_of_a_network_share_it_and_pickles_carry_its_settings_alone(encode):
    cache = FeatureCache(memory=0.5)
    cache.get("1", encode(1))
    assert copy.deepcopy(cache) is cache
    sent = pickle.loads(pickle.dumps(cache))
    assert (sent.folder, sent.memory, sent.disk) == (None, 0.5, 10.0)
    sent.get("1", encode(1))
    assert encode.calls == [1, 1]


@pytest.mark.parametrize("name", ["memory", "disk"])
def test_negative_budgets_are_errors(name):
    with pytest.raises(ValueError, match=f"`{name}` must be at least 0, got -1"):
        FeatureCache(**{name: -1})
