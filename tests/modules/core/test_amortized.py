"""Labelings solved once a cycle: what they depend on, where they are kept, what a stop and a restart leave of them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from typing_extensions import override

from weakseg_lightning.data import ScenesDataModule
from weakseg_lightning.energies import GridPotts
from weakseg_lightning.modules import TrustRegionModule
from weakseg_lightning.modules.core.base import Batch
from weakseg_lightning.modules.core.latent_store import LatentStore
from weakseg_lightning.networks import Network
from weakseg_lightning.solvers import AlphaExpansion, SolverResult

MakeTrainer = Callable[..., Trainer]
EqualWeights = Callable[[torch.nn.Module, torch.nn.Module], bool]


class Recording(TrustRegionModule):
    """Trust region that notes which images were solved for in which epoch, and what was found."""

    fails: tuple[str, ...] = ()

    @override
    def solve_latent(self, logits: Tensor, batch: Batch) -> SolverResult:
        if batch["id"][0] in self.fails:
            logits = torch.full_like(logits, torch.nan)
        result = super().solve_latent(logits, batch)
        solves = self.__dict__.setdefault("solves", [])
        solves.append((self.current_epoch, batch["id"][0], batch["initial"], result.labels[0].clone()))
        return result

    def solved_in(self, epoch: int) -> dict[str, Tensor]:
        return {name: labels for when, name, _, labels in self.solves if when == epoch}


@pytest.fixture
def make_data() -> Callable[..., ScenesDataModule]:
    def make(**arguments: Any) -> ScenesDataModule:
        small = {"num_train": 8, "num_val": 1, "size": 40, "crop_size": 24, "batch_size": 4, "num_workers": 0}
        return ScenesDataModule(**(small | arguments))

    return make


@pytest.fixture
def make_module(tiny_network: Network, make_data: Callable[..., ScenesDataModule]) -> Callable[..., Recording]:
    def make(**arguments: Any) -> Recording:
        solver = AlphaExpansion(GridPotts(100, normalize_edges=True), unary_weight=0.5, start="zeros")
        defaults = {"solver": solver, "pce_fraction": 0.0, "epochs_per_cycle": 2}
        return Recording(tiny_network, make_data().num_classes, **(defaults | arguments))

    return make


@pytest.fixture
def fit(make_trainer: MakeTrainer) -> Callable[..., Trainer]:
    def run(module: Recording, data: ScenesDataModule, ckpt_path: Path | None = None, **arguments: Any) -> Trainer:
        trainer = make_trainer(**({"max_epochs": 4, "limit_val_batches": 0} | arguments))
        trainer.fit(module, data, ckpt_path=ckpt_path, weights_only=True)
        return trainer

    return run


def test_every_image_is_solved_for_once_in_a_cycle(make_module, make_data, fit) -> None:
    module = make_module()
    fit(module, make_data(), max_epochs=5)
    names = {f"train_{index:05d}" for index in range(8)}
    assert [(epoch, len(module.solved_in(epoch))) for epoch in range(5)] == [(0, 8), (1, 0), (2, 8), (3, 0), (4, 8)]
    assert all(module.solved_in(epoch).keys() == names for epoch in (0, 2, 4))
    assert len(module.store.generations) == 2


def test_images_that_an_epoch_leaves_out_are_solved_for_when_they_come(make_module, make_data, fit) -> None:
    module = make_module(epochs_per_cycle=4)
    fit(module, make_data(num_train=11))
    solved = [name for epoch in range(4) for name in module.solved_in(epoch)]
    assert len(module.solved_in(0)) == 8, "two batches of four"
    assert len(solved) == len(set(solved)) > 8


def test_labeling_is_that_of_the_whole_image_in_evaluation_mode_at_the_start_of_the_cycle(
    make_module, make_data, fit, tiny_network
) -> None:
    module, data = make_module(), make_data()
    fit(module, data, max_epochs=1)
    first = tiny_network.build(data.num_classes).eval()  # the weights that training began with
    source = data.train_source()
    for index, name in enumerate(source.ids):
        sample = source[index]
        image, seeds = sample.image[None] / 255, sample.seeds[None].long()
        allowed = torch.zeros(1, data.num_classes, dtype=torch.bool)
        allowed[0, seeds[seeds != 255].unique()] = True
        allowed[0, 0] = True
        if allowed.sum() < 2:
            allowed[:] = True
        with torch.no_grad():
            logits = first(image)
        expected = module.solver.solve(logits, image, seeds=seeds, label_set=allowed)
        assert torch.equal(module.solved_in(0)[name], expected.labels[0])
        assert np.array_equal(module.store.get(name), expected.labels[0].numpy())


def test_training_follows_the_labeling_augmented_with_its_image(make_module, make_data, fit) -> None:
    data = make_data()
    moved: dict[str, list[bool]] = {}

    class TrueMask(Recording):
        """Solves for nothing: the labeling is the true mask, which comes augmented with the batch."""

        @override
        def solve_latent(self, logits: Tensor, batch: Batch) -> SolverResult:
            result = super().solve_latent(logits, batch)
            source = data.train_source()
            result.labels[0] = source[source.ids.index(batch["id"][0])].mask
            return result

        @override
        def latent_loss(self, logits: Tensor, latent: SolverResult, batch: Batch) -> dict[str, Tensor]:
            for labels, mask, name in zip(latent.labels, batch["mask"], batch["id"], strict=True):
                moved.setdefault(name, []).append(torch.equal(labels.long(), mask))
            assert self.latent_labels is latent.labels
            return super().latent_loss(logits, latent, batch)

    module = make_module()
    module.__class__ = TrueMask
    fit(module, data, max_epochs=3)
    assert all(same == [True] * 3 for same in moved.values()), "solved for, stored, solved for again"
    assert len(moved) == 8


@pytest.mark.parametrize("warm_start", [True, False])
def test_warm_start_is_the_labeling_of_the_cycle_before(warm_start: bool, make_module, make_data, fit) -> None:
    module = make_module(warm_start=warm_start)
    fit(module, make_data())
    before = module.solved_in(0)
    starts = {name: initial for epoch, name, initial, _ in module.solves if epoch == 2}
    assert all(initial is None for epoch, _, initial, _ in module.solves if epoch == 0)
    for name, labels in before.items():
        assert torch.equal(starts[name][0], labels) if warm_start else starts[name] is None


@pytest.mark.parametrize("pce_fraction", [0.25, 0.4, 0.5])
def test_first_phase_may_end_within_an_epoch(pce_fraction: float, make_module, make_data, fit) -> None:
    module = make_module(pce_fraction=pce_fraction)
    trainer = fit(module, make_data(), max_epochs=6)
    switch = round(12 * pce_fraction)  # 6 epochs of 2 iterations
    first = switch // 2
    solved = [len(module.solved_in(epoch)) for epoch in range(6)]
    assert sum(solved[:first]) == 0
    assert solved[first] == (4 if switch % 2 else 8)
    assert sum(solved[first : first + 2]) == 8
    assert trainer.callback_metrics.keys() >= {"train_robust", "solved_images_per_second"}


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(workers: int, equal_weights, make_module, make_data, fit, tmp_path) -> None:
    alone, shared = make_module(pce_fraction=0.3), make_module(pce_fraction=0.3, store=LatentStore(str(tmp_path / "l")))
    fit(alone, make_data())
    fit(shared, make_data(num_workers=workers))
    assert equal_weights(alone, shared)
    assert len(alone.solves) == len(shared.solves)


class SaveEachEpoch(Callback):
    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        trainer.save_checkpoint(self.path)


class KilledError(Exception):
    pass


def die_after(module: Recording, solves: int) -> None:
    real = module.solve_latent
    left = iter(range(solves))

    def solve(logits: Tensor, batch: Batch) -> SolverResult:
        if next(left, None) is None:
            raise KilledError
        return real(logits, batch)

    module.solve_latent = solve  # type: ignore[method-assign]


@pytest.mark.parametrize("kind", ["memory", "folder"])
@pytest.mark.parametrize("moments", [(0,), (3,), (9, 2), (13, 1, 1), (20, 3)])
def test_run_killed_in_stage_a_loses_nothing(
    kind: str, moments: tuple[int, ...], equal_weights, make_module, make_data, fit, tmp_path
) -> None:
    """Killed again and again within the solves of cycles, resumed from the last epoch's checkpoint."""
    undisturbed = make_module(pce_fraction=0.2)
    fit(undisturbed, make_data(num_train=11), max_epochs=6)
    path = tmp_path / "last.ckpt"
    done: list[str] = []
    for moment in (*moments, None):
        store = LatentStore(None if kind == "memory" else str(tmp_path / "latents"))
        module = make_module(pce_fraction=0.2, store=store)
        resume = path if path.exists() else None
        torch.rand(5)
        if moment is not None:
            die_after(module, moment)
            with pytest.raises(KilledError):
                fit(module, make_data(num_train=11), resume, max_epochs=6, callbacks=[SaveEachEpoch(path)])
        else:
            fit(module, make_data(num_train=11), resume, max_epochs=6, callbacks=[SaveEachEpoch(path)])
        done += [f"{epoch}-{name}" for epoch, name, *_ in module.__dict__.get("solves", [])]
    assert equal_weights(undisturbed, module)
    assert set(done) >= {f"{epoch}-{name}" for epoch, name, *_ in undisturbed.solves}
    repeated = len(done) - len(set(done))
    assert repeated <= len(moments) * (4 if kind == "folder" else 11), "no more than the batch, or the epoch, at hand"


def test_broken_entry_is_solved_for_again(equal_weights, make_module, make_data, fit, tmp_path) -> None:
    class Damage(Callback):
        def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
            if trainer.current_epoch == 0:
                for path in sorted(tmp_path.glob("*-*/*/*.labels"))[:3]:
                    path.write_bytes(path.read_bytes()[:30])

    whole, damaged = make_module(), make_module(store=LatentStore(str(tmp_path)))
    fit(whole, make_data())
    with pytest.warns(UserWarning, match="is broken"):
        fit(damaged, make_data(), callbacks=[Damage()])
    assert len(damaged.solved_in(1)) == 3
    assert equal_weights(whole, damaged)


def test_image_that_cannot_be_solved_for_is_named_and_trained_on_its_seeds(make_module, make_data, fit) -> None:
    module = make_module()
    module.fails = ("train_00003",)
    with pytest.warns(UserWarning, match="image 'train_00003': `logits` hold nan"):
        trainer = fit(module, make_data())
    assert torch.isfinite(trainer.callback_metrics["train_loss"])
    assert module.store.get("train_00003") is None
    assert module.store.get("train_00004") is not None


def test_store_of_another_energy_is_refused_before_training(make_module, make_data, fit, tmp_path) -> None:
    fit(make_module(store=LatentStore(str(tmp_path))), make_data(), max_epochs=1)
    fit(make_module(store=LatentStore(str(tmp_path)), eps=0.5), make_data(), max_epochs=1)  # not part of the energy
    other = AlphaExpansion(GridPotts(50, normalize_edges=True), unary_weight=0.5, start="zeros")
    with pytest.raises(
        ValueError, match=r"the store in .* has labelings that were solved with `solver\.potts\.weight` 100"
    ):
        fit(make_module(store=LatentStore(str(tmp_path)), solver=other), make_data(), max_epochs=1)


def test_an_image_without_labeling_stops_the_run_where_that_is_asked_for(make_module, make_data, fit) -> None:
    module = make_module(on_unsolved="stop")
    module.fails = ("train_00003",)
    with pytest.raises(ValueError, match=r"image 'train_00003' has no latent labeling: `logits` hold nan.*skip"):
        fit(module, make_data())
    with pytest.raises(ValueError, match="`on_unsolved` must be one of 'skip', 'stop', got 'never'"):
        make_module(on_unsolved="never")


def test_two_runs_in_one_folder_do_not_meet(make_module, make_data, fit, tmp_path, tiny_network) -> None:
    """Same settings, other weights: none takes the other's labelings for its own."""
    store = str(tmp_path)
    alone = make_module()
    fit(alone, make_data())
    disturbed = make_module(store=LatentStore(store))
    with torch.no_grad():
        disturbed.net.head.bias += 1
    fit(disturbed, make_data())
    again = make_module(store=LatentStore(store))
    fit(again, make_data())
    assert len(again.solved_in(0)) == 8
    for name, labels in alone.solved_in(2).items():
        assert torch.equal(again.solved_in(2)[name], labels)


def test_second_fit_solves_again_and_leaves_the_data_to_other_modules(make_module, make_data, fit) -> None:
    module, data = make_module(), make_data()
    fit(module, data, max_epochs=1)
    assert data.batch_hook is None
    fit(module, data, max_epochs=1)
    assert len(module.solves) == 16


def test_data_without_whole_images_are_refused(make_module, tiny_data, make_trainer) -> None:
    with pytest.raises(TypeError, match=r"needs the data as a SegmentationDataModule, got TinyData"):
        make_trainer().fit(make_module(), tiny_data)


@pytest.mark.filterwarnings("ignore:You requested to overfit")
def test_replaced_sampler_is_named(make_module, make_data, fit) -> None:
    with pytest.raises(RuntimeError, match="no `latent`: the loader's sampler was replaced"):
        fit(make_module(), make_data(), overfit_batches=2)
