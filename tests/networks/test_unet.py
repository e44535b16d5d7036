import pytest
import torch
from torch import nn

from weakseg_lightning.hyperparameters import describe
from weakseg_lightning.networks import UNet


def count(*modules: nn.Module) -> int:
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


@pytest.mark.parametrize("reading", ["report", "released"])
def test_parameters_are_those_of_appendix_a(reading):
    net = UNet(reading).build(2)
    assert count(net.encoder) == 9_404_992
    assert [count(*block) for block in net.encoder.blocks] == [38_720, 221_440, 885_248, 3_539_968]
    # f_x: 6 outputs for two classes. What both decoders share counts for each, as in the table.
    assert count(net.neck, net.image_decoder) == 12_576_070
    last = net.image_decoder.last[-1] if reading == "report" else net.image_decoder.last
    assert count(last) == 3_462
    assert count(net.neck, net.mask_decoder) == 12_576_070 - 4 * 577


def test_blocks_of_the_report_have_the_parameters_of_table_2():
    decoder = UNet("report").build(2).image_decoder
    blocks = [count(first, second) for first, second in zip(decoder.first, decoder.second, strict=True)]
    assert blocks == [9_438_208, 2_359_808, 590_080, 147_584]
    assert count(decoder.last[0]) == 36_928


def test_images_go_in_as_they_are():
    net = UNet().build(2)
    assert net.mean.abs().sum() == 0
    assert (net.std == 1).all()


def test_a_smaller_scale_gives_outputs_of_the_image_size():
    logits, imagelets = UNet(input_scale=0.5).build(2).decompose(torch.rand(1, 3, 33, 48))
    assert logits.shape[-2:] == imagelets.shape[-2:] == (33, 48)


def test_it_can_be_written_down():
    assert describe(UNet("released"))["init_args"] == {"reading": "released", "input_scale": 1.0}
    with pytest.raises(ValueError, match="`reading` must be one of 'report', 'released', got 'other'"):
        UNet("other")
