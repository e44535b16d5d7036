"""Common properties of LargeFOV and FCN-32s."""

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from weakseg_lightning.hyperparameters import describe
from weakseg_lightning.networks import FCN32s, LargeFOV
from weakseg_lightning.networks.vgg16 import VGG16Net, VGG16Network

BOTH = pytest.mark.parametrize("kind", [LargeFOV, FCN32s])
WIDTHS = [3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]
CONVOLUTIONS = sum(9 * i * o + o for i, o in pairwise(WIDTHS))


@pytest.fixture(scope="module", params=[LargeFOV, FCN32s])
def net(request: pytest.FixtureRequest) -> VGG16Net:
    torch.manual_seed(0)
    return request.param(None).build(21).eval()


def test_the_number_of_parameters_is_as_published(net: VGG16Net) -> None:
    by_hand = {
        "LargeFOVNet": CONVOLUTIONS + (9 * 512 * 1024 + 1024) + (1024 * 1024 + 1024) + (1024 * 21 + 21),
        "FCN32sNet": CONVOLUTIONS + (49 * 512 * 4096 + 4096) + (4096 * 4096 + 4096) + (4096 * 21 + 21),
    }
    assert by_hand == {"LargeFOVNet": 20_505_429, "FCN32sNet": 134_346_581}
    assert sum(p.numel() for p in net.parameters()) == by_hand[type(net).__name__]


@pytest.mark.parametrize("size", [(1, 1), (33, 50), (41, 41), (64, 32)])
def test_every_size_passes(net: VGG16Net, size: tuple[int, int]) -> None:
    with torch.no_grad():
        assert net(torch.rand(1, 3, *size)).shape == (1, 21, *size)


def test_dropout_acts_in_training_alone(net: VGG16Net) -> None:
    images = torch.rand(1, 3, 33, 33)
    with torch.no_grad():
        net.train()
        assert not torch.equal(net(images), net(images))
        net.eval()
        assert torch.equal(net(images), net(images))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features.0.weight": None}, r"1 missing in the file \(features\.0\.weight\)"),
        ({"features.31.weight": torch.zeros(2)}, r"1 not in the encoder \(features\.31\.weight\)"),
        ({"features.2.weight": torch.zeros(64, 3, 3, 3)}, r"1 of another shape \(features\.2\.weight is \(64, 3"),
        ({"classifier.3.bias": None}, r"1 missing in the file \(classifier\.3\.bias\)"),
        ({"classifier.0.weight": torch.zeros(2, 2)}, r"1 of another shape \(classifier\.0\.weight is \(2, 2\)"),
    ],
)
def test_other_weights_are_refused_and_change_nothing(
    vgg16: nn.Module, net: VGG16Net, change: dict[str, Tensor | None], message: str
) -> None:
    before = {key: value.clone() for key, value in net.state_dict().items()}
    state = {key: value for key, value in {**vgg16.state_dict(), **change}.items() if value is not None}
    with pytest.raises(ValueError, match=message):
        net.load_vgg16(state, "x.pth")
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


@BOTH
def test_the_description_is_plain_and_cheap(kind: type[VGG16Network]) -> None:
    network = kind("gone.pth", 0.2, 0.5)
    described = {"encoder_weights": "gone.pth", "dropout": 0.2, "input_scale": 0.5}
    more = {"dilations": [12], "multi_scale": False} if kind is LargeFOV else {}
    assert describe(network)["init_args"] == {**described, **more}
    assert vars(network.without_weights()) == {**vars(network), "encoder_weights": None}


@BOTH
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"encoder_weights": "imagnet"}, ValueError, '`encoder_weights` must be "imagenet", null, or the path'),
        ({"encoder_weights": "no/such.pth"}, FileNotFoundError, "`encoder_weights`: no file"),
        ({"encoder_weights": None, "dropout": 1.0}, ValueError, "`dropout` must be at least 0 and below 1"),
        ({"encoder_weights": None, "input_scale": 9.0}, ValueError, "`input_scale` must be above 0 and at most 8"),
    ],
)
def test_wrong_arguments_are_explained(
    kind: type[VGG16Network], arguments: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        kind(**arguments).build(2)


@BOTH
def test_a_failed_download_says_what_to_do(
    kind: type[VGG16Network], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(ConnectionError, match=r"could not download https://.*vgg16.* or null for random weights"):
        kind().build(2)
