import pytest
import torch
from discs import TinyTags

from weakseg_lightning.modules.frozen import Frozen, load_classifier


@pytest.fixture
def frozen():
    return Frozen(TinyTags("tiny", None).build(3))


def modes(frozen):
    return {part.training for part in frozen.modules()}


def test_no_way_to_train_it(frozen):
    around = torch.nn.ModuleList([frozen])
    around.train()
    assert modes(frozen) == {False}
    frozen.train()
    frozen.requires_grad_(True)
    assert not any(parameter.requires_grad for parameter in frozen.parameters())
    around.requires_grad_(True)
    frozen(torch.rand(1, 3, 8, 8))
    assert modes(frozen) == {False}
    assert not any(parameter.requires_grad for parameter in frozen.parameters())


def test_parts_that_were_set_to_train_leave_their_statistics_alone(frozen):
    before = {name: value.clone() for name, value in frozen.state_dict().items()}
    for part in frozen.modules():
        part.training = True  # what hooks that restore modes do
    frozen(torch.rand(4, 3, 8, 8))
    assert modes(frozen) == {False}
    assert all(torch.equal(value, before[name]) for name, value in frozen.state_dict().items())


def test_images_get_a_gradient_and_weights_get_none(frozen):
    images = torch.rand(2, 3, 8, 8, requires_grad=True)
    frozen(images).sum().backward()
    assert images.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in frozen.parameters())


def test_what_does_not_fit_raises(tmp_path):
    network = TinyTags("tiny", None)
    with pytest.raises(ValueError, match="`classifier_checkpoint` must name the checkpoint of a trained classifier"):
        load_classifier(network.build(3), network, None, 3)
    with pytest.raises(FileNotFoundError, match=r"`classifier_checkpoint`: no checkpoint `.*train it first"):
        load_classifier(network.build(3), network, str(tmp_path / "none.ckpt"), 3)
    state = {f"net.{name}": value for name, value in network.build(5).state_dict().items()}
    saved = {"num_classes": 5, "network": {"init_args": {"encoder": "other"}}}
    path = tmp_path / "five.ckpt"
    torch.save({"pytorch-lightning_version": "2", "state_dict": state, "hyper_parameters": saved}, path)
    with pytest.raises(ValueError, match="holds other with 5 classes, this run builds tiny with 3"):
        load_classifier(network.build(3), network, str(path), 3)
