"""An average of the weights beside training: what it is, who sees it, and that training knows nothing of it."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import LambdaCallback
from lightning.pytorch.strategies import FSDPStrategy
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch import Tensor

from weakseg_lightning import load_module
from weakseg_lightning.callbacks import AveragedWeights
from weakseg_lightning.callbacks.checkpoints import LastCheckpoint
from weakseg_lightning.energies import GridPotts
from weakseg_lightning.modules import ADMModule, Optimizer, RegularizedLossModule, TrustRegionModule, WeakSegModule
from weakseg_lightning.networks import FeatureCache, FrozenFeatures
from weakseg_lightning.solvers import AlphaExpansion

State = dict[str, Tensor]
KINDS = ["pce", "adm", "lagging", "trust_region", "frozen", "reference"]


@pytest.fixture
def make(tiny_network: Any) -> Callable[[str], WeakSegModule]:
    """Modules of each kind: of frozen features, too, with checkpoints that hold the encoder or a reference to it."""

    def module(kind: str) -> WeakSegModule:
        solver = AlphaExpansion(GridPotts(100, normalize_edges=True), unary_weight=0.5)
        fast: dict[str, Any] = {"optimizer": Optimizer(lr=0.05)}
        if kind in ("frozen", "reference"):
            torch.manual_seed(4)
            net = FrozenFeatures(
                *("test_efficientnet", None, 8), fit_first=False, cache=FeatureCache(), save_encoder=kind == "frozen"
            )
            return RegularizedLossModule(net, 6, **fast)
        if kind == "pce":
            return RegularizedLossModule(tiny_network, 6, **fast)
        if kind == "trust_region":
            return TrustRegionModule(tiny_network, 6, solver, epochs_per_cycle=1, pce_fraction=1 / 3, **fast)
        return ADMModule(tiny_network, 6, solver, latent_lag=int(kind == "lagging"), pce_fraction=1 / 3, **fast)

    return module


@pytest.fixture
def fit(make_trainer: Any, small_scenes: Any) -> Callable[..., dict[str, Any]]:
    """Trains for three epochs of two steps, with a validation in each, and gives the last checkpoint."""

    def run(module: WeakSegModule, *callbacks: Any, resumed: Any = None, **options: Any) -> dict[str, Any]:
        defaults = {"max_epochs": 3, "num_sanity_val_steps": 1, "val_check_interval": 1}
        trainer = make_trainer(callbacks=list(callbacks), **defaults | options)
        kept: dict[str, Any] = {}
        at_the_end = LambdaCallback(on_train_epoch_end=lambda *_: kept.update(dump(trainer)))
        trainer.callbacks.append(at_the_end)
        trainer.fit(module, small_scenes(), ckpt_path=resumed, weights_only=True)
        return kept | {"trainer": trainer}

    return run


def dump(trainer: Any) -> dict[str, Any]:
    content = trainer._checkpoint_connector.dump_checkpoint()
    return {name: copied(content[name]) for name in ("state_dict", "current_model_state") if name in content}


def copied(state: State) -> State:
    return {name: value.clone() for name, value in state.items()}


def equal(first: State, second: State) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_the_average_is_exponential_with_a_warmup(make, fit):
    states: list[State] = []

    def note(trainer: Any, module: Any, *_: Any) -> None:
        states.append(copied(module.state_dict()))

    module = make("pce")
    found = fit(module, AveragedWeights(0.3), LambdaCallback(on_train_batch_end=note))
    expected = states[0]
    for steps, state in enumerate(states[1:], 1):
        kept = min(0.3, (1 + steps) / (10 + steps))
        for name, value in state.items():
            moved = kept * expected[name] + (1 - kept) * value if value.is_floating_point() else value
            expected[name] = moved.to(value.dtype)
    assert len(states) == 6
    assert any("running_mean" in name for name in expected)
    for name, value in expected.items():
        torch.testing.assert_close(found["state_dict"][name], value, rtol=1e-5, atol=1e-6)
        assert value.is_floating_point() or "num_batches" in name
    assert equal(found["current_model_state"], states[-1])
    assert equal(copied(module.state_dict()), found["state_dict"]), "what training ends with"
    assert not equal(found["state_dict"], found["current_model_state"])


@pytest.mark.parametrize("kind", KINDS[:-1])
def test_training_goes_on_as_if_there_were_no_average(kind, make, fit):
    plain, averaged = make(kind), make(kind)
    expected, found = fit(plain), fit(averaged, AveragedWeights(0.9))
    assert equal(found["current_model_state"], expected["state_dict"])
    losses = [run["trainer"].callback_metrics["train_loss"] for run in (expected, found)]
    assert torch.equal(*losses)
    if kind == "trust_region":  # named after the weights that they were solved with
        assert averaged.store.generations == plain.store.generations
        assert len(plain.store.generations) == 2


@pytest.mark.parametrize(("kind", "step"), [*((kind, 3) for kind in KINDS), ("adm", 4)])
def test_a_resumed_run_ends_as_the_undisturbed_one(kind, step, make, fit, save_at, tmp_path):
    path = tmp_path / "part.ckpt"
    whole = fit(make(kind), AveragedWeights(0.9), save_at(path, step=step))
    resumed = fit(make(kind), AveragedWeights(0.9), resumed=path)
    for name in ("state_dict", "current_model_state"):
        assert equal(whole[name], resumed[name])


@pytest.mark.parametrize("kind", ["adm", "frozen"])
def test_validation_sees_the_average_as_evaluation_of_the_checkpoint_does(
    kind, make, fit, make_trainer, small_scenes, tmp_path
):
    seen: State = {}
    note = LambdaCallback(on_validation_batch_start=lambda _, module, *rest: seen.update(copied(module.state_dict())))
    found = fit(make(kind), AveragedWeights(0.9), note)
    assert equal(seen, found["state_dict"])
    assert not equal(seen, found["current_model_state"])
    logged = found["trainer"].callback_metrics
    found["trainer"].save_checkpoint(tmp_path / "a.ckpt")
    loaded = load_module(tmp_path / "a.ckpt")
    (scores,) = make_trainer(callbacks=[AveragedWeights()]).validate(loaded, small_scenes(), verbose=False)
    assert len(scores) > 4
    assert {name: float(logged[name]) for name in scores} == pytest.approx(scores)


@pytest.mark.parametrize("kind", ["frozen", "reference"])
def test_what_does_not_learn_stays_to_the_last_bit_and_the_average_begins_with_the_prepared_head(
    kind, make, fit, tmp_path
):
    first: list[dict[str, Any]] = []

    def note(trainer: Any, module: Any) -> None:
        first.append(dump(trainer))

    module = make(kind)
    before = copied(module.net.encoder.state_dict())
    found = fit(module, AveragedWeights(0.9), LambdaCallback(on_train_start=note))
    assert equal(first[0]["state_dict"], first[0]["current_model_state"])
    assert (first[0]["state_dict"]["net.head.scale"] != 1).any()
    assert equal(copied(module.net.encoder.state_dict()), before)
    digests = {bytes(run["state_dict"]["net.encoder_digest"].tolist()) for run in (*first, found)}
    assert len(digests) == 1
    found["trainer"].save_checkpoint(tmp_path / "a.ckpt")
    make(kind).load_state_dict(torch.load(tmp_path / "a.ckpt", weights_only=True)["state_dict"])


def test_a_callback_that_is_given_to_another_trainer_begins_anew(make, fit):
    shared = AveragedWeights(0.9)
    options = {"limit_val_batches": 0, "num_sanity_val_steps": 0, "val_check_interval": None}
    fit(make("adm"), shared, **options)
    second, expected = make("pce"), make("pce")
    fit(expected, AveragedWeights(0.9), **options)
    fit(second, shared, **options)
    assert equal(copied(second.state_dict()), copied(expected.state_dict()))


def test_a_test_after_training_is_of_the_average_of_its_checkpoint(make, fit, save_at, small_scenes, tmp_path):
    path, seen = tmp_path / "part.ckpt", []
    note = LambdaCallback(on_test_start=lambda _, module: seen.append(copied(module.state_dict())))
    validated = LambdaCallback(on_validation_start=lambda _, module: seen.append(copied(module.state_dict())))
    module = make("pce")
    trainer = fit(module, AveragedWeights(0.9), note, save_at(path, step=3))["trainer"]
    average = torch.load(path, weights_only=True)["state_dict"]
    trainer.test(module, small_scenes(), ckpt_path=path, verbose=False, weights_only=True)
    trainer.callbacks.append(validated)
    trainer.validate(module, small_scenes(), ckpt_path=path, verbose=False, weights_only=True)
    assert len(seen) == 2
    assert all(equal(state, average) for state in seen)
    assert equal(copied(module.state_dict()), average)


def test_other_runs_start_from_the_average(make, fit, make_trainer, small_scenes, tmp_path):
    path, starts = tmp_path / "a.ckpt", []
    trainer = fit(make("pce"), AveragedWeights(0.9), LambdaCallback())["trainer"]
    trainer.save_checkpoint(path)
    average = torch.load(path, weights_only=True)["state_dict"]
    module = make("adm")
    module.start_from = str(path)
    note = LambdaCallback(on_train_start=lambda _, module: starts.append(copied(module.state_dict())))
    found = fit(module, AveragedWeights(0.9), note, max_epochs=1)
    assert equal(starts[0], average)
    assert not equal(found["state_dict"], average)


def test_a_run_ended_within_a_validation_saves_the_current_weights(make, fit, tmp_path):
    whole = fit(make("pce"), AveragedWeights(0.9))

    def end(trainer: Any, *_: Any) -> None:
        if trainer.global_step == 3 and not trainer.sanity_checking:
            raise SIGTERMException

    ended = make("pce")
    with pytest.raises((SIGTERMException, SystemExit)):
        fit(
            ended,
            AveragedWeights(0.9),
            LambdaCallback(on_validation_batch_end=end),
            LastCheckpoint(str(tmp_path)),
            enable_checkpointing=True,
        )
    resumed = fit(
        make("pce"),
        AveragedWeights(0.9),
        LastCheckpoint(str(tmp_path / "resumed")),
        resumed=tmp_path / "last.ckpt",
        enable_checkpointing=True,
    )
    for name in ("state_dict", "current_model_state"):
        assert equal(whole[name], resumed[name])


@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`")
def test_a_resumed_run_without_the_average_says_what_it_goes_on_from(make, fit, tmp_path):
    fit(make("pce"), AveragedWeights(0.9), max_epochs=1)["trainer"].save_checkpoint(tmp_path / "a.ckpt")
    with pytest.warns(UserWarning, match=r"a\.ckpt holds averaged weights, and training goes on from these"):
        fit(make("pce"), resumed=tmp_path / "a.ckpt", max_epochs=2)


def test_wrong_settings_are_named(make, make_trainer):
    with pytest.raises(ValueError, match="`decay` must be at least 0 and below 1, got 1"):
        AveragedWeights(1.0)
    trainer = make_trainer(callbacks=[AveragedWeights()])
    trainer.strategy.__class__ = type("Parting", (FSDPStrategy,), {"restore_checkpoint_after_setup": True})
    with pytest.raises(ValueError, match=r"`trainer\.strategy`: Parting .* use `ddp`"):
        trainer.callbacks[-1].setup(trainer, make("pce"), "fit")
