"""Labelings solved once a cycle: what they depend on, where they are kept, what a stop and a restart leave of them."""

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback
from typing_extensions import override

from weakseg_lightning.energies import GridPotts
from weakseg_lightning.modules import TrustRegionModule
from weakseg_lightning.modules.core.latent_store import LatentStore
from weakseg_lightning.solvers import AlphaExpansion


class Recording(TrustRegionModule):
    """Trust region that notes which images were solved for in which epoch, and what was found."""

    fails: tuple[str, ...] = ()

    @override
    def solve_latent(self, logits, batch):
        if batch["id"][0] in self.fails:
            logits = torch.full_like(logits, torch.nan)
        result = super().solve_latent(logits, batch)
        solves = self.__dict__.setdefault("solves", [])
        solves.append((self.current_epoch, batch["id"][0], batch["initial"], result.labels[0].clone()))
        return result

    def solved_in(self, epoch):
        return {name: labels for when, name, _, labels in self.solves if when == epoch}


@pytest.fixture
def make_module(tiny_network, small_scenes):
    def make(**arguments):
        solver = AlphaExpansion(GridPotts(100, normalize_edges=True), unary_weight=0.5, start="zeros")
        defaults = {"solver": solver, "pce_fraction": 0.0, "epochs_per_cycle": 2}
        return Recording(tiny_network, small_scenes().num_classes, **(defaults | arguments))

    return make


@pytest.fixture
def fit(make_trainer):
    def run(module, data, ckpt_path=None, **arguments):
        trainer = make_trainer(**({"max_epochs": 4, "limit_val_batches": 0} | arguments))
        trainer.fit(module, data, ckpt_path=ckpt_path, weights_only=True)
        return trainer

    return run


def test_every_image_is_solved_for_once_in_a_cycle(make_module, small_scenes, fit):
    module = make_module()
    fit(module, small_scenes(), max_epochs=5)
    names = {f"train_{index:05d}" for index in range(8)}
    assert [(epoch, len(module.solved_in(epoch))) for epoch in range(5)] == [(0, 8), (1, 0), (2, 8), (3, 0), (4, 8)]
    assert all(module.solved_in(epoch).keys() == names for epoch in (0, 2, 4))
    assert len(module.store.generations) == 2


def test_a_run_of_a_loaded_module_begins_with_a_cycle_of_its_own(make_module, small_scenes, fit, save_at, tmp_path):
    path = tmp_path / "part.ckpt"
    trained = make_module()
    trainer = fit(trained, small_scenes(), max_epochs=1, callbacks=[save_at(path, epoch=0)])
    loaded = Recording.load_from_checkpoint(path)
    fit(loaded, small_scenes(), max_epochs=1)
    assert len(loaded.solved_in(0)) == 8, "not the labelings of the run before"
    trainer.test(trained, small_scenes(), ckpt_path=path, verbose=False, weights_only=True)
    trained.solves.clear()
    fit(trained, small_scenes(), max_epochs=1)
    assert len(trained.solved_in(0)) == 8


def test_images_that_an_epoch_leaves_out_are_solved_for_when_they_come(make_module, small_scenes, fit):
    module = make_module(epochs_per_cycle=4)
    fit(module, small_scenes(num_train=11))
    solved = [name for epoch in range(4) for name in module.solved_in(epoch)]
    assert len(module.solved_in(0)) == 8, "two batches of four"
    assert len(solved) == len(set(solved)) > 8


def test_labeling_is_that_of_the_whole_image_in_evaluation_mode_at_the_start_of_the_cycle(
    make_module, small_scenes, fit, tiny_network
):
    module, data = make_module(), small_scenes()
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


@pytest.mark.parametrize("options", [{}, {"rotation": 40.0, "noise": 0.1, "balanced_crops": 0.7}])
def test_training_follows_the_labeling_augmented_with_its_image(options, make_module, small_scenes, fit):
    data = small_scenes(**options)
    moved = {}

    class TrueMask(Recording):
        """Solves for nothing: the labeling is the true mask, which comes augmented with the batch."""

        @override
        def solve_latent(self, logits, batch):
            result = super().solve_latent(logits, batch)
            source = data.train_source()
            result.labels[0] = source[source.ids.index(batch["id"][0])].mask
            return result

        @override
        def latent_loss(self, logits, latent, batch):
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
def test_warm_start_is_the_labeling_of_the_cycle_before(warm_start, make_module, small_scenes, fit):
    module = make_module(warm_start=warm_start)
    fit(module, small_scenes())
    before = module.solved_in(0)
    starts = {name: initial for epoch, name, initial, _ in module.solves if epoch == 2}
    assert all(initial is None for epoch, _, initial, _ in module.solves if epoch == 0)
    for name, labels in before.items():
        assert torch.equal(starts[name][0], labels) if warm_start else starts[name] is None


@pytest.mark.parametrize("pce_fraction", [0.25, 0.4, 0.5])
def test_first_phase_may_end_within_an_epoch(pce_fraction, make_module, small_scenes, fit):
    module = make_module(pce_fraction=pce_fraction)
    trainer = fit(module, small_scenes(), max_epochs=6)
    switch = round(12 * pce_fraction)  # 6 epochs of 2 iterations
    first = switch // 2
    solved = [len(module.solved_in(epoch)) for epoch in range(6)]
    assert sum(solved[:first]) == 0
    assert solved[first] == (4 if switch % 2 else 8)
    assert sum(solved[first : first + 2]) == 8
    assert trainer.callback_metrics.keys() >= {"train_robust", "solved_images_per_second"}


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(workers, equal_weights, make_module, small_scenes, fit, tmp_path):
    alone, shared = make_module(pce_fraction=0.3), make_module(pce_fraction=0.3, store=LatentStore(str(tmp_path / "l")))
    fit(alone, small_scenes())
    fit(shared, small_scenes(num_workers=workers))
    assert equal_weights(alone, shared)
    assert len(alone.solves) == len(shared.solves)


class KilledError(Exception):
    pass


def die_after(module, solves):
    real = module.solve_latent
    left = iter(range(solves))

    def solve(logits, batch):
        if next(left, None) is None:
            raise KilledError
        return real(logits, batch)

    module.solve_latent = solve


@pytest.mark.parametrize("kind", ["memory", "folder"])
@pytest.mark.parametrize("moments", [(0,), (3,), (9, 2), (13, 1, 1), (20, 3)])
def test_run_killed_in_stage_a_loses_nothing(
    kind, moments, equal_weights, make_module, small_scenes, fit, save_at, tmp_path
):
    """Killed again and again within the solves of cycles, resumed from the last epoch's checkpoint."""
    undisturbed = make_module(pce_fraction=0.2)
    fit(undisturbed, small_scenes(num_train=11), max_epochs=6)
    path = tmp_path / "last.ckpt"
    done = []
    for moment in (*moments, None):
        store = LatentStore(None if kind == "memory" else str(tmp_path / "latents"))
        module = make_module(pce_fraction=0.2, store=store)
        resume = path if path.exists() else None
        torch.rand(5)
        if moment is not None:
            die_after(module, moment)
        with nullcontext() if moment is None else pytest.raises(KilledError):
            fit(module, small_scenes(num_train=11), resume, max_epochs=6, callbacks=[save_at(path, epoch="each")])
        done += [f"{epoch}-{name}" for epoch, name, *_ in module.__dict__.get("solves", [])]
    assert equal_weights(undisturbed, module)
    assert set(done) >= {f"{epoch}-{name}" for epoch, name, *_ in undisturbed.solves}
    repeated = len(done) - len(set(done))
    assert repeated <= len(moments) * (4 if kind == "folder" else 11), "no more than the batch, or the epoch, at hand"


def test_broken_entry_is_solved_for_again(equal_weights, make_module, small_scenes, fit, tmp_path):
    class Damage(Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            if trainer.current_epoch == 0:
                for path in sorted(tmp_path.glob("*-*/*/*.labels"))[:3]:
                    path.write_bytes(path.read_bytes()[:30])

    whole, damaged = make_module(), make_module(store=LatentStore(str(tmp_path)))
    fit(whole, small_scenes())
    with pytest.warns(UserWarning, match="is broken"):
        fit(damaged, small_scenes(), callbacks=[Damage()])
    assert len(damaged.solved_in(1)) == 3
    assert equal_weights(whole, damaged)


def test_image_that_cannot_be_solved_for_is_named_and_trained_on_its_seeds(make_module, small_scenes, fit):
    module = make_module()
    module.fails = ("train_00003",)
    with pytest.warns(UserWarning, match="image 'train_00003': `logits` hold nan"):
        trainer = fit(module, small_scenes())
    assert torch.isfinite(trainer.callback_metrics["train_loss"])
    assert module.store.get("train_00003") is None
    assert module.store.get("train_00004") is not None


def test_store_of_another_energy_raises_before_training(make_module, small_scenes, fit, tmp_path):
    fit(make_module(store=LatentStore(str(tmp_path))), small_scenes(), max_epochs=1)
    fit(make_module(store=LatentStore(str(tmp_path)), eps=0.5), small_scenes(), max_epochs=1)  # not part of the energy
    other = AlphaExpansion(GridPotts(50, normalize_edges=True), unary_weight=0.5, start="zeros")
    with pytest.raises(
        ValueError, match=r"the store in .* has labelings that were solved with `solver\.potts\.weight` 100"
    ):
        fit(make_module(store=LatentStore(str(tmp_path)), solver=other), small_scenes(), max_epochs=1)


def test_an_image_without_labeling_stops_the_run_where_that_is_asked_for(make_module, small_scenes, fit):
    module = make_module(on_unsolved="stop")
    module.fails = ("train_00003",)
    with pytest.raises(ValueError, match=r"image 'train_00003' has no latent labeling: `logits` hold nan.*skip"):
        fit(module, small_scenes())
    with pytest.raises(ValueError, match="`on_unsolved` must be one of 'skip', 'stop', got 'never'"):
        make_module(on_unsolved="never")


def test_two_runs_in_one_folder_do_not_meet(make_module, small_scenes, fit, tmp_path, tiny_network):
    """Same settings, other weights: none takes the other's labelings for its own."""
    store = str(tmp_path)
    alone = make_module()
    fit(alone, small_scenes())
    disturbed = make_module(store=LatentStore(store))
    with torch.no_grad():
        disturbed.net.head.bias += 1
    fit(disturbed, small_scenes())
    again = make_module(store=LatentStore(store))
    fit(again, small_scenes())
    assert len(again.solved_in(0)) == 8
    for name, labels in alone.solved_in(2).items():
        assert torch.equal(again.solved_in(2)[name], labels)


def test_second_fit_solves_again_and_leaves_the_data_to_other_modules(make_module, small_scenes, fit):
    module, data = make_module(), small_scenes()
    fit(module, data, max_epochs=1)
    assert data.batch_hook is None
    fit(module, data, max_epochs=1)
    assert len(module.solves) == 16


def test_data_without_whole_images_raise(make_module, tiny_data, make_trainer):
    with pytest.raises(TypeError, match=r"needs the data as a SegmentationDataModule, got TinyData"):
        make_trainer().fit(make_module(), tiny_data)


@pytest.mark.filterwarnings("ignore:You requested to overfit")
def test_replaced_sampler_is_named(make_module, small_scenes, fit):
    with pytest.raises(RuntimeError, match="no `latent`: the loader's sampler was replaced"):
        fit(make_module(), small_scenes(), overfit_batches=2)
