"""Loaders under Lightning as it is: resumed, repeated, evaluated, on two ranks."""

import json

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint


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
