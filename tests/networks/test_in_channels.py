"""Networks for images of other channels than RGB."""

import pytest
import torch

from weakseg_lightning.networks import SMPNetwork
from weakseg_lightning.networks.weights import read_state_dict

ENCODER = "tu-tf_efficientnet_lite0"


@pytest.fixture(scope="module")
def weights(shared) -> str:
    return str(shared / "weights/tf_efficientnet_lite0.in1k.safetensors")


def described(weights: str | None, count: int) -> SMPNetwork:
    return SMPNetwork("unet", ENCODER, encoder_weights=weights).for_channels([0.4] * count, [0.2] * count)


@pytest.mark.parametrize(("count", "order"), [(5, [0, 1, 2, 0, 1]), (2, [0, 1])])
def test_weights_of_the_first_layer_are_repeated(weights, count, order):
    stored = read_state_dict(weights)["conv_stem.weight"]
    first = described(weights, count).build(2).model.encoder.state_dict()["model.conv_stem.weight"]
    assert torch.allclose(first, stored[:, order] * 3 / count)


def test_three_channels_keep_the_weights(weights):
    stored = read_state_dict(weights)["conv_stem.weight"]
    assert torch.equal(described(weights, 3).build(2).model.encoder.state_dict()["model.conv_stem.weight"], stored)


def test_of_one_channel_it_is_their_sum(weights):
    gray = described(weights, 1).build(2).eval()
    color = described(weights, 3).build(2).eval()
    color.load_state_dict({**gray.state_dict(), **{k: v for k, v in color.state_dict().items() if "conv_stem" in k}})
    image = torch.rand(1, 1, 40, 50)
    with torch.no_grad():
        assert torch.allclose(gray(image), color(image.expand(-1, 3, -1, -1)), atol=1e-4)


def test_channels_are_normalized_by_their_own_numbers():
    network = SMPNetwork("unet", ENCODER, encoder_weights=None).for_channels([1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 4.0, 8.0])
    net = network.build(2)
    assert net.in_channels == 4
    image = torch.ones(1, 4, 32, 32)
    assert torch.equal(net._pad(image)[0, :, 0, 0], torch.tensor([0.0, -0.5, -0.5, -0.375]))
    assert network.without_weights().build(2).in_channels == 4
    with pytest.raises(ValueError, match=r"must have the shape \(B, 4, H, W\), got \(1, 3, 32, 32\)"):
        net(torch.zeros(1, 3, 32, 32))


def test_numbers_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match="`in_channels: 5` needs `mean` and `std`"):
        SMPNetwork(in_channels=5)
    with pytest.raises(ValueError, match="`mean` must be 5 numbers, one per channel"):
        SMPNetwork(in_channels=5, mean=(0.0,) * 3, std=(1.0,) * 5)
    with pytest.raises(ValueError, match="`mean` must be three numbers for red, green, blue"):
        SMPNetwork(mean=(0.0,) * 4)
