from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from weakseg_lightning.networks import LargeFOV, SegmentationNet


@pytest.fixture(scope="module")
def large_fov() -> SegmentationNet:
    torch.manual_seed(0)
    return LargeFOV(encoder_weights=None).build(21).eval()


def test_it_has_stride_8_with_aligned_cells(large_fov: SegmentationNet) -> None:
    # crop 321, as published, gives 41 cells and is not padded
    assert large_fov.padded_size(321) == 321
    with torch.no_grad():
        assert large_fov.features(torch.zeros(1, 3, 65, 41)).shape == (1, 512, 9, 6)
    strides = [m.stride for m in large_fov.features if isinstance(m, nn.MaxPool2d)]
    assert strides == [2, 2, 2, 1, 1]
    # cell 8 of pool4 answers to the pixels around 64, as far to the one side as to the other
    images = torch.rand(1, 3, 129, 129, requires_grad=True)
    large_fov.features[:24](images)[0, :, 8, 8].sum().backward()
    rows = images.grad.abs().sum((0, 1, 3)).nonzero().flatten()
    assert rows.min() > 0
    assert rows.min() + rows.max() == 2 * 64


def test_it_sees_far(large_fov: SegmentationNet) -> None:
    dilated = [m.dilation[0] for m in large_fov.modules() if isinstance(m, nn.Conv2d) and m.dilation[0] > 1]
    assert dilated == [2, 2, 2, 12]
    drops = [m for m in large_fov.modules() if isinstance(m, nn.Dropout)]
    assert [m.p for m in drops] == [0.5]
    assert large_fov.classifiers[0].fc8.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert large_fov.classifiers[0].fc8.bias.abs().max() == 0


def test_it_head_is_the_last_layer(large_fov: SegmentationNet) -> None:
    assert [p.shape for p in large_fov.head_parameters()] == [(21, 1024, 1, 1), (21,)]


def test_it_takes_torchvisions_weights(vgg16: nn.Module, tmp_path: Path) -> None:
    vgg16_state = vgg16.state_dict()
    save_file(vgg16_state, tmp_path / "vgg16.safetensors")
    net = LargeFOV(str(tmp_path / "vgg16.safetensors")).build(4)
    loaded = net.features.state_dict()
    assert len(loaded) == 26
    assert all(torch.equal(value, vgg16_state[f"features.{key}"]) for key, value in loaded.items())
    # output 5 of fc6, input 7, window position (1, 2) is unit 20 at (3, 6) of the 7 x 7 window
    assert net.classifiers[0].fc6.weight[5, 7, 1, 2] == vgg16_state["classifier.0.weight"][20, 7 * 49 + 3 * 7 + 6]
    assert net.classifiers[0].fc6.bias[5] == vgg16_state["classifier.0.bias"][20]
    assert net.classifiers[0].fc7.weight[5, 9, 0, 0] == vgg16_state["classifier.3.weight"][20, 36]
    assert net.classifiers[0].fc7.bias[5] == vgg16_state["classifier.3.bias"][20]


def test_it_convolves_as_vgg16_before_the_strides_part(vgg16: nn.Module, tmp_path: Path) -> None:
    features = {key: value for key, value in vgg16.state_dict().items() if key.startswith("features.")}
    torch.save(features, tmp_path / "features.pth")
    net = LargeFOV(str(tmp_path / "features.pth")).build(2)
    images = torch.rand(1, 3, 24, 24)
    with torch.no_grad():
        torch.testing.assert_close(net.features[:4](images), vgg16.features[:4](images))


# ---------------------------------------------------------------- its relatives in the ADM paper


@pytest.fixture(scope="module")
def multi_scale() -> SegmentationNet:
    torch.manual_seed(0)
    return LargeFOV(None, multi_scale=True).build(21).eval()


@pytest.fixture(scope="module")
def four_classifiers() -> SegmentationNet:
    torch.manual_seed(0)
    return LargeFOV(None, dilations=[6, 12, 18, 24]).build(21).eval()


def test_multi_scale_adds_what_the_published_branches_hold(multi_scale: SegmentationNet) -> None:
    hidden = [(9 * channels * 128 + 128) + (128 * 128 + 128) for channels in (3, 64, 128, 256, 512)]
    last = [128 * 21 + 21] * 5  # 640 channels more for the last layer; one bias would do for all five
    assert sum(p.numel() for p in multi_scale.parameters()) == 20_505_429 + sum(hidden) + sum(last)


def test_multi_scale_is_a_linear_layer_on_concatenated_maps(multi_scale: SegmentationNet) -> None:
    images = torch.rand(1, 3, 57, 41)
    with torch.no_grad():
        x = (images - multi_scale.mean) / multi_scale.std
        maps, taps = [], [x]
        for layer in multi_scale.features:
            x = layer(x)
            taps += [x] * isinstance(layer, nn.MaxPool2d)
        classifier = multi_scale.classifiers[0]
        maps.append(torch.relu(classifier.fc7(torch.relu(classifier.fc6(x)))))
        maps += [branch[:-1](tap) for branch, tap in zip(multi_scale.branches, taps[:5], strict=True)]
        layers = [classifier.fc8, *(branch[-1] for branch in multi_scale.branches)]
        concatenated, weight = torch.cat(maps, 1), torch.cat([layer.weight for layer in layers], 1)
        expected = nn.functional.conv2d(concatenated, weight, sum(layer.bias for layer in layers))
        assert concatenated.shape == (1, 1024 + 640, 8, 6)
        torch.testing.assert_close(multi_scale.coarse_logits(images), expected, rtol=1e-4, atol=1e-5)


def test_branches_are_aligned_with_the_map(multi_scale: SegmentationNet) -> None:
    # cell 8 answers to pixels around 64, as far to the one side as to the other
    for number, branch in enumerate(multi_scale.branches):
        images = torch.rand(1, 3, 129, 129, requires_grad=True)
        pools = [index for index, layer in enumerate(multi_scale.features) if isinstance(layer, nn.MaxPool2d)]
        seen = multi_scale.features[: pools[number - 1] + 1](images) if number else images
        branch(seen)[0, :, 8, 8].sum().backward()
        rows = images.grad.abs().sum((0, 1, 3)).nonzero().flatten()
        assert rows.min() + rows.max() == 2 * 64
        assert (rows.max() - rows.min() + 1 == 3) == (number == 0)


def test_branches_are_part_of_the_head_and_drop_in_training(multi_scale: SegmentationNet) -> None:
    head = {id(parameter) for parameter in multi_scale.head_parameters()}
    assert {id(p) for p in multi_scale.branches.parameters()} < head
    assert len(head) == len(multi_scale.head_parameters()) == 2 + 5 * 6
    assert sum(isinstance(layer, nn.Dropout) for layer in multi_scale.branches.modules()) == 2 * 5
    stds = [branch[-1].weight.std().item() for branch in multi_scale.branches]
    assert stds == pytest.approx([0.01] * 5, rel=0.1)


def test_four_classifiers_add_their_logits(four_classifiers: SegmentationNet) -> None:
    each = (9 * 512 * 1024 + 1024) + (1024 * 1024 + 1024) + (1024 * 21 + 21)
    assert sum(p.numel() for p in four_classifiers.parameters()) == 20_505_429 + 3 * each
    dilated = [m.dilation[0] for m in four_classifiers.modules() if isinstance(m, nn.Conv2d) and m.dilation[0] > 1]
    assert dilated == [2, 2, 2, 6, 12, 18, 24]
    assert not any(isinstance(layer, nn.AvgPool2d) for layer in four_classifiers.features)
    assert len(four_classifiers.head_parameters()) == 2 * 4
    images = torch.rand(1, 3, 33, 41)
    with torch.no_grad():
        features = four_classifiers.features((images - four_classifiers.mean) / four_classifiers.std)
        expected = sum(classifier(features) for classifier in four_classifiers.classifiers)
        torch.testing.assert_close(four_classifiers.coarse_logits(images), expected)


def test_every_classifier_takes_torchvisions_weights(vgg16: nn.Module) -> None:
    net = LargeFOV(None, dilations=(6, 24), multi_scale=True).build(4)
    net.load_vgg16(vgg16.state_dict(), "vgg16.pth")
    for classifier in net.classifiers:
        assert torch.equal(classifier.fc7.bias, vgg16.classifier[3].bias[::4])


@pytest.mark.parametrize("dilations", [[], [6, 0]])
def test_dilations_are_checked(dilations: list[int]) -> None:
    with pytest.raises(ValueError, match=r"`dilations` must be one number or several, 1 or more each, got \["):
        LargeFOV(None, dilations=dilations)


def test_relatives_are_described_in_full() -> None:
    network = LargeFOV("imagenet", 0.1, 0.5, [6, 12], True)
    assert vars(network.without_weights()) == {**vars(network), "encoder_weights": None}
