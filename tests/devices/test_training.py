"""Every method trains on an accelerator as on the CPU, whenever the device does its work."""

from contextlib import nullcontext

import pytest
from every_method import METHODS
from lightning.pytorch.callbacks import LambdaCallback
from simulated import run_later

pytestmark = pytest.mark.gpu


def train(name, trainer_on, where, drops=True):
    """Train a method for two epochs, and return the losses, the validation scores, and the weights."""
    method, losses = METHODS[name], []
    note = LambdaCallback(on_train_batch_end=lambda *given: losses.append(given[2]["loss"].detach()))
    module = method.module(drops)
    trainer = trainer_on(where, callbacks=[note], max_steps=8, limit_val_batches=1.0)
    trainer.fit(module, method.scenes())
    scores = {key: value for key, value in trainer.callback_metrics.items() if not key.endswith(("_ms", "_second"))}
    return losses, scores, module.state_dict()


@pytest.mark.parametrize("name", METHODS)
def test_a_method_learns_what_it_learns_on_the_cpu(name, device, trainer_on, same):
    drops = device.type == "sim"  # CUDA draws other numbers from the same seed
    expected = train(name, trainer_on, "cpu", drops)
    with run_later() if device.type == "sim" else nullcontext():
        found = train(name, trainer_on, device, drops)
    same(expected, found, rounds=METHODS[name].rounds)
