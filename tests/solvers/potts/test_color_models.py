import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.mixture import GaussianMixture

from weakseg_lightning.solvers.potts.color_models import LEVELS, ColorMixture, ColorTable


def test_table_lists_the_rounded_colors_once() -> None:
    image = np.random.default_rng(0).random((3, 6, 7)).astype(np.float32)
    image[:, :3] = 1.0  # the largest value is of the last level
    table = ColorTable.of(image)
    assert len(np.unique(table.colors, axis=0)) == len(table.colors)
    assert np.abs(table.colors[table.index] - image.transpose(1, 2, 0)).max() <= 0.5 / LEVELS + 1e-6
    white = table.count((image == 1).all(0))
    assert white.sum() == white.max() == 21


def test_density_is_that_of_the_gaussians() -> None:
    rng = np.random.default_rng(1)
    roots = rng.normal(size=(2, 3, 3)) / 5
    mixture = ColorMixture(
        np.array([0.3, 0.7]), rng.random((2, 3)), roots @ roots.transpose(0, 2, 1) + 0.01 * np.eye(3)
    )
    colors = rng.random((50, 3))
    parts = zip(mixture.shares, mixture.means, mixture.covariances, strict=True)
    expected = sum(share * multivariate_normal(mean, covariance).pdf(colors) for share, mean, covariance in parts)
    np.testing.assert_allclose(np.exp(mixture.log_density(colors)), expected)


def test_fit_explains_colors_as_well_as_scikit_learn() -> None:
    rng = np.random.default_rng(2)
    centers = np.array([[0.2, 0.2, 0.2], [0.8, 0.2, 0.3], [0.5, 0.9, 0.6]])
    pixels = (centers[rng.integers(0, 3, 3000)] + rng.normal(scale=0.05, size=(3000, 3))).clip(0, 1)
    colors, counts = np.unique(pixels.round(2), axis=0, return_counts=True)
    ours = ColorMixture.fitted(colors, counts.astype(float), 3)
    theirs = GaussianMixture(3, reg_covar=5e-4, random_state=0).fit(np.repeat(colors, counts, axis=0))
    mean = counts @ ours.log_density(colors) / counts.sum()
    assert mean == pytest.approx(theirs.score(np.repeat(colors, counts, axis=0)), abs=0.01)
    assert sorted(ours.shares) == pytest.approx(sorted(theirs.weights_), abs=0.01)


@pytest.mark.parametrize("pixels", [1, 2, 4])
def test_few_colors_make_few_gaussians(pixels: int) -> None:
    colors = np.linspace(0, 1, 8)[:, None].repeat(3, 1)
    counts = np.zeros(8)
    counts[:pixels] = 1
    mixture = ColorMixture.fitted(colors, counts, 5)
    assert 1 <= len(mixture.shares) <= pixels
    density = mixture.log_density(colors)
    assert np.isfinite(density).all()
    assert density[:pixels].min() > density[pixels:].max()
