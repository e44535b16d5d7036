from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from weakseg_lightning.hyperparameters import describe
from weakseg_lightning.networks import FCN32s, SegmentationNet


@pytest.fixture(scope="module")
def vgg16() -> nn.Module:
    """Torchvision's network as it is drawn before training, in which signals keep their size."""
    from torchvision.models import vgg16

    torch.manual_seed(3)
    return vgg16().eval()


@pytest.fixture(scope="module")
def fcn(vgg16: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> SegmentationNet:
    path = tmp_path_factory.mktemp("weights") / "vgg16.pth"
    torch.save(vgg16.state_dict(), path)
    torch.manual_seed(0)
    net = FCN32s(str(path)).build(21).eval()
    path.unlink()
    return net


def test_the_number_of_parameters(fcn: SegmentationNet) -> None:
    widths = [3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]
    vgg = sum(9 * i * o + o for i, o in pairwise(widths))
    by_hand = vgg + (49 * 512 * 4096 + 4096) + (4096 * 4096 + 4096) + (4096 * 21 + 21)
    assert by_hand == 134_346_581
    assert sum(p.numel() for p in fcn.parameters()) == by_hand


def test_the_middle_cell_of_224_pixels_is_vgg16s_own(vgg16: nn.Module, fcn: SegmentationNet) -> None:
    images = torch.rand(1, 3, 224, 224)
    with torch.no_grad():
        pooled = vgg16.avgpool(vgg16.features((images - fcn.mean) / fcn.std)).flatten(1)
        hidden = vgg16.classifier[:6](pooled)
        expected = hidden @ fcn.score.weight.flatten(1).T + fcn.score.bias
        cells = fcn.coarse_logits(images)
    assert cells.shape == (1, 21, 7, 7)
    assert expected.std() > 1e-3
    torch.testing.assert_close(cells[..., 3, 3], expected, rtol=1e-3, atol=1e-5)
    assert not torch.allclose(cells[..., 3, 4], expected, rtol=1e-2)


def test_every_size_passes(fcn: SegmentationNet) -> None:
    for size in ((1, 1), (33, 50), (64, 32)):
        with torch.no_grad():
            assert fcn(torch.rand(1, 3, *size)).shape == (1, 21, *size)


def test_logits_meet_the_cells_at_their_centres(fcn: SegmentationNet) -> None:
    images = torch.rand(1, 3, 96, 96)
    with torch.no_grad():
        logits, cells = fcn(images), fcn.coarse_logits(images)
    assert fcn.coarse_grid().pixels(96).tolist() == [16, 48, 80]
    # half a pixel from the centre: 1/64 of the way to the next cell
    down = cells[..., 1, :] * 63 / 64 + cells[..., 2, :] / 64
    torch.testing.assert_close(logits[..., 48, 48], down[..., 1] * 63 / 64 + down[..., 2] / 64)


def test_cells_see_as_far_to_the_one_side_as_to_the_other(fcn: SegmentationNet) -> None:
    images = torch.rand(1, 3, 288, 32, requires_grad=True)
    fcn.features(images)[0, :, 4, 0].sum().backward()
    assert images.grad is not None
    rows = images.grad.abs().sum((0, 1, 3)).nonzero().flatten()
    assert rows.min() > 0
    assert rows.min() + rows.max() == 2 * (32 * 4) + 31
    fcn.zero_grad()


def test_the_head_is_the_score_layer(fcn: SegmentationNet) -> None:
    assert [p.shape for p in fcn.head_parameters()] == [(21, 4096, 1, 1), (21,)]
    assert fcn.score.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert fcn.score.bias.abs().max() == 0
    assert [m.p for m in fcn.modules() if isinstance(m, nn.Dropout)] == [0.5]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features.0.weight": None}, r"1 missing in the file \(features\.0\.weight\)"),
        ({"classifier.3.bias": None}, r"1 missing in the file \(classifier\.3\.bias\)"),
        ({"classifier.0.weight": torch.zeros(2, 2)}, r"1 of another shape \(classifier\.0\.weight is \(2, 2\)"),
    ],
)
def test_other_weights_are_refused_and_change_nothing(
    vgg16: nn.Module, fcn: SegmentationNet, change: dict[str, Tensor | None], message: str
) -> None:
    state = {key: value + 1 for key, value in vgg16.state_dict().items()}
    state = {key: value for key, value in {**state, **change}.items() if value is not None}
    with pytest.raises(ValueError, match=message):
        fcn.load_vgg16(state, "x.pth")
    assert torch.equal(fcn.features[0].weight, vgg16.features[0].weight)
    assert torch.equal(fcn.fc7.weight.flatten(1), vgg16.classifier[3].weight)


def test_convolutions_alone_leave_the_rest_random(vgg16: nn.Module, fcn: SegmentationNet) -> None:
    before = fcn.fc7.weight[:2].clone()
    features = {key: value + 1 for key, value in vgg16.state_dict().items() if key.startswith("features.")}
    fcn.load_vgg16(features, "features.pth")
    assert torch.equal(fcn.features[0].weight, vgg16.features[0].weight + 1)
    assert torch.equal(fcn.fc7.weight[:2], before)
    fcn.load_vgg16(vgg16.state_dict(), "vgg16.pth")


def test_the_description_is_plain_and_cheap() -> None:
    network = FCN32s("gone.pth", 0.2, 0.5)
    assert describe(network)["init_args"] == {"encoder_weights": "gone.pth", "dropout": 0.2, "input_scale": 0.5}
    assert vars(network.without_weights()) == {"encoder_weights": None, "dropout": 0.2, "input_scale": 0.5}


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"encoder_weights": "imagnet"}, ValueError, '`encoder_weights` must be "imagenet", null, or the path'),
        ({"encoder_weights": "no/such.pth"}, FileNotFoundError, "`encoder_weights`: no file"),
        ({"encoder_weights": None, "dropout": 1.0}, ValueError, "`dropout` must be at least 0 and below 1"),
        ({"encoder_weights": None, "input_scale": 2.0}, ValueError, "`input_scale` must be above 0 and at most 1"),
    ],
)
def test_wrong_arguments_are_explained(arguments: dict[str, object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        FCN32s(**arguments).build(2)


def test_the_network_needs_a_class() -> None:
    with pytest.raises(ValueError, match="`num_classes` must be at least 1, got 0"):
        FCN32s(None).build(0)


def test_a_failed_download_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(ConnectionError, match=r"could not download https://.*vgg16.* or null for random weights"):
        FCN32s().build(2)
