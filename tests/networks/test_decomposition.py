import pytest
import torch

from weakseg_lightning.hyperparameters import describe
from weakseg_lightning.networks import SMPDecomposition, SMPNetwork, UNet

SMALL = [SMPDecomposition(name, "tu-test_resnet", encoder_weights=None) for name in ("deeplabv3plus", "unet")]


@pytest.mark.parametrize("network", [*SMALL, UNet("report"), UNet("released")])
def test_both_outputs_come_from_one_encoder(network):
    torch.manual_seed(0)
    net, images = network.build(3).eval(), torch.rand(1, 3, 20, 35)
    logits, imagelets = net.decompose(images)
    assert logits.shape == (1, 3, 20, 35)
    assert imagelets.shape == (1, 3, 3, 20, 35)
    assert 0 < imagelets.min() < imagelets.max() < 1
    torch.testing.assert_close(logits, net(images))
    encoder = net.encoder if isinstance(network, UNet) else net.model.encoder
    for output in (logits, imagelets):
        (gradient,) = torch.autograd.grad(output.sum(), next(encoder.parameters()), retain_graph=True)
        assert gradient.abs().sum() > 0


@pytest.mark.parametrize("network", SMALL)
def test_the_decoders_share_nothing_and_learn_as_heads(network):
    net = network.build(3)
    plain = SMPNetwork(network.architecture, "tu-test_resnet", encoder_weights=None).build(3)
    head = {id(parameter) for parameter in net.head_parameters()}
    encoder = {id(parameter) for parameter in net.model.encoder.parameters()}
    assert head | encoder == {id(parameter) for parameter in net.parameters()}
    assert not head & encoder
    assert len(head) == 2 * len(plain.head_parameters())


def test_without_weights_it_is_of_the_same_kind():
    network = SMPDecomposition("unet", "tu-test_resnet", "imagenet", dropout=0.3, input_scale=0.5)
    plain = network.without_weights()
    assert type(plain) is SMPDecomposition
    assert plain.encoder_weights is None
    assert describe(plain)["init_args"]["dropout"] == 0.3
    net = plain.build(2)
    assert net.dropout.p == 0.3
    assert net.input_scale == 0.5
