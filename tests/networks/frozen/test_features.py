"""A frozen encoder with a head: frozen for real, cached by content, as exact as without a cache."""

import pytest
import timm
import torch
from safetensors.torch import load_file
from tiny_network import TINY, build

from weakseg_lightning import FrozenFeatures
from weakseg_lightning.networks.frozen.cache import FeatureCache


@pytest.fixture
def images() -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randint(0, 256, (3, 3, 70, 90)).float() / 255


def test_only_the_head_learns_and_the_encoder_stays_in_evaluation_mode(weights, images):
    net = build(weights)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=0.1)
    assert {id(p) for p in optimizer.param_groups[0]["params"]} == {id(p) for p in net.head_parameters()}
    net.train()
    assert net.training
    assert net.head.training
    assert not any(module.training for module in net.encoder.modules())
    for _ in range(2):
        net(images).square().mean().backward()
        optimizer.step()
    changed = {name for name, value in net.state_dict().items() if not torch.equal(value, before[name])}
    assert changed
    assert all(name.startswith("head.") for name in changed)


def test_an_encoder_that_learns_begins_as_the_frozen_one_and_keeps_its_statistics(weights, images):
    net, frozen = build(weights, freeze_encoder=False).train(), build(weights).train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    net.head.eval(), frozen.head.eval()  # no dropout
    torch.testing.assert_close(net(images), frozen(images), rtol=1e-2, atol=1e-3)  # half precision there
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    net(images).square().mean().backward()
    optimizer.step()
    unchanged = {name for name, value in net.state_dict().items() if torch.equal(value, before[name])}
    assert all(
        name.startswith(("head.", "encoder_digest", "mean", "std")) for name in unchanged if not _statistic(name)
    )
    assert unchanged >= {name for name in before if _statistic(name)}
    assert any(name.startswith("encoder.") and not _statistic(name) for name in before)


def test_an_encoder_that_learns_sees_images_once_until_it_begins(weights, images, tmp_path, monkeypatch):
    cache = FeatureCache(tmp_path / "features")
    net, frozen = build(weights, freeze_encoder=False, cache=cache), build(weights)
    seen = []
    encode = net.encoder.forward
    monkeypatch.setattr(net.encoder, "forward", lambda x: seen.extend(x) or encode(x))
    labeled = [(image.mul(255).byte(), [torch.randint(0, 4, (70, 90))]) for image in images]
    net.preparing = True  # as `prepare_net` says
    for _ in range(2):
        net.prepare(labeled, 0)
    net.preparing = False
    frozen.prepare(labeled, 0)
    assert len(seen) == len(images)
    for name, value in frozen.head.state_dict().items():
        assert torch.equal(net.head.state_dict()[name], value), name
    net.train()(images).mean().backward()  # one step
    with torch.no_grad():
        first = net(images)
        net.encoder.conv_stem.weight.mul_(2)
        assert not torch.equal(net(images), first)
    assert len(seen) == 4 * len(images)
    loaded = build(weights, freeze_encoder=False, cache=cache)
    loaded.load_state_dict(net.state_dict())
    with torch.no_grad():
        assert torch.equal(loaded.eval()(images), net.eval()(images))


def _statistic(name: str) -> bool:
    return name.endswith(("running_mean", "running_var", "num_batches_tracked"))


def test_checkpoints_hold_an_encoder_that_learns(weights):
    with pytest.raises(ValueError, match="`save_encoder` must be true where the encoder learns"):
        build(weights, freeze_encoder=False, save_encoder=False)


def test_maps_are_those_of_timm(weights, images):
    net = build(weights)
    whole = timm.create_model(TINY, features_only=True, out_indices=(1, 2, 3, 4)).eval()
    whole.load_state_dict(load_file(weights), strict=False)
    x = torch.nn.functional.pad((images - net.mean) / net.std, (0, 6, 0, 26))
    expected = whole(x)
    found = net.features(images)
    assert [features.shape[1] for features in found] == net.head.channels == whole.feature_info.channels()
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.equal(ours, theirs.half())


@pytest.mark.parametrize("scale", [1.0, 0.6])
def test_a_cache_changes_nothing_and_saves_the_encoder(weights, images, tmp_path, scale):
    plain = build(weights, input_scale=scale).eval()
    cached = build(weights, input_scale=scale, cache=FeatureCache(str(tmp_path))).eval()
    # one by one without a cache, too: convolutions round otherwise in batches of other sizes
    expected = torch.cat([plain(image[None]) for image in images])
    torch.testing.assert_close(cached(images), expected, rtol=0, atol=2e-3)
    first = cached(images)
    cached.encoder.forward = None  # not needed any more
    assert torch.equal(cached(images), first)
    assert torch.equal(cached(images.flip(0)), first.flip(0))
    assert torch.equal(cached(images[1:2]), first[1:2])
    from_disk = build(weights, input_scale=scale, cache=FeatureCache(str(tmp_path), memory=0)).eval()
    from_disk.load_state_dict(cached.state_dict())
    assert torch.equal(from_disk(images), first)


@pytest.mark.parametrize("cache", [None, FeatureCache()])
def test_maps_have_their_channels_last_in_memory(weights, images, cache):
    for _ in range(2):
        for maps in build(weights, cache=cache).features(images):
            assert maps.is_contiguous(memory_format=torch.channels_last)


def test_other_pixels_and_other_weights_are_other_features(weights, images):
    cache = FeatureCache()
    net = build(weights, cache=cache).eval()
    net(images)
    assert len(cache._kept) == 3
    net(images.flip(-1))
    brighter = images.clone()
    brighter[0, 0, 3, 4] = 1 - brighter[0, 0, 3, 4]
    net(brighter)
    assert len(cache._kept) == 7
    build(None, cache=cache)(images)
    assert len(cache._kept) == 10
    net(images * (1 + 2e-5))  # equal in half precision, and the encoder sees more of it
    assert len(cache._kept) == 13
    build(weights, cache=cache, input_scale=0.5)(images)
    assert len(cache._kept) == 16
    build(weights, cache=cache, mean=(0.4, 0.4, 0.4))(images)
    assert len(cache._kept) == 19


def test_images_of_bytes_are_found_by_their_bytes(weights, images):
    cache = FeatureCache()
    net = build(weights, cache=cache).eval()
    given = images.mul(255).round().byte()
    first = [net.encode_image(image)[0][0] for image in given]
    assert torch.equal(net.features(given.float() / 255)[0], torch.cat(first))
    assert len(cache._kept) == 3


def test_checkpoints_hold_the_encoder_or_a_reference(weights, images):
    whole, head = build(weights), build(weights, save_encoder=False)
    assert sum(name.startswith("encoder.") for name in whole.state_dict()) > 50
    assert {name.split(".")[0] for name in head.state_dict()} == {"head", "encoder_digest"}
    description = FrozenFeatures(TINY, weights, save_encoder=False, cache=FeatureCache()).without_weights()
    assert (description.encoder_weights, description.cache) == (weights, None)
    again = description.build(4)
    again.load_state_dict(head.state_dict())
    assert torch.equal(again.eval()(images), head.eval()(images))
    random = FrozenFeatures(TINY, weights).without_weights()
    assert random.encoder_weights is None
    net = random.build(4)
    net.load_state_dict(whole.state_dict())
    assert torch.equal(net.eval()(images), whole.eval()(images))


def test_a_head_meets_no_other_encoder(weights):
    state = build(weights, save_encoder=False).state_dict()
    with pytest.raises(ValueError, match="or on other weights of it: give `encoder` and `encoder_weights`"):
        build(None, save_encoder=False).load_state_dict(state)


def test_an_encoder_that_learned_goes_by_the_name_of_its_new_weights(weights, images):
    """Or a cache would hold features of the weights before for it."""
    learning = build(weights, freeze_encoder=False)
    before = learning.encoder_digest.clone()
    with torch.no_grad():
        next(learning.encoder.parameters()).mul_(2)
    state = learning.state_dict()
    assert not torch.equal(state["encoder_digest"], before)
    for digest in (state["encoder_digest"], before):  # of before this was written so
        cache = FeatureCache()
        build(weights, cache=cache)(images)
        frozen = build(weights, cache=cache)
        frozen.load_state_dict(state | {"encoder_digest": digest})
        assert torch.equal(frozen.encoder_digest, state["encoder_digest"])
        frozen(images)
        assert len(cache._kept) == 6
    same = build(weights)
    same.load_state_dict(build(weights).state_dict())
    assert torch.equal(same.encoder_digest, before)


@pytest.mark.parametrize(
    ("name", "strides"),
    [
        ("test_vit", (16, 16)),
        ("resnet18", (4, 32)),
        ("convnext_atto", (4, 32)),
        ("vit_tiny_patch16_224", (16, 16)),
        ("swin_tiny_patch4_window7_224", (4, 32)),
        ("vit_small_patch16_dinov3", (16, 16)),
    ],
)
def test_encoders_of_many_kinds_take_any_size(name, strides):
    net = FrozenFeatures(name, None).build(2).eval()
    assert (net.map_stride, net.stride) == strides
    for size in ((50, 77), (224, 224)):
        assert net(torch.rand(1, 3, *size)).shape == (1, 2, *size)
    rows, columns = (-(-length // net.map_stride) for length in (50, 77))
    assert net.coarse_logits(torch.rand(1, 3, 50, 77)).shape == (1, 2, rows, columns)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"encoder": "resnet81"}, ValueError, "`encoder` 'resnet81' is unknown to timm; did you mean"),
        ({"encoder_weights": "imagenet21k"}, ValueError, "`encoder_weights` must be"),
        ({"encoder_weights": "none.safetensors"}, FileNotFoundError, "no file 'none.safetensors'"),
    ],
)
def test_what_cannot_be_built_is_said(options, error, message):
    with pytest.raises(error, match=message):
        FrozenFeatures(**options).build(2)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"hidden": 0}, "`hidden`"), ({"dropout": 1.0}, "`dropout`"), ({"input_scale": 0.0}, "`input_scale`")],
)
def test_wrong_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        FrozenFeatures(**options)


def test_weights_of_another_encoder_are_refused(weights):
    with pytest.raises(ValueError, match="does not fit the encoder"):
        FrozenFeatures("resnet18", weights).build(2)


def test_real_weights(shared):
    path = shared / "weights" / "tf_efficientnet_lite0.in1k.safetensors"
    net = FrozenFeatures(encoder_weights=str(path)).build(3)
    assert net.head.channels == [24, 40, 112, 320]
    assert not torch.equal(net.encoder_digest, FrozenFeatures(encoder_weights=None).build(3).encoder_digest)
