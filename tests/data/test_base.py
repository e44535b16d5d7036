"""Loaders: reproducible in training, complete in evaluation, under Lightning as it is."""

import json
import pickle
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor

from weakseg_lightning.data import BadSampleError, SegmentationDataModule
from weakseg_lightning.hyperparameters import describe
from weakseg_lightning.modules.core.latent_store import LatentStore


class SquaresDataModule(SegmentationDataModule):
    """The pictures of the fixture as a data module."""

    def __init__(
        self,
        train,
        val,
        batch_size: int = 4,
        num_workers: int = 0,
        seed=3,
        on_bad_sample="error",
        tags_from="image",
        size_thresholds=(0.1,),
        full_fraction: float = 0.0,
    ) -> None:
        super().__init__(
            batch_size,
            32,
            num_workers=num_workers,
            seed=seed,
            on_bad_sample=on_bad_sample,
            tags_from=tags_from,
            size_thresholds=size_thresholds,
            full_fraction=full_fraction,
        )
        self.train, self.val = train, val

    @property
    def class_names(self) -> list[str]:
        return ["background", "odd", "even"]

    def train_source(self):
        return self.train

    def val_source(self):
        return self.val


@pytest.fixture
def make_data(squares):
    def make(train: int = 11, val: int = 5, **arguments) -> SquaresDataModule:
        return SquaresDataModule(squares(train), squares(val), **arguments)

    return make


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
        data.batch_hook.put(data.train.ids[index], data.train[index].mask.numpy())
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
            assert torch.equal(data.replay(mask, whole["draw"]), batch["mask"][position])


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


def test_constructor_arguments_are_kept():
    described = describe(SquaresDataModule(None, None, batch_size=7))["init_args"]
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


# ---- under Lightning --------------------------------------------------------------------------------------------


class Recorder(LightningModule):
    """Writes down which images it saw; asks for the number of steps early, as schedules do."""

    def __init__(self, folder=None) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.folder = folder
        self.seen: dict[str, list] = {"train": [], "val": []}

    def configure_optimizers(self):
        assert self.trainer.estimated_stepping_batches > 0
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def training_step(self, batch, batch_idx):
        self.seen["train"].append([self.current_epoch, *batch["id"], round(float(batch["image"].sum()), 1)])
        return self.layer(torch.ones(1, 1)).sum()

    def validation_step(self, batch, batch_idx):
        self.seen["val"].append([self.current_epoch, *batch["id"]])

    test_step = validation_step

    def predict_step(self, batch, batch_idx):
        return batch["id"]

    def on_fit_end(self):
        if self.folder is not None:
            (self.folder / f"rank_{self.global_rank}.json").write_text(json.dumps(self.seen))


def make_trainer(folder, epochs: int, **arguments) -> Trainer:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    return Trainer(
        accelerator="cpu", max_epochs=epochs, default_root_dir=folder, num_sanity_val_steps=0, **quiet, **arguments
    )


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
def test_resumed_run_sees_what_the_undisturbed_one_saw(make_data, tmp_path, workers):
    whole, resumed = Recorder(), Recorder()
    keep_all = ModelCheckpoint(tmp_path, "{epoch}", save_top_k=-1)
    make_trainer(tmp_path, 4, callbacks=[keep_all]).fit(whole, make_data(num_workers=workers))
    assert len({tuple(step[1:]) for step in whole.seen["train"]}) == 8

    again = make_trainer(tmp_path, 4, callbacks=[ModelCheckpoint(tmp_path)])
    again.fit(resumed, make_data(num_workers=workers), ckpt_path=tmp_path / "epoch=1.ckpt")
    assert resumed.seen["train"] == whole.seen["train"][4:]


@pytest.mark.filterwarnings("ignore:You requested to overfit but enabled train dataloader shuffling")
def test_overfitting_repeats_the_same_crops(make_data, tmp_path):
    module = Recorder()
    make_trainer(tmp_path, 2, overfit_batches=2, enable_checkpointing=False).fit(module, make_data(num_workers=2))
    first, second = module.seen["train"][:2], module.seen["train"][2:]
    assert [step[1:] for step in first] == [step[1:] for step in second]
    assert len({name for step in first for name in step[1:-1]}) == 8


def test_validation_and_test_see_every_image_once(make_data, tmp_path):
    module = Recorder()
    trainer = make_trainer(tmp_path, 1, enable_checkpointing=False)
    trainer.validate(module, make_data(), verbose=False)
    trainer.test(module, make_data(), verbose=False)
    assert module.seen["val"] == [[0, f"picture_{index}"] for index in range(5)] * 2


def test_prediction_sees_every_image_once(make_data, tmp_path):
    predicted = make_trainer(tmp_path, 1, enable_checkpointing=False).predict(Recorder(), make_data())
    assert predicted == [[f"picture_{index}"] for index in range(5)]


def test_data_sets_can_be_sent_to_spawned_workers(make_data):
    loader = make_data().train_dataloader()
    sent = pickle.loads(pickle.dumps(loader.dataset))
    assert torch.equal(sent[3, 1]["image"], loader.dataset[3, 1]["image"])


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_two_processes_share_training_and_evaluation(make_data, tmp_path):
    trainer = make_trainer(tmp_path, 2, strategy="ddp_fork", devices=2, enable_checkpointing=False)
    recorder = Recorder(tmp_path)
    recorder.automatic_optimization = False  # forks cannot compute gradients where their parent did
    trainer.fit(recorder, make_data(batch_size=2))
    seen = [json.loads((tmp_path / f"rank_{rank}.json").read_text()) for rank in range(2)]
    for epoch in (0, 1):
        evaluated = [step[1] for rank in seen for step in rank["val"] if step[0] == epoch]
        assert sorted(evaluated) == [f"picture_{index}" for index in range(5)]
        trained = [name for rank in seen for step in rank["train"] if step[0] == epoch for name in step[1:-1]]
        assert len(set(trained)) == len(trained) == 8
    assert seen[0]["train"][:2] != seen[0]["train"][2:]
