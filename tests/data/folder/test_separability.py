"""Channels that tell labelled classes apart, against integrals over their densities."""

from itertools import combinations

import numpy as np
import pytest
import tifffile
from PIL import Image
from scipy.integrate import quad
from scipy.stats import norm

from weakseg_lightning.data.folder.contents import read_folder
from weakseg_lightning.data.folder.images.separability import ClassMoments, choose_guide, class_distances
from weakseg_lightning.data.images.channels import ChannelFiles

SIX = ["blue", "green", "red", "nir", "swir", "thermal"]


def distances(samples, channels):
    return class_distances([ClassMoments.of(sample) for sample in samples])(channels)


def test_the_distance_in_one_channel_is_the_integral_over_the_densities():
    """1 - exp(-B) is 1 - the integral of sqrt(p q), for normal densities of the samples' means and common variances."""
    rng = np.random.default_rng(0)
    samples = [rng.normal(mean, spread, (500, 1)) for mean, spread in ((0, 1), (1, 1), (0, 3), (40, 0.5))]
    expected = []
    for one, other in combinations(samples, 2):
        spread = np.sqrt((one.var(ddof=1) + other.var(ddof=1)) / 2)
        p, q = (norm(sample.mean(), spread) for sample in (one, other))
        overlap = quad(lambda x, p=p, q=q: np.sqrt(p.pdf(x) * q.pdf(x)), -15, 55, points=[0, 1, 40], limit=200)[0]
        expected.append(1 - overlap)
    np.testing.assert_allclose(distances(samples, [0]), expected, atol=1e-4)


def test_correlated_channels_count_together():
    """Two classes that overlap in each channel alone, and not in their difference."""
    rng = np.random.default_rng(1)
    common = rng.normal(0, 1, 2000)
    one = np.stack([common, common + rng.normal(0.5, 0.05, 2000)], axis=1)
    other = np.stack([common, common + rng.normal(-0.5, 0.05, 2000)], axis=1)
    assert distances([one, other], [0]) < 0.01
    assert distances([one, other], [1]) < 0.2
    assert distances([one, other], [0, 1]) > 0.99


def test_moments_of_parts_join_to_those_of_the_whole():
    values = np.random.default_rng(2).normal(5, 2, (90, 4))
    joined = ClassMoments.of(values[:20]).joined(ClassMoments.of(values[20:]))
    assert joined.pixels == 90
    np.testing.assert_allclose(joined.mean, values.mean(0))
    np.testing.assert_allclose(joined.scatter / 89, np.cov(values, rowvar=False))


@pytest.mark.parametrize("odd", ["one pixel", "rounding", "spread"])
def test_channels_that_tell_nothing_do_not_tell(odd):
    """One pixel without data, a constant that is rounded differently, or classes of another spread."""
    rng = np.random.default_rng(3)
    one, other = rng.normal(500, 50, (2, 240, 2))
    other[:, 0] += 90
    for sample in (one, other):
        sample[:, 1] = 0.3 if odd == "rounding" else 0
    if odd == "one pixel":
        other[7, 1] = -9999
    elif odd == "rounding":
        other[:, 1] += 1e-17 * rng.random(240) + 5e-17
    else:
        other[:, 1] = rng.normal(0, 50, 240)
    assert distances([one, other], [0]) > 0.2
    assert distances([one, other], [1]) < 0.05


def folder(root, means, missing=()):
    """A folder of one image of six bands, as many columns of each class, with scribbles over all but a row."""
    rng = np.random.default_rng(0)
    for name in ("images", "scribbles"):
        (root / name).mkdir(parents=True)
    labels = np.repeat(range(len(means)), 12)[None].repeat(30, 0).astype(np.uint8)
    values = rng.normal(0, 1, (6, *labels.shape)) + np.array(means)[labels].transpose(2, 0, 1)
    tifffile.imwrite(root / "images/a.tif", values.astype("f4"), photometric="minisblack")
    labels[0] = 255
    for label in missing:
        labels[labels == label] = 255
    Image.fromarray(labels).save(root / "scribbles/a.png")
    names = ["soil", "crop", "weed", *(f"tree_{number}" for number in range(3, len(means)))]
    (root / "classes.yaml").write_text(f"classes: [{', '.join(names)}]\n")
    return read_folder(root, channels=ChannelFiles(SIX))


def test_the_channels_in_which_classes_differ_are_chosen(tmp_path):
    """Crop and weed differ in thermal alone, soil from both in nir and red."""
    contents = folder(tmp_path, [[0, 0, 3, 4, 0, 0], [0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 4]])
    found = choose_guide(contents, list(contents.images), "scribble", SIX)
    assert found is not None
    assert found.names == ["red", "nir", "thermal"]
    assert found.classes == ("crop", "weed")
    assert found.usual < 0.1
    assert found.distance > 0.8


def test_one_channel_that_tells_all_stays_alone(tmp_path):
    contents = folder(tmp_path, [[0, 0, 0, 0, 0, 9], [0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, -9]])
    found = choose_guide(contents, list(contents.images), "scribble", SIX)
    assert found is not None
    assert found.names == ["thermal"]


def test_no_pair_of_many_classes_is_given_up(tmp_path):
    """Thermal orders twelve classes but soil and crop, which nir tells apart, or red, which is shown as it is."""
    thermal = [0, 0, *range(20, 220, 20)]
    contents = folder(tmp_path / "nir", [[0, 0, 0, 9 * (k == 1), 0, value] for k, value in enumerate(thermal)])
    found = choose_guide(contents, ["a"], "scribble", SIX)
    assert found is not None
    assert {"nir", "thermal"} <= set(found.names)
    contents = folder(tmp_path / "red", [[0, 0, 9 * (k == 1), 0, 0, value] for k, value in enumerate(thermal)])
    found = choose_guide(contents, ["a"], "scribble", SIX)
    assert found is not None
    assert {"red", "thermal"} <= set(found.names)


@pytest.mark.parametrize(
    ("means", "missing"),
    [
        ([[0, 0, 4, 0, 0, 0], [0, 0, 0, 0, 0, 0], [0, 4, 0, 0, 0, 0.3]], ()),  # red and green tell all apart
        ([[0, 0, 0, 0, 0, 4], [0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0]], (1, 2)),  # one class alone is labelled
    ],
)
def test_the_usual_channels_stay_where_others_gain_nothing(tmp_path, means, missing):
    contents = folder(tmp_path, means, missing)
    assert choose_guide(contents, list(contents.images), "scribble", SIX) is None
