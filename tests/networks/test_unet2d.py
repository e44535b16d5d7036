from itertools import pairwise

import pytest
import torch
from torch import nn

from weakseg_lightning.hyperparameters import describe
from weakseg_lightning.networks import UNet2D, UNet2DDualBranch

SMALL = {"widths": (4, 6, 8), "dropout": (0.0, 0.1, 0.2)}


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def of_block(channels: int, width: int) -> int:
    """Two convolutions of 3 x 3 with biases, two numbers per channel of each batch norm."""
    return 9 * channels * width + 9 * width**2 + 2 * width + 4 * width


def of_decoder(widths: tuple[int, ...], classes: int) -> int:
    """Convolutions of 1 x 1 from the deeper level, and blocks that take in the encoder's map."""
    levels = (deeper * width + width + of_block(2 * width, width) for width, deeper in pairwise(widths))
    return sum(levels) + widths[0] * classes + classes


@pytest.mark.parametrize(("channels", "expected"), [(1, 1_813_252), (3, 1_813_540)])
def test_the_parameters_are_those_of_its_layers(channels, expected):
    widths, net = UNet2D().widths, UNet2D(channels).build(4)
    assert count(net.encoder) == sum(of_block(before, width) for before, width in pairwise((channels, *widths)))
    assert count(net.decoder) == of_decoder(widths, 4)
    assert count(net) == expected


def test_a_second_decoder_adds_a_decoder():
    net = UNet2DDualBranch().build(4)
    assert count(net.second_decoder) == of_decoder(UNet2D().widths, 4)
    assert count(net) == 1_813_252 + count(net.decoder) == 2_446_040


@pytest.mark.parametrize("size", [(1, 1), (7, 33), (64, 48)])
def test_images_of_any_size_and_of_any_scale(size):
    net = UNet2D(**SMALL, input_scale=0.5).build(3).eval()
    assert net(torch.rand(2, 3, *size)).shape == (2, 3, *size)


def test_gray_is_the_mean_of_three_channels_and_color_is_not():
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, 3, 16, 16, generator=generator)
    mixed = image[:, [1, 2, 0]]
    gray, color = (UNet2D(channels, **SMALL).build(2).eval() for channels in (1, 3))
    torch.testing.assert_close(gray(image), gray(mixed))
    assert (color(image) - color(mixed)).abs().max() > 1e-3


@pytest.mark.parametrize(("in_decoder", "expected"), [(True, [0, 0.1, 0.2, 0.1, 0]), (False, [0, 0.1, 0.2, 0, 0])])
def test_levels_have_their_own_dropout(in_decoder, expected):
    net = UNet2D(**SMALL, decoder_dropout=in_decoder).build(2)
    assert [part.p for part in net.modules() if isinstance(part, nn.Dropout)] == expected


def test_images_go_in_as_they_are_and_all_layers_learn_alike():
    net = UNet2D(**SMALL).build(2)
    assert (net.mean == 0).all()
    assert (net.std == 1).all()
    assert net.head_parameters() == []


def test_it_can_be_written_down():
    options = {"in_channels": 3, **SMALL, "decoder_dropout": False, "input_scale": 0.5}
    written = describe(UNet2D(**options))["init_args"]
    assert {name: tuple(value) if isinstance(value, list) else value for name, value in written.items()} == options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"in_channels": 2}, "`in_channels` must be one of 1, 3, got 2"),
        ({"widths": (8,)}, r"`len\(widths\)` must be at least 2, got 1"),
        ({"widths": (8, 0), "dropout": (0, 0)}, r"`min\(widths\)` must be at least 1, got 0"),
        ({"widths": (8, 9, 10)}, "`dropout` must have 3 values, as `widths` has, got 5"),
        ({"widths": (8, 9), "dropout": (0, 1)}, "`dropout` must be at least 0 and below 1, got 1"),
        ({"input_scale": 9}, "`input_scale` must be above 0 and at most 8, got 9"),
    ],
)
def test_arguments_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        UNet2D(**options)
