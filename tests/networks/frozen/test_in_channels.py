"""A frozen encoder for images of other channels than RGB."""

import pytest
import torch

from weakseg_lightning import FrozenFeatures
from weakseg_lightning.networks.frozen.cache import FeatureCache

TINY = "test_efficientnet"
MEAN, STD = (0.5, 0.4, 0.3, 0.2, 0.1), (0.1, 0.2, 0.3, 0.4, 0.5)


def build(weights, **options):
    torch.manual_seed(1)
    return FrozenFeatures(TINY, weights, **options).for_channels(MEAN, STD).build(3).eval()


def test_weights_of_the_first_layer_are_repeated(shared):
    path = str(shared / "weights/tf_efficientnet_lite0.in1k.safetensors")
    network = FrozenFeatures("tf_efficientnet_lite0", path)
    rgb, five = (each.build(2).encoder.state_dict() for each in (network, network.for_channels(MEAN, STD)))
    assert torch.allclose(five["conv_stem.weight"], rgb["conv_stem.weight"][:, [0, 1, 2, 0, 1]] * 3 / 5)
    assert all(torch.equal(value, rgb[name]) for name, value in five.items() if name != "conv_stem.weight")


def test_channels_are_normalized_resized_and_encoded(weights):
    net = build(weights, input_scale=2.0)
    image = torch.rand(5, 40, 56, generator=torch.Generator().manual_seed(0)) * 3 - 1
    larger = torch.nn.functional.interpolate(image[None], scale_factor=2.0, mode="bilinear", antialias=True)
    mean, std = (torch.tensor(values).view(1, 5, 1, 1) for values in (MEAN, STD))
    padded = torch.nn.functional.pad((larger - mean) / std, (0, 16, 0, 16))
    with torch.no_grad():
        expected = net.encoder(padded)
        maps, size = net.encode_image(image)
        assert tuple(size) == (80, 112)
        for found, wanted in zip(maps, expected, strict=True):
            torch.testing.assert_close(found, wanted.half())
        assert net(image[None]).shape == (1, 3, 40, 56)
    with pytest.raises(ValueError, match=r"must have the shape \(B, 5, H, W\), got \(1, 3, 40, 56\)"):
        net(image[None, :3])


def test_features_are_kept_by_all_channels_and_the_shape(weights, tmp_path):
    computed = []
    net = build(weights, cache=FeatureCache(str(tmp_path)))
    net.encoder.register_forward_hook(lambda *_: computed.append(1))
    image = torch.rand(1, 5, 32, 64)
    other = image.clone()
    other[0, 4] += 0.5
    first = net.features(image)
    assert all(map(torch.equal, first, net.features(image)))
    assert len(computed) == 1
    assert not torch.equal(first[0], net.features(other)[0]), "it differs in the fifth channel alone"
    plain = torch.zeros(1, 5, 32, 64)
    assert net.features(plain)[0].shape[2:] == (8, 16)
    assert net.features(plain.transpose(2, 3))[0].shape[2:] == (16, 8), "the same bytes, another shape"
    assert len(computed) == 4
    again = build(weights, cache=FeatureCache(str(tmp_path)))
    again.encoder.register_forward_hook(lambda *_: computed.append(1))
    assert all(map(torch.equal, first, again.features(image)))
    assert len(computed) == 4, "found on the disk"


@pytest.mark.parametrize("save_encoder", [True, False])
def test_checkpoints_bring_the_channels_back(weights, save_encoder):
    network = FrozenFeatures(TINY, weights, save_encoder=save_encoder).for_channels(MEAN, STD)
    net = network.build(3).eval()
    torch.nn.init.normal_(net.head.bias)
    rebuilt = network.without_weights().build(3).eval()
    rebuilt.load_state_dict(net.state_dict())
    assert (network.without_weights().encoder_weights is None) == save_encoder
    image = torch.rand(1, 5, 40, 56)
    with torch.no_grad():
        assert torch.equal(rebuilt(image), net(image))


def test_the_head_is_fitted_to_a_channel_beyond_the_third(weights):
    net = build(weights)
    generator = torch.Generator().manual_seed(0)
    samples = []
    for _ in range(6):
        image, labels = 0.3 + 0.05 * torch.randn(5, 64, 64, generator=generator), torch.zeros(64, 64, dtype=torch.uint8)
        labels[:, 32:] = 1
        image[4, :, 32:] += 2
        samples.append((image, [labels]))
    net.prepare(samples, seed=0)
    with torch.no_grad():
        found = net(samples[0][0][None]).argmax(1)[0]
    assert (found == samples[0][1][0]).float().mean() > 0.9


def test_numbers_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match="`in_channels: 5` needs `mean` and `std`"):
        FrozenFeatures(in_channels=5)
    with pytest.raises(ValueError, match="`std` must be three positive numbers for red, green, blue"):
        FrozenFeatures(std=(0.0,) * 3)
