import pytest
import torch
from torch import nn

from weakseg_lightning.networks import SMPNetwork
from weakseg_lightning.networks.ddp_unused import freeze_unused


@pytest.mark.parametrize("encoder", ["timm-tf_efficientnet_lite0", "resnet18"])
def test_exactly_the_weights_without_a_gradient_are_frozen(encoder: str) -> None:
    net = SMPNetwork(architecture="deeplabv3plus", encoder=encoder, encoder_weights=None).build(3).eval()
    net(torch.rand(1, 3, 64, 64)).sum().backward()
    idle = [name for name, parameter in net.named_parameters() if parameter.grad is None]
    assert freeze_unused(net, [net(torch.zeros(1, 3, 64, 64))]) == idle
    assert [name for name, parameter in net.named_parameters() if not parameter.requires_grad] == idle
    assert bool(idle) == ("efficientnet" in encoder), "it keeps the last layers of the classifier that it was"


def test_what_does_not_ask_for_gradients_is_left_as_it_is() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))
    net[0].requires_grad_(False)
    assert freeze_unused(net, [net(torch.rand(1, 2))]) == []
    assert net[2].weight.requires_grad
