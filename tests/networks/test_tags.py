from pathlib import Path

import pytest
import torch
from torch.nn import functional

from weakseg_lightning.networks import TagNetwork


@pytest.fixture
def net():
    torch.manual_seed(0)
    return TagNetwork("tu-test_resnet", None).build(4).eval()


def test_scores_are_those_of_a_linear_layer_on_pooled_features(net):
    images = torch.rand(2, 3, 64, 96)
    pooled = net.encoder((images - net.mean) / net.std)[-1].mean((2, 3))
    expected = functional.linear(pooled, net.head.weight[:, :, 0, 0], net.head.bias)
    torch.testing.assert_close(net.tag_logits(images), expected)
    logits = net(images)
    assert logits.shape == (2, 4, 64, 96)
    assert (logits[:, 0] == 0).all()


def test_padding_does_not_count(net):
    """Cells of the padding alone are left out of the mean."""
    images, valid = torch.rand(1, 3, 64, 96), torch.ones(1, 64, 96, dtype=torch.bool)
    valid[..., 32:] = False
    cells = net.coarse_logits(images)[:, 1:]
    torch.testing.assert_close(net.tag_logits(images, valid), cells[..., :1].mean((2, 3)))


def test_activation_maps_have_maximum_one_and_no_bias(net):
    with torch.no_grad():
        net.head.bias += 100
    maps = net.activation_maps(torch.rand(1, 3, 64, 64))
    assert maps.min() == 0
    assert all(peak == pytest.approx(1) or peak == 0 for peak in maps.amax((2, 3))[0].tolist())
    assert maps.shape == (1, 3, 2, 2)


def test_a_smaller_stride_keeps_the_weights(net):
    fine = TagNetwork("tu-test_resnet", None, output_stride=16).build(4)
    fine.load_state_dict(net.state_dict())
    assert fine.coarse_logits(torch.rand(1, 3, 64, 64)).shape[-2:] == (4, 4)


def test_real_weights_are_loaded(shared: Path):
    path = shared / "weights" / "tf_efficientnet_lite0.in1k.safetensors"
    network = TagNetwork("timm-tf_efficientnet_lite0", str(path), 16)
    net = network.build(2)
    assert net.mean.flatten().tolist() == [0.5] * 3
    assert net.encoder.conv_stem.weight.std() > 0.1
    assert network.without_weights().encoder_weights is None


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="`output_stride` must be one of 8, 16, got 4"):
        TagNetwork(output_stride=4)
    with pytest.raises(ValueError, match="`encoder` 'resnet19' is unknown; did you mean"):
        TagNetwork("resnet19", None).build(2)
