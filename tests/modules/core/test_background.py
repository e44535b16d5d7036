"""Solving for the next batch beside the step on this one."""

import threading

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import LambdaCallback
from torch import Tensor
from typing_extensions import override

from weakseg_lightning.modules import ADMModule
from weakseg_lightning.modules.core.background import BackgroundSolver
from weakseg_lightning.solvers import SolverResult


class Recorded(ADMModule):
    """Notes which images were solved for in which thread before which iteration, and on what scores."""

    @override
    def solve_latent(self, logits, batch):
        result = super().solve_latent(logits, batch)
        thread, step = threading.current_thread().name, self.trainer.global_step
        note = (thread, step, list(batch["id"]), logits.clone(), result.labels)
        self.__dict__.setdefault("solves", []).append(note)
        return result


class Steps(Callback):
    """Notes what each iteration trains on, and the weights before it."""

    def __init__(self):
        self.ids: list[list[str]] = []
        self.labels: list[Tensor] = []

    def on_after_backward(self, trainer, pl_module):
        assert isinstance(pl_module, ADMModule)
        assert pl_module.latent_labels is not None
        self.labels.append(pl_module.latent_labels.clone())

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.ids.append(list(batch["id"]))


@pytest.fixture
def data(small_scenes):
    return small_scenes(num_train=12)


def test_each_batch_trains_on_its_own_labeling_that_another_thread_found_a_step_before(
    data, tiny_network, make_trainer
):
    module, steps = Recorded(tiny_network, data.num_classes, pce_fraction=0.0, latent_lag=1), Steps()
    make_trainer(callbacks=[steps], limit_val_batches=0).fit(module, data)
    solves = sorted(module.solves, key=lambda note: (note[1], note[0] != "MainThread"))
    assert [ids for _, _, ids, _, _ in solves] == steps.ids
    assert [name.startswith("solver") for name, *_ in solves] == [False, True, True] * 2, "an epoch begins without lag"
    for (_, _, _, _, solved), trained in zip(solves, steps.labels, strict=True):
        assert torch.equal(solved, trained)
    assert not data.lookahead, "left as it was"


def test_scores_are_those_before_the_step(data, tiny_network, make_trainer):
    """The second batch is solved on the weights that training began with, not on those after the first step."""
    weights = []

    def keep(trainer, module, *_):
        weights.append({name: tensor.clone() for name, tensor in module.state_dict().items()})

    watch = LambdaCallback(on_train_batch_start=keep)
    first, second = (ADMModule(tiny_network, data.num_classes, pce_fraction=0.0, latent_lag=lag) for lag in (0, 1))
    for module in (first, second):
        make_trainer(max_epochs=1, max_steps=1, limit_val_batches=0, callbacks=[watch]).fit(module, data)
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    # batch norm counts the batch of the step alone, although the next one was predicted besides
    assert {name: tensor for name, tensor in first.state_dict().items() if "num_batches" in name} == {
        name: tensor for name, tensor in second.state_dict().items() if "num_batches" in name
    }


def test_an_error_of_the_solver_ends_training(data, tiny_network, make_trainer):
    class Broken(ADMModule):
        @override
        def solve_latent(self, logits, batch):
            if threading.current_thread().name.startswith("solver"):
                raise RuntimeError("broken")
            return super().solve_latent(logits, batch)

    module = Broken(tiny_network, data.num_classes, pce_fraction=0.0, latent_lag=1)
    with pytest.raises(RuntimeError, match="broken"):
        make_trainer(limit_val_batches=0).fit(module, data)


def test_what_was_begun_is_handed_to_its_batch_alone():
    labels = torch.tensor([[[1, 2]]], dtype=torch.uint8)
    solver = BackgroundSolver()
    try:
        solver.start(lambda logits, batch: SolverResult.from_labels(labels), torch.zeros(1, 3, 1, 2), {"id": ["a"]})
        assert solver.take(["b"]) is None
        assert solver.take(["a"]) is None, "it was of another batch, and is gone"
        solver.start(lambda logits, batch: SolverResult.from_labels(labels), torch.zeros(1, 3, 1, 2), {"id": ["a"]})
        state = solver.state_dict()
        assert torch.equal(solver.take(["a"]).labels, labels)
        assert solver.state_dict() == {}
        solver.load_state_dict(state)
        assert torch.equal(solver.take(["a"]).labels, labels)
    finally:
        solver.close()
