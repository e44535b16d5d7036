"""Loaders: reproducible in training, complete in evaluation; bad samples stop them or are left out."""

import pickle
import sys
import threading
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from weakseg_lightning.data import BadSampleError, ScenesDataModule, SegmentationDataModule
from weakseg_lightning.data.dataset import Loaded
from weakseg_lightning.hyperparameters import describe
from weakseg_lightning.modules.core.latent_store import LatentStore


def on_rank(data: SegmentationDataModule, rank: int, ranks: int) -> SegmentationDataModule:
    data.trainer = SimpleNamespace(global_rank=rank, world_size=ranks, num_devices=ranks)
    return data


def read(loader, epoch: int = 0) -> list[dict]:
    if hasattr(loader.sampler, "set_epoch"):
        loader.sampler.set_epoch(epoch)
    return list(loader)


def assert_same_batches(first: list[dict], second: list[dict]) -> None:
    assert len(first) == len(second) > 0
    for left, right in zip(first, second, strict=True):
        for name, value in left.items():
            assert torch.equal(value, right[name]) if isinstance(value, Tensor) else value == right[name]


def test_classes_and_colors(make_data):
    data = make_data()
    assert data.num_classes == 3
    assert data.palette.shape == (3, 3)


def test_training_batches_are_full_and_of_different_images(make_data):
    batches = read(make_data().train_dataloader())
    assert [len(batch["id"]) for batch in batches] == [4, 4]
    names = [name for batch in batches for name in batch["id"]]
    assert len(set(names)) == 8


def test_fewer_images_than_a_batch_make_a_smaller_one(make_data):
    assert [len(batch["id"]) for batch in read(make_data(train=3).train_dataloader())] == [3]


def test_number_of_workers_changes_nothing(make_data):
    alone, shared = make_data().train_dataloader(), make_data(num_workers=2).train_dataloader()
    for epoch in (0, 1, 4):
        assert_same_batches(read(alone, epoch), read(shared, epoch))


def test_epochs_differ_and_repeat_after_a_restart(make_data):
    loader = make_data().train_dataloader()
    epochs = [read(loader, epoch) for epoch in range(3)]
    assert epochs[0][0]["id"] != epochs[1][0]["id"]
    assert_same_batches(read(make_data().train_dataloader(), 2), epochs[2])


def test_seed_is_that_of_the_run(make_data, monkeypatch):
    monkeypatch.setenv("PL_GLOBAL_SEED", "3")
    assert_same_batches(read(make_data(seed=None).train_dataloader()), read(make_data(seed=3).train_dataloader()))
    monkeypatch.delenv("PL_GLOBAL_SEED")
    assert_same_batches(read(make_data(seed=None).train_dataloader()), read(make_data(seed=0).train_dataloader()))


def test_loading_leaves_the_global_random_state_alone(make_data):
    state = torch.get_rng_state()
    read(make_data(num_workers=1).train_dataloader())
    read(make_data().val_dataloader())
    assert torch.equal(state, torch.get_rng_state())


def test_evaluation_sees_whole_images_in_order(make_data):
    batches = read(make_data().val_dataloader())
    assert [batch["id"] for batch in batches] == [[f"picture_{index}"] for index in range(5)]
    assert all(batch["image"].shape == (1, 3, 40, 48) and batch["valid"].all() for batch in batches)
    data = make_data()
    assert_same_batches(read(data.test_dataloader()), batches)
    assert_same_batches(read(data.predict_dataloader()), batches)


@pytest.mark.parametrize("ranks", [1, 2, 3, 5])
def test_ranks_evaluate_every_image_once(make_data, ranks):
    shares = [read(on_rank(make_data(), rank, ranks).val_dataloader()) for rank in range(ranks)]
    names = [name for share in shares for batch in share for name in batch["id"]]
    assert sorted(names) == [f"picture_{index}" for index in range(5)]


def test_ranks_train_on_different_images(make_data):
    shares = [read(on_rank(make_data(batch_size=2), rank, 2).train_dataloader(), 1) for rank in range(2)]
    names = [{name for batch in share for name in batch["id"]} for share in shares]
    assert [len(share) for share in shares] == [2, 2]
    assert not names[0] & names[1]


def test_more_ranks_than_images_are_refused(make_data):
    with pytest.raises(ValueError, match="5 images cannot be shared out to 6 ranks"):
        on_rank(make_data(), 0, 6).val_dataloader()


def test_stored_labelings_reach_the_training_batches_alone(make_data):
    data = make_data()
    data.batch_hook = LatentStore()
    data.batch_hook.begin("first")
    loader = data.train_dataloader()
    assert "latent" not in read(loader)[0], "nobody wants them yet"
    data.batch_hook.enabled = True
    whole = {
        name: item for batch in read(loader) for name, item in zip(batch["id"], batch["whole"].values(), strict=True)
    }
    for index in range(0, len(data.train), 2):
        sample = data.train[index]
        apart = sample.guide, sample.colors, sample.valid, sample.boxes
        seen = Loaded(None, sample.image, sample.seeds, sample.tags, 0, None, *apart)
        data.batch_hook.put(sample.id, sample.mask.numpy(), seen.checksum())
    for batch in read(loader):
        for position, name in enumerate(batch["id"]):
            index = data.train.ids.index(name)
            stored = index % 2 == 0
            assert (position in batch.get("whole", {})) != stored
            expected = batch["mask"][position] if stored else torch.full_like(batch["mask"][position], 255)
            assert torch.equal(batch["latent"][position], expected)
    assert whole.keys() <= set(data.train.ids)
    assert "latent" not in read(data.val_dataloader())[0]


def test_labelings_are_augmented_as_their_images_were(make_data):
    data = make_data()
    data.batch_hook = LatentStore()
    data.batch_hook.enabled = True
    for batch in read(data.train_dataloader()):
        for position, whole in batch["whole"].items():
            mask = data.train[data.train.ids.index(batch["id"][position])].mask
            assert torch.equal(data.replay(mask, whole["draw"], whole["seeds"]), batch["mask"][position])


def test_some_training_images_show_their_masks(make_data):
    data = make_data(full_fraction=0.3)
    data.setup("fit")
    full = [batch["full"] for batch in read(data.train_dataloader())]
    shown = [
        bool((batch["seeds"][one] == batch["mask"][one]).all())
        for batch in read(data.train_dataloader())
        for one in range(4)
    ]
    assert torch.cat(full).tolist() == shown
    assert sum(bool(known["full"]) for known in data.facts_of_training()) == 3
    assert not any(batch["full"].any() for batch in read(data.val_dataloader()))


def test_tags_of_crops_are_for_training_alone(make_data):
    data = make_data(tags_from="crop")
    data.setup("fit")
    for batch in read(data.train_dataloader()):
        present = torch.stack([(batch["mask"] == label).flatten(1).any(1) for label in range(1, 3)], 1)
        assert torch.equal(batch["tags"][:, 1:], present)
        assert torch.equal(batch["sizes"][:, 1:] >= 0, present)
    assert data.val_dataloader().dataset.tags_from == "image"


def test_what_is_known_about_training_images_comes_in_order(make_data):
    data = make_data(train=7)
    known = list(data.facts_of_training())
    assert [one["id"] for one in known] == [f"picture_{index}" for index in range(7)]
    assert {(one["height"], one["width"]) for one in known} == {(40, 48)}
    batch = read(data.val_dataloader())[0]
    assert all(torch.equal(known[0][name], batch[name][0]) for name in ("tags", "sizes", "full"))


def test_constructor_arguments_are_kept(make_data):
    described = describe(make_data(batch_size=7))["init_args"]
    assert described["batch_size"] == 7
    assert described["on_bad_sample"] == "error"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "`batch_size` must be at least 1"),
        ({"num_workers": -1}, "`num_workers` must be at least 0"),
        ({"full_fraction": 1.5}, "`full_fraction` must be between 0 and 1, got 1.5"),
        ({"size_thresholds": (0.5, 0.1)}, "`size_thresholds` must ascend between 0 and 1"),
        ({"size_thresholds": (0.0,)}, "`size_thresholds` must ascend between 0 and 1"),
    ],
)
def test_errors(make_data, arguments, message):
    with pytest.raises(ValueError, match=message):
        make_data(**arguments)


def test_data_sets_can_be_sent_to_spawned_workers(make_data):
    loader = make_data().train_dataloader()
    sent = pickle.loads(pickle.dumps(loader.dataset))
    assert torch.equal(sent[3, 1]["image"], loader.dataset[3, 1]["image"])


@pytest.fixture
def object_store(monkeypatch):
    """The thread by which fsspec speaks with object stores, as it says of it."""
    asyn = pytest.importorskip("fsspec.asyn")
    monkeypatch.setattr(asyn, "iothread", [threading.current_thread()])


def test_workers_are_not_forked_beside_the_thread_of_an_object_store(object_store):
    loaders = [ScenesDataModule(num_train=4, num_val=2, batch_size=2, num_workers=count) for count in (0, 1)]
    for split in ("train", "val"):
        alone, shared = (getattr(data, f"{split}_dataloader")() for data in loaders)
        assert alone.multiprocessing_context is None
        assert shared.multiprocessing_context.get_start_method() == "forkserver"
        assert_same_batches(read(alone), read(shared))


def test_workers_start_as_the_platform_has_it_without_an_object_store(make_data, monkeypatch):
    monkeypatch.delitem(sys.modules, "fsspec.asyn", raising=False)
    assert make_data(num_workers=1).train_dataloader().multiprocessing_context is None


# ---- bad samples ------------------------------------------------------------------------------------------------


def with_problems(data, source, count: int = 2):
    source.find_problems = lambda: {index: f"file_{index} is torn" for index in range(count)}
    return data


def test_problems_stop_before_training(make_data):
    data = make_data()
    with pytest.raises(BadSampleError, match="2 of 11 train samples: file_0 is torn; file_1 is torn"):
        with_problems(data, data.train).setup("fit")
    data = make_data()
    with pytest.raises(BadSampleError, match="2 of 5 val samples"):
        with_problems(data, data.val).setup("validate")


def test_problems_are_skipped_with_one_warning(make_data):
    data = make_data(on_bad_sample="skip")
    with pytest.warns(UserWarning, match="skipping 2 of 11 train samples: file_0 is torn; file_1 is torn"):
        with_problems(data, data.train).setup("fit")
    names = {name for epoch in range(5) for batch in read(data.train_dataloader(), epoch) for name in batch["id"]}
    assert names == {f"picture_{index}" for index in range(2, 11)}


def test_many_problems_are_counted(make_data):
    data = make_data()
    with pytest.raises(BadSampleError, match="file_4 is torn; and 3 more"):
        with_problems(data, data.train, 8).setup("fit")


def test_nothing_left_is_an_error_also_when_skipping(make_data):
    data = make_data(on_bad_sample="skip")
    with pytest.raises(BadSampleError, match="5 of 5 val samples"):
        with_problems(data, data.val, 5).setup("validate")


def test_evaluation_without_bad_samples_counts_each_image_once(make_data):
    data = make_data(on_bad_sample="skip")
    data.val.broken[2] = replace(data.val[2], mask=torch.full((40, 48), 9, dtype=torch.uint8))
    with pytest.warns(UserWarning, match="skipping 1 of 5 val samples: mask of 'picture_2' holds the labels 9"):
        data.setup("validate")
    assert [batch["id"][0] for batch in read(data.val_dataloader())] == [f"picture_{index}" for index in (0, 1, 3, 4)]
