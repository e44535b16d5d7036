"""What an exported network takes, and how it is compared."""

import sys
from types import SimpleNamespace

import pytest
import torch

from weakseg_lightning import RegularizedLossModule, SMPNetwork
from weakseg_lightning.errors import UserError
from weakseg_lightning.prediction.export import export_network, fitting, largest_difference, runner, save

ENCODER = "timm-mobilenetv3_small_minimal_100"


def module(**arguments) -> RegularizedLossModule:
    torch.manual_seed(0)
    return RegularizedLossModule(SMPNetwork("unet", ENCODER, None, **arguments), 3).eval()


def test_a_network_that_resizes_images_takes_one_size(tmp_path):
    resizing = module(input_scale=0.5)
    exported = export_network(resizing)
    assert exported.size is not None
    assert "resizes images by 0.5" in exported.why
    save(exported, tmp_path / "a.pt2", "torch", ["a", "b", "c"])
    assert largest_difference(resizing, runner(tmp_path / "a.pt2", "torch"), [exported.size]) < 1e-5


def test_sizes_that_fit_are_those_that_need_no_padding():
    net = module().net
    assert [fitting(net, length) for length in (1, 32, 33, 64)] == [32, 32, 64, 64]


class Constant(torch.nn.Module):
    """One score everywhere."""

    net = SimpleNamespace(in_channels=3)

    def __init__(self, score: float) -> None:
        super().__init__()
        self.score = score

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image * 0 + self.score


@pytest.mark.parametrize(("score", "exported"), [(0.0, 0.5), (1000.0, 1500.0)])
def test_the_difference_is_relative_to_large_scores(score, exported):
    """Of scores below 1 the difference itself counts, of larger ones its fraction of the largest."""
    found = largest_difference(Constant(score), Constant(exported), [(4, 4), (8, 4)])
    assert found == pytest.approx(0.5)


@pytest.mark.parametrize(("score", "exported"), [(float("nan"), 1.0), (1.0, float("nan")), (1.0, float("inf"))])
def test_scores_that_are_not_finite_are_no_scores(score, exported):
    with pytest.raises(UserError, match="network's scores are not finite"):
        largest_difference(Constant(score), Constant(exported), [(4, 4)])


def test_onnx_without_its_packages_names_them(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ImportError, match=r"pip install '\.\[export\]' in the checkout"):
        runner(tmp_path / "a.onnx", "onnx")
