"""Statistics of channels."""

import numpy as np
import pytest
import torch

from weakseg_lightning.channels import Channels
from weakseg_lightning.data import BadSampleError
from weakseg_lightning.data.images.statistics import measure, picture, places_of, rgb_of
from weakseg_lightning.errors import UserError

NAMES = ("red", "nir")


def images() -> dict[str, list[np.ndarray]]:
    rng = np.random.default_rng(0)
    sizes = {"a": (30, 40), "b": (50, 20), "c": (10, 10)}
    return {
        name: [rng.integers(0, 60000, size).astype("u2"), rng.normal(1e6, 3, size).astype("f8")]
        for name, size in sizes.items()
    }


def measured(given) -> Channels:
    return measure(given.__getitem__, list(given), NAMES, list(NAMES), (0, 0, 0))


def test_statistics_are_those_of_all_pixels():
    given = images()
    found = measured(given)
    for number in range(2):
        pixels = np.concatenate([planes[number].ravel() for planes in given.values()]).astype(float)
        assert found.mean[number] == pytest.approx(pixels.mean(), rel=1e-12)
        assert found.std[number] == pytest.approx(pixels.std(), rel=1e-9)
        assert (found.low[number], found.high[number]) == pytest.approx(np.percentile(pixels, (1, 99)))


def test_scaled_images_keep_their_range():
    given = images()
    found = measured(given)
    scaled = torch.cat([found.scaled(planes).flatten(1) for planes in given.values()], 1)
    assert scaled.dtype == torch.float32
    mean, std = found.normalization
    assert torch.allclose(scaled.mean(1), torch.tensor(mean), atol=1e-5)
    assert torch.allclose(scaled.std(1, correction=0), torch.tensor(std), atol=1e-5)
    assert (scaled < 0).float().mean() == pytest.approx(0.01, abs=0.002)  # beyond the percentiles nothing is cut off
    assert len(scaled[1].unique()) > 2000  # a spread of 3 about a million is not lost in float32
    assert Channels.of_plain(found.plain()) == found


def test_what_cannot_be_measured_is_named():
    given = images()
    for planes in given.values():
        planes[1][:] = 7
    with pytest.raises(UserError, match="the channel 'nir' is 7 in all training images: leave it out"):
        measured(given)
    given["a"][1][0, 0] = -3.4e38
    with pytest.raises(UserError, match=r"the channel 'nir' holds -3\.4e\+38: if that means no data, declare it"):
        measured(given)

    def unreadable(name):
        raise BadSampleError(f"{name} is missing")

    with pytest.raises(BadSampleError, match="a is missing"):
        measure(unreadable, ["a", "b"], NAMES, list(NAMES), (0, 0, 0))


def test_nearly_constant_channels_have_a_range():
    given = {"a": [np.eye(300), np.arange(90000).reshape(300, 300)]}
    found = measured(given)
    assert found.low[0] < found.high[0]
    assert torch.isfinite(found.scaled(given["a"])).all()


def test_the_channels_that_are_shown():
    five = ["nir", "red", "swir", "blue", "green"]
    assert places_of(five, None) == (1, 4, 3)
    assert places_of(["a", "b", "c", "d"], None) == (0, 1, 2)
    assert places_of(["a", "b"], None) == (0, 0, 0)
    assert places_of(five, ["swir"]) == (2, 2, 2)
    assert places_of(five, ["swir", "nir", "red"]) == (2, 0, 1)
    with pytest.raises(UserError, match="no channel is called 'depth': take some of nir, red"):
        places_of(five, ["depth"])
    with pytest.raises(UserError, match="three channels or one, got 2"):
        places_of(five, ["nir", "red"])
    assert rgb_of(five, 0.5) == (1, 4, 3)
    assert rgb_of(["a"], 0) is None
    with pytest.raises(UserError, match="`color_jitter` changes red, green and blue"):
        rgb_of(["a"], 0.5)


def test_pictures_are_stretched_between_percentiles():
    planes = [np.arange(10000).reshape(100, 100) * factor for factor in (1, 5.5, 1e6)]
    shown = picture(planes, (2, 0, 1))
    assert shown.shape == (100, 100, 3)
    assert np.array_equal(shown[..., 0], shown[..., 1])
    assert (shown.min(), shown.max()) == (0, 255)
