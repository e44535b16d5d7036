"""Batches travel as bytes, each once, and are on the device what modules expect."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader
from typing_extensions import override

from weakseg_lightning.data import ScenesDataModule, decode_batch
from weakseg_lightning.data.batches import BatchTransfer

Batch = dict[str, Any]

WIDE = {"image": torch.float32, "seeds": torch.int64, "mask": torch.int64}


def make_data(**arguments: Any) -> ScenesDataModule:
    settings = {"num_train": 8, "num_val": 2, "size": 40, "crop_size": 24, "batch_size": 4, "num_workers": 0, "seed": 3}
    return ScenesDataModule(**(settings | arguments))


def by_hand(batch: Batch) -> Batch:
    """What a module is to see of a loader's batch, made number by number."""
    table = torch.tensor([value / 255 for value in range(256)], dtype=torch.float32)
    return batch | {"image": table[batch["image"].long()], "seeds": batch["seeds"].long(), "mask": batch["mask"].long()}


def assert_same(first: Any, second: Any) -> None:
    assert type(first) is type(second)
    if isinstance(first, dict):
        assert first.keys() == second.keys()
        for name, value in first.items():
            assert_same(value, second[name])
    elif isinstance(first, Tensor):
        assert first.dtype == second.dtype
        assert torch.equal(first, second)
    else:
        assert first == second


# ---- decode_batch ----------------------------------------------------------------------------------------------


def test_every_byte_becomes_the_float_nearest_to_its_fraction() -> None:
    image = torch.arange(256, dtype=torch.uint8).expand(1, 3, 1, 256)
    expected = (torch.arange(256, dtype=torch.float64) / 255).to(torch.float32)
    assert torch.equal(decode_batch({"image": image})["image"], expected.expand(1, 3, 1, 256))


def test_a_batch_is_expanded_once_and_with_it_the_following_one() -> None:
    first, second = make_data().train_dataloader()
    batch = first | {"next_batch": second}
    expanded = decode_batch(batch)
    assert_same(expanded, by_hand(first) | {"next_batch": by_hand(second)})
    assert batch["image"].dtype == torch.uint8, "what was given is left alone"
    again = decode_batch(expanded)
    assert_same(again, expanded)
    assert again["image"] is expanded["image"]


def test_images_that_are_float_already_stay_as_they_are() -> None:
    image = torch.full((1, 3, 2, 2), 7.0, dtype=torch.float64)
    assert decode_batch({"image": image, "id": ["a"]})["image"] is image


# ---- under a Trainer --------------------------------------------------------------------------------------------


class Sees(LightningModule):
    """Keeps the batches of every stage."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.seen: list[Batch] = []

    @override
    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def _see(self, batch: Batch, batch_idx: int) -> int:
        self.seen.append(batch)
        return batch_idx

    @override
    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        self._see(batch, batch_idx)
        return self.layer(self.layer.weight.new_ones(1, 1)).sum()

    validation_step = test_step = predict_step = _see  # type: ignore[assignment]


@pytest.fixture
def make_trainer(tmp_path: Any) -> Callable[..., Trainer]:
    def make(**arguments: Any) -> Trainer:
        quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
        defaults = {"max_epochs": 1, "accelerator": "cpu", "logger": False, "limit_val_batches": 0} | quiet
        return Trainer(default_root_dir=tmp_path, **(defaults | arguments))

    return make


@pytest.mark.parametrize("stage", ["fit", "validate", "test", "predict"])
@pytest.mark.parametrize("num_workers", [0, 1])
def test_modules_see_expanded_batches_in_all_stages(
    stage: str, num_workers: int, make_trainer: Callable[..., Trainer]
) -> None:
    module = Sees()
    getattr(make_trainer(limit_val_batches=None), stage)(module, datamodule=make_data(num_workers=num_workers))
    trained = list(make_data().train_dataloader()) if stage == "fit" else []
    whole = list(make_data().val_dataloader())
    if stage == "fit":  # the sanity check comes first
        assert_same(module.seen[0], by_hand(whole[0]))
        module.seen = module.seen[2:]
    assert len(module.seen) == len(trained + whole)
    for seen, small in zip(module.seen, trained + whole, strict=True):
        assert_same(seen, by_hand(small))


@pytest.mark.parametrize(("precision", "dtype"), [("64-true", torch.float64), ("bf16-true", torch.bfloat16)])
def test_images_have_the_precision_of_the_run(
    precision: str, dtype: torch.dtype, make_trainer: Callable[..., Trainer]
) -> None:
    module, data = Sees(), make_data()
    data.lookahead = True
    make_trainer(precision=precision).fit(module, data)
    first, second = map(by_hand, make_data().train_dataloader())
    for seen, small in ((module.seen[0], first), (module.seen[0]["next_batch"], second), (module.seen[1], second)):
        assert seen["image"].dtype == dtype
        assert torch.equal(seen["image"], small["image"].to(dtype))
        assert seen["seeds"].dtype == torch.int64


@pytest.mark.filterwarnings("ignore:You have overridden `on_after_batch_transfer` in `LightningModule`")
def test_the_hook_of_a_module_gets_expanded_batches(make_trainer: Callable[..., Trainer]) -> None:
    class Dims(Sees):
        @override
        def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
            return batch | {"image": batch["image"] / 2}

    module = Dims()
    make_trainer().fit(module, make_data())
    assert torch.equal(module.seen[0]["image"], by_hand(next(iter(make_data().train_dataloader())))["image"] / 2)


def test_batches_of_another_kind_pass(make_trainer: Callable[..., Trainer]) -> None:
    class Pairs(ScenesDataModule):
        @override
        def train_dataloader(self) -> DataLoader[Any]:
            return DataLoader([(torch.zeros(2, dtype=torch.uint8), 1)], batch_size=1)  # type: ignore[arg-type]

    module = Sees()
    make_trainer().fit(module, Pairs(num_train=8, num_val=2, num_workers=0))
    assert module.seen[0][0].dtype == torch.uint8  # type: ignore[index]


# ---- the following batch ----------------------------------------------------------------------------------------


class Counted:
    """Moves batches, and counts how often each was."""

    def __init__(self) -> None:
        self.moved: list[str] = []

    def __call__(self, batch: Batch) -> Batch:
        assert "next_batch" not in batch
        self.moved.append(batch["id"])
        return {name: value.clone() if isinstance(value, Tensor) else value for name, value in batch.items()}


def small(name: str) -> Batch:
    return {"image": torch.full((1, 3, 2, 2), ord(name)), "id": name}


def test_each_batch_is_moved_once_also_around_validation() -> None:
    move, mover = Counted(), BatchTransfer()
    a, b, c, val = map(small, "abcv")
    first = mover(a | {"next_batch": b}, move)
    mover(val, move)
    second = mover(b | {"next_batch": c}, move)
    third = mover(c, move)
    assert move.moved == ["a", "b", "v", "c"]
    assert second["image"] is first["next_batch"]["image"]
    assert third["image"] is second["next_batch"]["image"]
    assert "next_batch" not in third
    for batch, name in ((first, "a"), (second, "b"), (third, "c")):
        assert batch["id"] == name
        assert (batch["image"] == ord(name)).all()
    assert mover(c, move)["image"] is not third["image"], "the next epoch moves its own"


def test_batches_that_were_not_announced_are_moved() -> None:
    move, mover = Counted(), BatchTransfer()
    mover(small("a") | {"next_batch": small("b")}, move)
    copy = mover(small("b") | {"next_batch": small("c")}, move)  # equal images, but other tensors
    assert move.moved == ["a", "b", "b", "c"]
    assert copy["id"] == "b"
    c = small("c")
    mover(small("b") | {"next_batch": c}, move)
    mover.forget()
    mover(c, move)
    assert move.moved[-3:] == ["b", "c", "c"]


def test_what_a_module_puts_into_the_following_batch_is_not_the_next_ones() -> None:
    move, mover = Counted(), BatchTransfer()
    b = small("b")
    mover(small("a") | {"next_batch": b}, move)["next_batch"]["extra"] = 1
    assert "extra" not in mover(b, move)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_run_that_looks_ahead_sees_the_same_and_moves_each_batch_once(
    num_workers: int, make_trainer: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    expansions: list[str] = []

    def counting(batch: Batch) -> Batch:
        expansions.append(batch["id"][0])
        return decode_batch(batch)

    monkeypatch.setattr("weakseg_lightning.data.base.decode_batch", counting)
    module, data = Sees(), make_data(num_train=12, num_workers=num_workers)
    data.lookahead = True
    make_trainer(max_epochs=2).fit(module, data)
    assert len(module.seen) == len(expansions) == 6
    plain = Sees()
    make_trainer(max_epochs=2).fit(plain, make_data(num_train=12))
    for number, (seen, expected) in enumerate(zip(module.seen, plain.seen, strict=True)):
        following = {} if number in (2, 5) else {"next_batch": plain.seen[number + 1]}
        assert_same(seen, expected | following)
    assert data._batch_transfer._ahead is None
