"""What tells encoders apart, in a cache and in a checkpoint: the architecture, the maps and timm, not weights alone."""

import pytest
import timm
import torch

from weakseg_lightning import FrozenFeatures
from weakseg_lightning.networks.frozen import encoder as encoder_module
from weakseg_lightning.networks.frozen import features as features_module
from weakseg_lightning.networks.frozen.cache import FeatureCache

TINY, ITS_WEIGHTS, ANOTHER = "test_efficientnet", "test_efficientnet.r160_in1k", "test_efficientnet_gn"


@pytest.fixture
def image() -> torch.Tensor:
    torch.manual_seed(0)
    return torch.rand(1, 3, 70, 90)


@pytest.fixture
def other_encoder(monkeypatch) -> None:
    """An encoder of another name whose weights have the same names and shapes."""
    make = features_module.make_encoder
    monkeypatch.setattr(features_module, "make_encoder", lambda name, *args: make(TINY, *args))


def build(name, weights, **options):
    torch.manual_seed(1)
    return FrozenFeatures(name, weights, **options).build(4)


@pytest.mark.usefixtures("other_encoder")
def test_other_encoders_with_the_same_weights_are_other_features(weights, image):
    cache = FeatureCache()
    for name, count in ((TINY, 1), (ANOTHER, 2), (ITS_WEIGHTS, 2)):
        build(name, weights, cache=cache)(image)
        assert len(cache._kept) == count


def test_another_timm_and_other_maps_are_other_features(weights, image, monkeypatch):
    cache = FeatureCache()
    build(TINY, weights, cache=cache)(image)
    with monkeypatch.context() as changed:
        changed.setattr(timm, "__version__", "0.1")
        build(TINY, weights, cache=cache)(image)
    assert len(cache._kept) == 2
    monkeypatch.setattr(encoder_module, "_FINEST_STRIDE", 8)
    build(TINY, weights, cache=cache)(image)
    assert len(cache._kept) == 3


@pytest.mark.usefixtures("other_encoder")
def test_a_head_meets_no_encoder_of_another_name_with_the_same_weights(weights):
    state = build(TINY, weights, save_encoder=False).state_dict()
    build(ITS_WEIGHTS, weights, save_encoder=False).load_state_dict(dict(state))
    with pytest.raises(ValueError, match="trained on another encoder"):
        build(ANOTHER, weights, save_encoder=False).load_state_dict(dict(state))


def test_checkpoints_of_before_the_name_of_the_encoder_was_kept_are_loaded(weights):
    net = build(TINY, weights, save_encoder=False)
    before = features_module._digest_of_encoder(net.encoder.state_dict(), "")
    assert not torch.equal(before, net.encoder_digest)
    again = build(TINY, weights, save_encoder=False)
    again.load_state_dict(net.state_dict() | {"encoder_digest": before})
    assert torch.equal(again.encoder_digest, net.encoder_digest)
