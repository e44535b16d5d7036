import pytest
import torch

from weakseg_lightning.hyperparameters import describe
from weakseg_lightning.networks import DualBranchNet, DualBranchNetwork, SMPDualBranch, UNet2DDualBranch

KINDS = {
    "unet2d": lambda p: UNet2DDualBranch(widths=(4, 6, 8), dropout=(0.0, 0.0, 0.0), perturbation=p),
    "unet": lambda p: SMPDualBranch("unet", "tu-test_resnet", encoder_weights=None, perturbation=p),
    "deeplabv3plus": lambda p: SMPDualBranch("deeplabv3plus", "tu-test_resnet", encoder_weights=None, perturbation=p),
}


@pytest.fixture(params=KINDS)
def build(request):
    def call(perturbation: float = 0.5) -> DualBranchNet:
        torch.manual_seed(0)
        return KINDS[request.param](perturbation).build(3)

    return call


def test_the_first_branch_predicts_and_the_second_is_another_one(build):
    net, images = build().eval(), torch.rand(2, 3, 21, 30)
    first, second = net.branches(images)
    assert second.shape == first.shape == (2, 3, 21, 30)
    torch.testing.assert_close(net(images), first)
    assert (first - second).abs().max() > 1e-3


def test_branches_are_equal_where_their_decoders_are_and_nothing_is_perturbed(build):
    net = build(0.0).eval()
    parts = {"second_decoder": "decoder", "second_head": "segmentation_head"}
    for second, first in parts.items():
        if hasattr(net, second):
            getattr(net, second).load_state_dict(getattr(getattr(net, "model", net), first).state_dict())
    torch.testing.assert_close(*net.branches(torch.rand(1, 3, 32, 32)))


@pytest.mark.parametrize(("perturbation", "same"), [(0.5, False), (0.0, True)])
def test_perturbation_is_of_the_second_branch_alone_and_of_training(build, perturbation, same):
    net, images = build(perturbation).eval(), torch.rand(2, 3, 32, 32)
    before = net.branches(images)
    net.perturbation.train()
    after = net.branches(images)
    torch.testing.assert_close(before[0], after[0])
    assert torch.equal(before[1], after[1]) is same


def test_both_decoders_learn_and_are_heads_where_the_encoder_is_pretrained(build):
    net = build()
    sum(logits.mean() for logits in net.branches(torch.rand(2, 3, 32, 32))).backward()
    of_second = [parameter for name, parameter in net.named_parameters() if name.startswith("second")]
    assert all(parameter.grad is not None for parameter in of_second)
    heads = {id(parameter) for parameter in net.head_parameters()}
    if heads:
        assert {id(parameter) for parameter in of_second} < heads
        assert not heads & {id(parameter) for parameter in net.model.encoder.parameters()}


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
def test_it_can_be_written_down_and_checks_its_argument(make):
    network = make(0.25)
    assert isinstance(network, DualBranchNetwork)
    assert describe(network)["init_args"]["perturbation"] == 0.25
    with pytest.raises(ValueError, match="`perturbation` must be at least 0 and below 1, got 1"):
        make(1)
