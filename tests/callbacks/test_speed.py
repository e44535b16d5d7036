import pickle
import sys
from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import LambdaCallback
from lightning.pytorch.demos.boring_classes import BoringModel
from lightning.pytorch.strategies import FSDPStrategy
from torch import Tensor, nn

sys.path.append(str(Path(__file__).parent))
from tiny_runs import losses_to, make_trainer

from weakseg_lightning import NetworkSpeed, load_module
from weakseg_lightning.data import ScenesDataModule
from weakseg_lightning.modules import ADMModule, LatentModule, RegularizedLossModule, TrustRegionModule, WeakSegModule
from weakseg_lightning.modules.core.base import Batch
from weakseg_lightning.networks import Network, SegmentationNet, SMPDecomposition, SMPNetwork, TagNetwork
from weakseg_lightning.solvers import SolverResult


class SmallNet(SegmentationNet):
    """Three convolutions, the second of a single pixel, with batch norm and, if wanted, dropout."""

    def __init__(self, num_classes: int, dropout: float) -> None:
        super().__init__((0.5,) * 3, (0.25,) * 3, stride=2)
        self.encoder = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 1))
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Conv2d(8, num_classes, 3, padding=1)

    def compute_logits(self, x: Tensor) -> Tensor:
        return self.head(self.dropout(self.encoder(x)))

    def head_parameters(self) -> list[nn.Parameter]:
        return list(self.head.parameters())


class SmallNetwork(Network):
    def __init__(self, dropout: float = 0.0) -> None:
        self.dropout = dropout

    def build(self, num_classes: int) -> SegmentationNet:
        torch.manual_seed(0)
        return SmallNet(num_classes, self.dropout)


ADM, PCE = partial(ADMModule, pce_fraction=0.0), RegularizedLossModule
TRUST_REGION = partial(TrustRegionModule, pce_fraction=0.25, epochs_per_cycle=1)
CLASSES = ScenesDataModule().num_classes
Make = Callable[..., WeakSegModule]


@pytest.fixture
def fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[float]]:
    """Trains four steps and gives their losses."""
    monkeypatch.setenv("PL_GLOBAL_SEED", "3")
    data = ScenesDataModule(num_train=8, num_val=1, size=40, crop_size=24, batch_size=4, num_workers=0)

    def call(module: LightningModule, *callbacks: Callback, ckpt_path: str | None = None) -> list[float]:
        losses: list[float] = []
        trainer = make_trainer(tmp_path, *callbacks, losses_to(losses), max_epochs=2, limit_val_batches=1)
        trainer.fit(module, data, ckpt_path=ckpt_path, weights_only=True)
        return losses

    return call


@pytest.fixture
def compiled_functions(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Let torch trace as for compilation, without a compiler's minutes; lists what is compiled."""
    original, found = torch.compile, []

    def compile_quickly(function: Any, mode: str | None = None) -> Any:
        found.append((function.__name__, mode))
        return original(function, backend="aot_eager")

    monkeypatch.setattr(torch, "compile", compile_quickly)
    yield found
    torch._dynamo.reset()


# ---- the same training --------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [PCE, ADM, TRUST_REGION])
@pytest.mark.parametrize("options", [{"channels_last": True}, {"compile": "reduce-overhead"}])
def test_losses_are_the_same(
    make: Make, options: dict[str, Any], fit: Callable[..., list[float]], compiled_functions: list[Any]
) -> None:
    plain, fast = make(SmallNetwork(), CLASSES), make(SmallNetwork(), CLASSES)
    assert fit(fast, NetworkSpeed(**options)) == pytest.approx(fit(plain), abs=1e-5)
    assert list(fast.state_dict()) == list(plain.state_dict())
    weight = fast.net.get_parameter("head.weight")
    assert weight.is_contiguous(memory_format=torch.channels_last) == ("channels_last" in options)
    assert [mode for _, mode in compiled_functions] == ([None, "reduce-overhead"] if "compile" in options else [])
    assert fast.net.is_compiled == ("compile" in options)


def test_compiled_code_trains_as_the_network_does(fit: Callable[..., list[float]]) -> None:
    options: dict[str, Any] = {"channels_last": True, "compile": "default"}
    plain, fast = (fit(ADM(SmallNetwork(), CLASSES), NetworkSpeed(**given)) for given in ({}, options))
    assert fast == pytest.approx(plain, abs=1e-5)
    torch._dynamo.reset()


class Recording(ADMModule):
    """ADM that keeps the logits of its hook and of its step."""

    def solve_latent(self, logits: Tensor, batch: Batch) -> SolverResult:
        self.seen_by_hook = [*getattr(self, "seen_by_hook", []), logits.clone()]
        return super().solve_latent(logits, batch)

    def latent_loss(self, logits: Tensor, latent: SolverResult, batch: Batch) -> dict[str, Tensor]:
        self.seen_by_step = [*getattr(self, "seen_by_step", []), logits.detach().clone()]
        return super().latent_loss(logits, latent, batch)


def test_hook_sees_the_logits_of_the_compiled_step_bit_for_bit(
    fit: Callable[..., list[float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As under DDP, with the real compiler: hook and step have to run the same code."""
    monkeypatch.setattr(LatentModule, "shares_forward", lambda self: False)
    module = Recording(SmallNetwork(dropout=0.5), CLASSES, pce_fraction=0.0)
    fit(module, NetworkSpeed(channels_last=True, compile="default"))
    assert len(module.seen_by_hook) == 4
    assert all(map(torch.equal, module.seen_by_hook, module.seen_by_step))
    assert int(module.net.get_buffer("encoder.1.num_batches_tracked")) == 4
    torch._dynamo.reset()


@pytest.mark.parametrize("first", [{}, {"channels_last": True, "compile": "default"}])
def test_a_run_goes_on_with_other_settings(
    first: dict[str, Any], fit: Callable[..., list[float]], compiled_functions: list[Any], tmp_path: Path
) -> None:
    second = {} if first else {"channels_last": True, "compile": "default"}
    path = tmp_path / "half.ckpt"

    def save(trainer: Trainer, module: LightningModule) -> None:
        if trainer.current_epoch == 0:
            trainer.save_checkpoint(path)

    whole, resumed = TRUST_REGION(SmallNetwork(), CLASSES), TRUST_REGION(SmallNetwork(), CLASSES)
    losses = fit(whole, NetworkSpeed(**first), LambdaCallback(on_train_epoch_end=save))
    assert fit(resumed, NetworkSpeed(**second), ckpt_path=str(path)) == pytest.approx(losses[2:], abs=1e-5)


def test_checkpoints_load_without_the_callback(fit: Callable[..., list[float]], tmp_path: Path) -> None:
    network = SMPNetwork("unet", "tu-test_resnet", encoder_weights=None)
    module = RegularizedLossModule(network, CLASSES)
    save = LambdaCallback(on_fit_end=lambda trainer, _: trainer.save_checkpoint(tmp_path / "last.ckpt"))
    fit(module, NetworkSpeed(channels_last=True), save)
    loaded = load_module(tmp_path / "last.ckpt")
    image = torch.rand(1, 3, 30, 40)
    torch.testing.assert_close(loaded.eval()(image), module.eval()(image))


# ---- what is compiled ---------------------------------------------------------------------------------------


def calls_of(net: SegmentationNet, compute: Callable[[], object]) -> int:
    """How often an output runs the compiled layers."""
    calls: list[object] = []

    def run(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        calls.append(function)
        return function(x)

    net._compiled = run
    compute()
    return len(calls)


def test_every_output_of_a_network_runs_the_compiled_layers_in_training_alone() -> None:
    images = torch.rand(2, 3, 40, 40)
    net = SMPDecomposition("unet", "tu-test_resnet", encoder_weights=None).build(3)
    tags = TagNetwork("resnet18", encoder_weights=None).build(3)
    outputs = {net: (net, net.coarse_logits, net.decompose), tags: (tags.tag_logits, tags.activation_maps)}
    for owner, output in ((owner, output) for owner, several in outputs.items() for output in several):
        assert calls_of(owner.train(), partial(output, images)) == 1
        assert calls_of(owner.eval(), partial(output, images)) == 0


def test_copies_are_not_compiled_and_networks_stay_picklable(compiled_functions: list[Any]) -> None:
    net = SmallNet(3, 0.0)
    net.compile(mode="default")
    assert compiled_functions == [("_call", "default")]
    assert not deepcopy(net).is_compiled
    assert not pickle.loads(pickle.dumps(net)).is_compiled
    assert net.is_compiled


# ---- what cannot work ---------------------------------------------------------------------------------------


def test_an_unknown_mode_raises() -> None:
    with pytest.raises(ValueError, match=r"`compile` must be one of 'default', .*, got 'fast'; null compiles nothing"):
        NetworkSpeed(compile="fast")  # type: ignore[arg-type]


def test_a_missing_compiler_is_said_before_training(
    fit: Callable[..., list[float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(function: Any, **options: Any) -> Any:
        def call(*args: Any) -> Any:
            raise RuntimeError("No working C++ compiler found\nand a page about it")

        return call

    monkeypatch.setattr(torch, "compile", fail)
    message = r"cannot compile here \(No working C\+\+ compiler found\); install a C\+\+ compiler.*null"
    with pytest.raises(ValueError, match=f"`compile`: PyTorch {message}"):
        fit(PCE(SmallNetwork(), CLASSES), NetworkSpeed(compile="default"))


def test_a_module_without_a_network_raises() -> None:
    with pytest.raises(TypeError, match="needs the network as `net` of the module; BoringModel has none"):
        NetworkSpeed(compile="default").on_fit_start(Trainer(logger=False, accelerator="cpu"), BoringModel())


def test_channels_last_raises_under_fsdp_which_would_mix_up_the_optimizer() -> None:
    class Sharded(FSDPStrategy):
        """Lightning refuses the class itself on a CPU."""

    trainer = Trainer(accelerator="cpu", strategy=Sharded(), logger=False, enable_checkpointing=False)
    with pytest.raises(ValueError, match="`channels_last`: when a run is resumed, PyTorch's FSDP"):
        NetworkSpeed(channels_last=True).setup(trainer, BoringModel(), "fit")
    NetworkSpeed().setup(trainer, BoringModel(), "fit")
