"""Channels that tell labelled classes apart, against integrals over their densities."""

from itertools import combinations

import numpy as np
import pytest
import tifffile
from PIL import Image
from scipy.integrate import quad
from scipy.stats import norm

from weakseg_lightning.data.folder.contents import read_folder
from weakseg_lightning.data.folder.images.separability import choose_guide, class_distances
from weakseg_lightning.data.images.channels import ChannelFiles

SIX = ["blue", "green", "red", "nir", "swir", "thermal"]


def test_the_distance_in_one_channel_is_the_integral_over_the_densities():
    """1 - exp(-B) is 1 - the integral of sqrt(p q), for normal densities of the samples' own means and variances."""
    rng = np.random.default_rng(0)
    samples = [rng.normal(mean, spread, (500, 1)) for mean, spread in ((0, 1), (1, 1), (0, 3), (40, 0.5))]
    densities = [norm(sample.mean(), sample.std(ddof=1)) for sample in samples]
    expected = [
        1 - quad(lambda x, p=p, q=q: np.sqrt(p.pdf(x) * q.pdf(x)), -15, 55, points=[0, 1, 40], limit=200)[0]
        for p, q in combinations(densities, 2)
    ]
    np.testing.assert_allclose(class_distances(samples, [0]), expected, atol=1e-5)


def test_correlated_channels_count_together():
    """Two classes that overlap in each channel alone, and not in their difference."""
    rng = np.random.default_rng(1)
    common = rng.normal(0, 1, 2000)
    one = np.stack([common, common + rng.normal(0.5, 0.05, 2000)], axis=1)
    other = np.stack([common, common + rng.normal(-0.5, 0.05, 2000)], axis=1)
    assert class_distances([one, other], [0]) < 0.01
    assert class_distances([one, other], [1]) < 0.2
    assert class_distances([one, other], [0, 1]) > 0.99


def folder(root, means, missing=()):
    """A folder of one image of six bands, a third of its columns of each class, with scribbles over all but a row."""
    rng = np.random.default_rng(0)
    for name in ("images", "scribbles"):
        (root / name).mkdir(parents=True)
    labels = np.repeat([0, 1, 2], 12)[None].repeat(30, 0).astype(np.uint8)
    values = rng.normal(0, 1, (6, 30, 36)) + np.array(means)[labels].transpose(2, 0, 1)
    tifffile.imwrite(root / "images/a.tif", values.astype("f4"), photometric="minisblack")
    labels[0] = 255
    for label in missing:
        labels[labels == label] = 255
    Image.fromarray(labels).save(root / "scribbles/a.png")
    (root / "classes.yaml").write_text("classes: [soil, crop, weed]\n")
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
