"""How far the networks on VGG16 see: the numbers of tests/benchmarks/README.md, from the layers and by the gradient."""

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from weakseg_lightning.networks import FCN32s, LargeFOV, SegmentationNet

NETWORKS = {"large_fov": (LargeFOV(None), 8, 224), "fcn32s": (FCN32s(None), 32, 233)}


def layers_to_one_cell(net: SegmentationNet) -> Iterator[nn.Module]:
    """The layers with windows between an image and its coarse map, in order."""
    last = net.classifiers[0] if hasattr(net, "classifiers") else net
    for layer in (*net.features, last.fc6, last.fc7):
        if hasattr(layer, "kernel_size"):
            yield layer


def first(value: int | tuple[int, ...]) -> int:
    return value[0] if isinstance(value, tuple) else value


def window(net: SegmentationNet) -> tuple[int, int]:
    """Side of the square of pixels that a cell depends on, and the distance of cells."""
    side, step = 1, 1
    for layer in layers_to_one_cell(net):
        side += (first(layer.kernel_size) - 1) * first(getattr(layer, "dilation", 1)) * step
        step *= first(layer.stride)
    return side, step


def with_one_channel(net: SegmentationNet) -> SegmentationNet:
    """The same windows with positive weights, and means for maxima: whatever an output can depend on, it does."""
    for parent in [*net.modules()]:
        for name, layer in parent.named_children():
            if isinstance(layer, nn.MaxPool2d):
                setattr(parent, name, nn.AvgPool2d(layer.kernel_size, layer.stride, layer.padding))
            elif isinstance(layer, nn.Conv2d):
                channels = 3 if layer.in_channels == 3 else 1
                place = {"stride": layer.stride, "padding": layer.padding, "dilation": layer.dilation}
                narrow = nn.Conv2d(channels, 1, layer.kernel_size, bias=False, **place)
                nn.init.constant_(narrow.weight, 1 / narrow.weight.numel())
                setattr(parent, name, narrow)
    return net.double().eval()


@pytest.mark.parametrize("name", NETWORKS)
def test_how_far_a_pixel_sees_by_its_layers(name: str) -> None:
    """Half of a cell's window, and from there to the pixels that lie just before the next cell."""
    network, stride, far = NETWORKS[name]
    side, step = window(network.build(2))
    assert step == stride
    assert (side - 1) / 2 + (stride - 1 if name == "large_fov" else stride - 0.5) == far


@pytest.mark.parametrize("name", NETWORKS)
def test_how_far_a_pixel_sees_by_its_gradient(name: str) -> None:
    network, stride, far = NETWORKS[name]
    net, middle = with_one_channel(network.build(2)), 8 * stride * (280 // (8 * stride) + 1)
    image = torch.ones(1, 3, 9, 2 * middle + 1, dtype=torch.float64, requires_grad=True)
    row = net(image)[0, 0, 4]
    distances = []
    for x in range(middle, middle + stride):
        (slope,) = torch.autograd.grad(row[x], image, retain_graph=True)
        seen = slope.abs().sum((0, 1, 2)).nonzero()
        assert 0 < seen.min() < seen.max() < 2 * middle, "the image is wide enough"
        distances.append(int((seen - x).abs().max()))
    assert max(distances) == far
