import pytest
import torch
from torch import nn

from weakseg_lightning.networks import FCN32s, SegmentationNet


@pytest.fixture(scope="module")
def fcn(vgg16: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> SegmentationNet:
    path = tmp_path_factory.mktemp("weights") / "vgg16.pth"
    torch.save(vgg16.state_dict(), path)
    torch.manual_seed(0)
    net = FCN32s(str(path)).build(21).eval()
    path.unlink()
    return net


def test_the_middle_cell_of_224_pixels_is_vgg16s_own(vgg16: nn.Module, fcn: SegmentationNet) -> None:
    images = torch.rand(1, 3, 224, 224)
    with torch.no_grad():
        pooled = vgg16.avgpool(vgg16.features((images - fcn.mean) / fcn.std)).flatten(1)
        hidden = vgg16.classifier[:6](pooled)
        expected = hidden @ fcn.score.weight.flatten(1).T + fcn.score.bias
        cells = fcn.coarse_logits(images)
    assert cells.shape == (1, 21, 7, 7)
    assert expected.std() > 1e-3
    torch.testing.assert_close(cells[..., 3, 3], expected, rtol=1e-3, atol=1e-5)
    assert not torch.allclose(cells[..., 3, 4], expected, rtol=1e-2)


def test_logits_meet_the_cells_at_their_centers(fcn: SegmentationNet) -> None:
    images = torch.rand(1, 3, 96, 96)
    with torch.no_grad():
        logits, cells = fcn(images), fcn.coarse_logits(images)
    assert fcn.coarse_grid().pixels(96).tolist() == [16, 48, 80]
    # half a pixel from the center: 1/64 of the way to the next cell
    down = cells[..., 1, :] * 63 / 64 + cells[..., 2, :] / 64
    torch.testing.assert_close(logits[..., 48, 48], down[..., 1] * 63 / 64 + down[..., 2] / 64)


def test_cells_see_as_far_to_the_one_side_as_to_the_other(fcn: SegmentationNet) -> None:
    images = torch.rand(1, 3, 288, 32, requires_grad=True)
    fcn.features(images)[0, :, 4, 0].sum().backward()
    rows = images.grad.abs().sum((0, 1, 3)).nonzero().flatten()
    assert rows.min() > 0
    assert rows.min() + rows.max() == 2 * (32 * 4) + 31
    fcn.zero_grad()


def test_the_head_is_the_score_layer(fcn: SegmentationNet) -> None:
    assert [p.shape for p in fcn.head_parameters()] == [(21, 4096, 1, 1), (21,)]
    assert fcn.score.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert fcn.score.bias.abs().max() == 0
    assert [m.p for m in fcn.modules() if isinstance(m, nn.Dropout)] == [0.5]


def test_convolutions_alone_leave_the_rest_random(vgg16: nn.Module, fcn: SegmentationNet) -> None:
    before = fcn.fc7.weight[:2].clone()
    features = {key: value + 1 for key, value in vgg16.state_dict().items() if key.startswith("features.")}
    fcn.load_vgg16(features, "features.pth")
    assert torch.equal(fcn.features[0].weight, vgg16.features[0].weight + 1)
    assert torch.equal(fcn.fc7.weight[:2], before)
    fcn.load_vgg16(vgg16.state_dict(), "vgg16.pth")
