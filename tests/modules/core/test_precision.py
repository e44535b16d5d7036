"""Every method in mixed precision and with accumulated gradients: solvers and losses see single precision."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from discs import CLASSES, DiscData, TinyDecomposition, TinyTags
from lightning.pytorch import Callback
from lightning.pytorch.plugins import MixedPrecision
from torch import Tensor

from weakseg_lightning.constraints import preset
from weakseg_lightning.losses import DenseCRFLoss, GridPottsLoss, Regularizer
from weakseg_lightning.modules import (
    ADMModule,
    CCNNModule,
    DecomposeReconstructModule,
    Optimizer,
    RegularizedLossModule,
    TagClassifierModule,
    TrustRegionModule,
    WeakSegModule,
)
from weakseg_lightning.networks import Network, SMPNetwork
from weakseg_lightning.solvers import AlphaExpansion, ConstrainedLatent

METHODS: dict[str, Callable[[Network, int], WeakSegModule]] = {
    "pce": RegularizedLossModule,
    "grid_gd": lambda *given: RegularizedLossModule(*given, regularizer=GridPottsLoss()),
    "dense_gd": lambda *given: RegularizedLossModule(*given, regularizer=DenseCRFLoss(1e-6)),
    "adm": lambda *given: ADMModule(*given, pce_fraction=0.0),
    "trust_region": lambda *given: TrustRegionModule(*given, pce_fraction=0.0),
    "ccnn": lambda *given: CCNNModule(*given, preset("tags"), map_stride=None),
}
ASKED = {"adm": 2, "trust_region": 4, "ccnn": 2, "grid_gd": 2, "dense_gd": 2}
"""How often two steps on four images ask a solver or a regularizer."""


@pytest.fixture
def asked(monkeypatch):
    """Kind of the logits that solvers and regularizers get."""
    found = []

    def noted(original):
        def call(self, logits, *given, **named):
            found.append(logits.dtype)
            return original(self, logits, *given, **named)

        return call

    for cls in (AlphaExpansion, ConstrainedLatent):
        monkeypatch.setattr(cls, "solve", noted(cls.solve))
    monkeypatch.setattr(Regularizer, "__call__", noted(torch.nn.Module.__call__))
    return found


class Watch(Callback):
    """Notes losses and the kinds of what layers compute."""

    def __init__(self):
        self.losses: list[Tensor] = []
        self.layers: set[torch.dtype] = set()

    def on_fit_start(self, trainer, pl_module):
        for layer in pl_module.net.modules():
            if isinstance(layer, torch.nn.Conv2d):
                layer.register_forward_hook(lambda layer, given, output: self.layers.add(output.dtype))

    def on_train_batch_end(self, trainer, pl_module, outputs, *rest):
        self.losses.append(outputs["loss"])


HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}


def computing_in(half, scale=256.0):
    """Options of a trainer; Lightning offers ``precision="16-mixed"`` for GPUs alone, but not what it is made of."""
    if half == "bf16":
        return {"precision": "bf16-mixed"}
    return {"plugins": [MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=scale))]}


@pytest.mark.parametrize("half", HALF)
@pytest.mark.parametrize("method", METHODS)
def test_layers_compute_in_half_precision_and_solvers_in_single(method, half, make_trainer, small_scenes, asked):
    supervision = "tags" if method == "ccnn" else "scribble"
    data = small_scenes(num_train=4, crop_size=40, batch_size=2, supervision=supervision)
    network = SMPNetwork("deeplabv3plus", "tu-test_resnet", encoder_weights=None, decoder_channels=16)
    module, watch = METHODS[method](network, data.num_classes), Watch()
    make_trainer(max_epochs=1, limit_val_batches=1, callbacks=[watch], **computing_in(half)).fit(module, data)
    assert asked == [torch.float32] * ASKED.get(method, 0)
    assert_trained_in_half_precision(module, watch, half)


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")  # of torch, where the first step is skipped
def test_gradients_that_overflow_are_skipped_and_training_goes_on(tiny_network, tiny_data, make_trainer):
    module, watch = ADMModule(tiny_network, 3, pce_fraction=0.0), Watch()
    before = [weight.detach().clone() for weight in module.net.parameters()]
    make_trainer(max_steps=2, limit_val_batches=0, callbacks=[watch], **computing_in("fp16", 2.0**60)).fit(
        module, tiny_data
    )
    assert len(watch.losses) == 2
    assert all(torch.equal(weight, same) for weight, same in zip(module.net.parameters(), before, strict=True))


@pytest.mark.parametrize("half", HALF)
def test_decomposition_trains_in_mixed_precision(half, make_trainer, tmp_path):
    classifier, watch = TinyTags("tiny", None), Watch()
    trainer = make_trainer(max_steps=2, limit_val_batches=0, **computing_in(half))
    trainer.fit(TagClassifierModule(classifier, CLASSES), DiscData())
    trainer.save_checkpoint(tmp_path / "g.ckpt")
    module = DecomposeReconstructModule(TinyDecomposition(), CLASSES, classifier, str(tmp_path / "g.ckpt"))
    trainer = make_trainer(max_steps=2, limit_val_batches=1, callbacks=[watch], **computing_in(half))
    trainer.fit(module, DiscData())
    assert_trained_in_half_precision(module, watch, half)


def assert_trained_in_half_precision(module, watch, half):
    assert len(watch.losses) == 2
    assert all(loss.dtype == torch.float32 and loss.isfinite() for loss in watch.losses)
    assert HALF[half] in watch.layers
    assert all(weight.dtype == torch.float32 and weight.isfinite().all() for weight in module.parameters())


# ---- accumulated gradients ----------------------------------------------------------------------------------


class Gradients(Callback):
    """Keeps the batches and the gradient of the first step of the optimizer."""

    def __init__(self):
        self.batches: list[Any] = []
        self.found: dict[str, Tensor] = {}
        self.phases: list[bool] = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.batches.append(batch)
        self.phases.append(pl_module.in_pce_phase)

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        if not self.found:
            named = pl_module.named_parameters()
            self.found = {name: weight.grad.clone() for name, weight in named if weight.grad is not None}


def test_two_batches_of_adm_give_the_mean_of_their_gradients(tiny_network, tiny_data, make_trainer):
    def module():
        made = ADMModule(tiny_network, 3, pce_fraction=0.0)
        made.net.encoder[3] = torch.nn.Identity()  # no dropout
        return made

    seen = Gradients()
    make_trainer(accumulate_grad_batches=2, max_epochs=1, limit_val_batches=0, callbacks=[seen]).fit(
        module(), tiny_data
    )
    byhand = module()
    for batch in seen.batches:
        logits = byhand.net(batch["image"])
        latent = byhand.solve_latent(logits.detach(), batch)
        (torch.stack(list(byhand.latent_loss(logits, latent, batch).values())).sum() / 2).backward()
    assert len(seen.batches) == 2
    for name, weight in byhand.named_parameters():
        torch.testing.assert_close(seen.found[name], weight.grad)


def test_phases_count_steps_of_the_optimizer(tiny_network, tiny_data, make_trainer):
    """Four epochs of two batches are four steps, and half of these the first phase."""
    rates, seen = Optimizer(lr=0.1, schedule="constant"), Gradients()
    module = ADMModule(tiny_network, 3, optimizer=rates, pce_optimizer=Optimizer(lr=0.2), pce_fraction=0.5)
    trainer = make_trainer(accumulate_grad_batches=2, max_epochs=4, limit_val_batches=0, callbacks=[seen])
    trainer.fit(module, tiny_data)
    assert trainer.global_step == 4
    assert seen.phases == [True] * 4 + [False] * 4
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.1)
