"""Tiles give what the whole image gives, where the network sees no further than the overlap."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from weakseg_lightning import MeanField, RegularizedLossModule, Segmenter, SMPNetwork
from weakseg_lightning.channels import Channels
from weakseg_lightning.prediction.tiling import MemoryRows, spans

SEES = 24


def random_image(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def as_batch(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255


@torch.no_grad()
def whole(module, image: np.ndarray) -> np.ndarray:
    """By the module alone, without anything of this package's prediction."""
    return module(as_batch(image))[0].softmax(0).numpy()


def tiled(module, image: np.ndarray, **options) -> np.ndarray:
    return Segmenter(module, "cpu", **options).probabilities(image)


@pytest.mark.parametrize(("height", "width"), [(150, 170), (97, 301), (64, 64), (30, 200), (129, 65)])
def test_tiles_equal_the_whole_image(module, height, width):
    image = random_image(height, width)
    segmenter = Segmenter(module, "cpu", tile=96, overlap=2 * SEES)
    expected = whole(module, image)
    blend = segmenter.blocks(MemoryRows(image))
    found = np.full_like(expected, np.nan)
    for block in blend:
        found[:, *block.place] = block.scores
    rows, columns = (spans(length, 96, 2 * SEES, 4) for length in (height, width))
    outside = np.ones((height, width), dtype=bool)
    for parts, axis in ((rows, 0), (columns, 1)):
        for before, after in pairwise(parts):
            np.moveaxis(outside, axis, 0)[after.start : before.stop] = False
    assert outside.any()
    np.testing.assert_allclose(found[:, outside], expected[:, outside], rtol=0, atol=1e-5)
    assert blend.difference < 1e-5, "in the middle of the overlap both see all that has an influence"
    np.testing.assert_array_equal(segmenter(image)[outside], expected.argmax(0)[outside])
    np.testing.assert_array_equal(segmenter.probabilities(image), found)


def test_a_network_that_pools_the_image_is_found_out(pooling):
    blend = Segmenter(pooling, "cpu", tile=96, overlap=48).blocks(MemoryRows(np.sort(random_image(96, 250), axis=1)))
    for _ in blend:
        pass
    assert blend.difference > 0.01


def test_tiles_of_a_u_net_equal_the_whole_image():
    """One that training uses; it sees 249 pixels far (by its gradient)."""
    torch.manual_seed(0)
    module = RegularizedLossModule(SMPNetwork("unet", "timm-mobilenetv3_small_minimal_100", None), 3).eval()
    image = random_image(64, 608)
    found, expected = tiled(module, image, tile=512, overlap=256), whole(module, image)
    for outside in (slice(0, 256), slice(512, 608)):
        np.testing.assert_allclose(found[..., outside], expected[..., outside], rtol=0, atol=1e-4)
    assert np.ptp(expected) > 0.1


def test_an_image_of_one_tile_is_predicted_whole(pooling):
    image = random_image(50, 70)
    np.testing.assert_allclose(tiled(pooling, image, tile=70, overlap=0), whole(pooling, image))


def test_flips_and_scales_are_averaged(module):
    image = random_image(64, 96)
    expected = (whole(module, image) + whole(module, image[:, ::-1].copy())[:, :, ::-1]) / 2
    np.testing.assert_allclose(tiled(module, image, flip=True), expected, atol=1e-6)
    with torch.no_grad():
        half = torch.nn.functional.interpolate(as_batch(image), scale_factor=0.5, mode="bilinear", antialias=True)
        smaller = torch.nn.functional.interpolate(module(half).softmax(1), size=(64, 96), mode="bilinear")[0].numpy()
    found = tiled(module, image, scales=(1, 0.5))
    np.testing.assert_allclose(found, (whole(module, image) + smaller) / 2, atol=1e-5)
    np.testing.assert_allclose(found.sum(0), 1, atol=1e-5)


@pytest.mark.parametrize(("scales", "alignment"), [((1.0,), 4), ((0.5,), 8), ((0.75, 1), 16), ((1.25,), 16), ((2,), 2)])
def test_tiles_begin_where_all_scales_have_a_cell(module, scales, alignment):
    assert Segmenter(module, "cpu", scales=scales).scorer.alignment == alignment
    assert all((alignment * scale) % 4 == 0 for scale in scales)


def test_tiles_equal_the_whole_image_at_two_scales(module):
    """Everywhere, since at half the size the network sees 48 pixels far, a quarter of the overlap."""
    image = random_image(32, 900)
    found = tiled(module, image, tile=400, overlap=192, scales=(0.5, 1), flip=True)
    np.testing.assert_allclose(found, tiled(module, image, scales=(0.5, 1), flip=True), atol=1e-4)


@pytest.mark.parametrize("width", range(257, 280))
def test_mirror_images_do_not_shrink_the_overlap(module, width):
    segmenter = Segmenter(module, "cpu", tile=128, overlap=48, flip=True, scales=(0.75, 1))
    columns = segmenter.blocks(MemoryRows(random_image(8, width))).columns
    assert all((column.stop - width) % 16 == 0 for column in columns), "mirrored, tiles begin at cells, too"
    assert min(before.stop - after.start for before, after in pairwise(columns)) >= 48


def test_a_refinement_is_applied(module):
    image, refinement = random_image(40, 40), MeanField()
    with torch.no_grad():
        expected = refinement.refine(module(as_batch(image)), as_batch(image))[0].numpy()
    np.testing.assert_allclose(tiled(module, image, refinement=refinement), expected, atol=1e-6)
    assert abs(expected - whole(module, image)).max() > 0.01


@pytest.mark.parametrize(
    "image", [np.zeros((4, 4)), np.zeros((3, 4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)]
)
def test_other_arrays_raise(module, image):
    with pytest.raises(ValueError, match=r"`image` must be RGB, uint8 \(H, W, 3\)"):
        tiled(module, image)


def test_slices_of_volumes_are_given_as_fractions(module, monkeypatch):
    three = (0.0,) * 3, (1.0,) * 3, (0.5,) * 3, (0.3,) * 3
    channels = Channels(("slice-1", "slice", "slice+1"), ["slice"], *three, (1, 1, 1))
    monkeypatch.setattr(Segmenter, "channels", channels)
    segmenter = Segmenter(module, "cpu")
    assert segmenter(random_image(8, 8) / np.float32(255)).shape == (8, 8)
    with pytest.raises(ValueError, match=r"holds values up to 2\d\d, expected slices of a volume as fractions"):
        segmenter(random_image(8, 8))


def test_a_path_is_no_array(module):
    with pytest.raises(ValueError, match=r"`image` must be an array, got the path 'a.png': read it"):
        Segmenter(module, "cpu")("a.png")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"overlap": 600}, "`overlap` must be 0 to half"),
        ({"tile": 0, "overlap": 0}, "`tile` must be at least 1"),
        ({"tile": 400, "overlap": 196, "scales": (0.5, 1), "flip": True}, "`overlap` is too large for mirror images"),
        ({"scales": ()}, "`scales` must be one number or several"),
        ({"scales": (0.0,)}, "`scales` must be one number or several"),
    ],
)
def test_wrong_arguments_raise_at_once(module, wrong, message):
    with pytest.raises(ValueError, match=message):
        Segmenter(module, "cpu", **wrong)


def test_scores_that_are_not_finite_are_no_labels(module):
    torch.nn.init.constant_(module.net.last.bias, float("nan"))
    with pytest.raises(ValueError, match="the network's scores are not finite"):
        Segmenter(module, "cpu")(random_image(8, 8))
