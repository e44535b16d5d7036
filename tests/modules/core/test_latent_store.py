import multiprocessing
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from processes import kill, start, wait_for_text

from weakseg_lightning.data.images.reading import read_labels
from weakseg_lightning.modules.core.latent_store import LatentStore, compress, decompress

SETTINGS = {"network": {"class_path": "Net", "init_args": {"width": 3}}, "num_classes": 3}


def labels(seed, size=(30, 41)):
    return np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)


@pytest.fixture(params=["memory", "folder", "address"])
def make_store(request, tmp_path):
    """Stores of one run: each call is another process's, as it were."""
    path = {"memory": None, "folder": str(tmp_path / "latents"), "address": f"memory://{tmp_path}/latents"}
    return lambda: opened(LatentStore(path[request.param]))


def opened(store, settings=SETTINGS):
    store.open(settings)
    return store


@pytest.mark.parametrize("size", [(1, 1), (3, 500), (375, 500)])
def test_compression_keeps_every_label(size):
    assert np.array_equal(decompress(compress(labels(0, size)))[0], labels(0, size))
    found, solved_for = decompress(compress(labels(1, size).T, 0xFFFFFFFF))
    assert np.array_equal(found, labels(1, size).T)
    assert solved_for == 0xFFFFFFFF


def test_every_damage_is_noticed():
    data = compress(np.repeat(labels(0, (6, 5)), 2, axis=0))
    for byte in range(len(data)):
        for bit in (0, 3, 7):
            damaged = bytearray(data)
            damaged[byte] ^= 1 << bit
            try:
                found = decompress(bytes(damaged))[0]
            except ValueError:
                continue
            assert np.array_equal(found, decompress(data)[0]), "a changed byte that changes nothing may pass"
    for length in range(len(data)):
        with pytest.raises(ValueError, match=r"it is|its checksum"):
            decompress(data[:length])


def test_labelings_come_back(make_store):
    store = make_store()
    store.begin("a")
    ids = ["2007_000032", "folder/image 1", "写真" * 40, "..", "x" * 400]
    for seed, name in enumerate(ids):
        assert store.get(name) is None
        store.put(name, labels(seed))
    for seed, name in enumerate(ids):
        assert np.array_equal(store.get(name), labels(seed))
    store.put(ids[0], labels(9))
    assert np.array_equal(store.get(ids[0]), labels(9))


def test_two_generations_are_kept(make_store):
    store = make_store()
    for number, generation in enumerate("abc"):
        store.begin(generation)
        store.begin(generation)
        assert store.get("image") is None
        store.put("image", labels(number))
    assert np.array_equal(store.get("image"), labels(2))
    assert np.array_equal(store.get("image", age=1), labels(1))
    assert store.get("image", age=2) is None
    store.generations.insert(0, "a")
    assert store.get("image", age=2) is None, "dropped, not only forgotten"


def test_a_ticket_is_redeemed_in_another_process(make_store):
    store = make_store()
    store.begin("a")
    assert store.resolve(store.reference("image")) is None
    store.put("image", labels(4))
    if store.path is not None and store.path.startswith("memory://"):
        return  # fsspec's file system in memory belongs to one process
    with multiprocessing.get_context("forkserver").Pool(1) as pool:
        assert np.array_equal(pool.apply(LatentStore.resolve, (store.reference("image"),)), labels(4))


def test_state_goes_on_elsewhere(make_store, tmp_path):
    store = make_store()
    for generation in "ab":
        store.begin(generation)
        store.put("image", labels(ord(generation)))
        store.put("other", labels(7, (2, 3)))
    torch.save(store.state_dict(), tmp_path / "state")
    again = make_store()
    again.load_state_dict(torch.load(tmp_path / "state", weights_only=True))
    assert np.array_equal(again.get("image"), labels(ord("b")))
    assert np.array_equal(again.get("image", age=1), labels(ord("a")))
    assert np.array_equal(again.get("other"), labels(7, (2, 3)))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"num_classes": 4}, "`num_classes` 3, this run has 4"),
        ({"network": {"class_path": "Net", "init_args": {"width": 4}}}, r"`network\.width` 3, this run has 4"),
        ({"network": {"class_path": "Other", "init_args": {}}}, r"`network\.class_path` Net, this run has Other"),
        ({"labels": "all"}, "`labels` None, this run has all"),
    ],
)
def test_labelings_of_another_network_or_energy_raise(changed, words, tmp_path):
    opened(LatentStore(str(tmp_path)))
    opened(LatentStore(str(tmp_path)))
    with pytest.raises(ValueError, match=rf"the store in {tmp_path} has labelings that were solved with {words}"):
        opened(LatentStore(str(tmp_path)), SETTINGS | changed)
    with pytest.raises(ValueError, match=rf"the checkpoint has labelings that were solved with {words}"):
        opened(LatentStore(), SETTINGS | changed).load_state_dict(opened(LatentStore()).state_dict())


def test_damaged_manifest_is_named(tmp_path):
    (tmp_path / "store.json").write_text('{"network": ')
    with pytest.raises(ValueError, match=r"store\.json is damaged .*empty `store\.path`"):
        opened(LatentStore(str(tmp_path)))


@pytest.mark.parametrize("damage", [lambda data: data[:40], lambda data: b"", lambda data: data[:-5] + b"12345"])
def test_broken_entry_counts_as_missing_with_a_warning(damage, tmp_path):
    store = opened(LatentStore(str(tmp_path)))
    store.begin("a")
    store.put("image", labels(0))
    (file,) = (tmp_path / "a").glob("*/*")
    file.write_bytes(damage(file.read_bytes()))
    with pytest.warns(UserWarning, match=r"image\.labels is broken .*solved for again"):
        assert store.get("image") is None
    store.put("image", labels(1))
    assert np.array_equal(store.get("image"), labels(1))


def test_writers_that_are_killed_leave_whole_entries(tmp_path):
    """Two processes write one entry over and over; they are killed in the midst while it is read."""
    store = LatentStore(str(tmp_path))
    store.generations = ["a"]
    program = Path(__file__).parents[2] / "programs/store_writer.py"
    rng = np.random.default_rng(0)
    seen = set()
    for again in range(3):
        printed = [tmp_path / f"printed-{again}-{number}" for number in range(2)]
        writers = [start(program, tmp_path, out=path) for path in printed]
        try:
            for path in printed:
                wait_for_text(path, "ready\n", writers)
            end = time.monotonic() + rng.uniform(0.2, 0.6)
            while time.monotonic() < end or not seen:
                found = store.get("image")
                if found is not None:
                    assert found.shape == (200, 300)
                    assert (found == found[0, 0]).all()
                    seen.add(int(found[0, 0]))
        finally:
            kill(writers)
        found = store.get("image")
        assert (found == found[0, 0]).all()
    assert len(seen) > 5


def test_all_of_voc_takes_less_than_100_megabytes(shared):
    """The masks of the training images, which have more borders than what a graph cut finds."""
    store = opened(LatentStore())
    store.begin("a")
    paths = sorted(Path(shared, "data/VOCdevkit/VOC2012/SegmentationClassAug").glob("*.png"))[:200]
    for path in paths:
        store.put(path.stem, read_labels(path).numpy())
    assert store.nbytes / len(paths) * 10_582 < 100e6


@pytest.mark.parametrize("address", ["nonsense://bucket/run", "{file}/run"])
def test_a_path_that_cannot_be_opened_is_named(address, tmp_path):
    (tmp_path / "file").write_text("")
    path = address.format(file=tmp_path / "file")
    with pytest.raises(OSError, match=rf"`store\.path`: {path} cannot be used: "):
        opened(LatentStore(path))
