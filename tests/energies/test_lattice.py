"""Permutohedral lattices: compiled code against torch, the explicit operator and brute force."""

import pickle
import sys

import pytest
import torch
from torch import Tensor

from weakseg_lightning.energies.lattice import Lattice, bilateral_features, spatial_features


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def matrix(lattice: Lattice, blur: str = "forward") -> Tensor:
    """The operator on the pixels of one image, in double precision ``(N, N)``: column q is the filtered unit vector."""
    pixels = lattice.height * lattice.width
    units = torch.eye(pixels, dtype=torch.float64).view(1, pixels, lattice.height, lattice.width)
    return lattice.filter(units, blur)[0].flatten(1).T


def gaussian(features: Tensor) -> Tensor:
    """Brute force for one image: features ``(D, H, W)`` to ``(N, N)``."""
    rows = features.flatten(1).T.double()
    return torch.exp(-torch.cdist(rows, rows).square() / 2)


def smooth_image(height: int, width: int, seed: int = 0) -> Tensor:
    """An image with few, broad colors ``(1, 3, H, W)``."""
    coarse = torch.rand(1, 3, 4, 4, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")


@pytest.mark.parametrize("dimensions", [1, 2, 3, 4, 5, 6])
@pytest.mark.parametrize("blur", ["forward", "adjoint", "mean"])
def test_compiled_code_and_torch_agree(dimensions, blur):
    features = 2 * noise(2, dimensions, 9, 11)
    valid = torch.rand(2, 9, 11, generator=torch.Generator().manual_seed(1)) > 0.2
    lattice = Lattice.build(features, valid)
    for channels in (1, 8, 21, 33, 70):
        values = noise(2, channels, 9, 11, seed=channels)
        expected = lattice.filter(values.double(), blur)
        torch.testing.assert_close(lattice.filter(values, blur).double(), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("dimensions", [2, 5])
def test_tables_are_those_of_a_lattice(dimensions):
    lattice = Lattice.build(3 * noise(2, dimensions, 8, 9))
    torch.testing.assert_close(lattice.weights.sum(-1), torch.ones(2, 72))
    assert lattice.weights.min() > -1e-5
    assert lattice.vertices[0].min() > 0
    assert lattice.vertices[0].max() < lattice.starts[1] < lattice.vertices[1].min()
    assert lattice.vertices[1].max() < lattice.starts[2] == len(lattice.neighbors)
    numbers = torch.arange(len(lattice.neighbors))
    for first, last in zip(lattice.starts, lattice.starts[1:], strict=False):
        for direction in range(dimensions + 1):
            behind, before = lattice.neighbors[first + 1 : last, direction].long().unbind(1)
            there = before != first  # who has a neighbor is that one's neighbor
            assert torch.equal(lattice.neighbors[before[there], direction, 0], numbers[first + 1 : last][there].int())
            assert int((behind != first).sum()) == int(there.sum()) > 0


@pytest.mark.parametrize("dimensions", [1, 2, 3, 5])
def test_barycentric_coordinates_are_linear_within_a_simplex(dimensions):
    ends = noise(1, dimensions, 1, 1) + torch.tensor([0.0, 0.01])
    lattice = Lattice.build(torch.cat([ends, ends.mean(-1, keepdim=True)], -1))
    one, two, middle = lattice.vertices[0]
    assert torch.equal(one, two)
    assert torch.equal(one, middle)
    torch.testing.assert_close(lattice.weights[0, 2], lattice.weights[0, :2].mean(0), atol=1e-5, rtol=0)


@pytest.mark.parametrize("blur", ["forward", "mean"])
def test_the_adjoint_is_the_transpose_and_the_mean_is_symmetric(blur):
    lattice = Lattice.build(bilateral_features(smooth_image(7, 8), 20.0, 3.0))
    forward, adjoint, mean = (matrix(lattice, kind) for kind in ("forward", "adjoint", "mean"))
    torch.testing.assert_close(adjoint, forward.T)
    torch.testing.assert_close(mean, (forward + forward.T) / 2)
    assert not torch.allclose(forward, forward.T, atol=1e-6)
    values = noise(1, 5, 7, 8)
    expected = (matrix(lattice, blur) @ values[0].flatten(1).T.double()).T.view(1, 5, 7, 8)
    torch.testing.assert_close(lattice.filter(values, blur).double(), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("sigma", [2.0, 4.0, 8.0])
def test_in_space_sums_are_those_of_the_gaussian(sigma):
    features = spatial_features(1, 24, 24, sigma)
    values = torch.rand(1, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    truth = (gaussian(features[0]) @ values[0].flatten(1).T.double()).T
    ratio = truth / Lattice.build(features).filter(values)[0].flatten(1).double()
    assert 1.13 < ratio.mean() < 1.18  # the factor that `Lattice` states
    assert ratio.std() < 0.05


def test_of_an_image_sums_are_lower_by_the_stated_factor():
    features = bilateral_features(smooth_image(32, 32), 15.0, 20.0)
    values = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    truth = (gaussian(features[0]) @ values[0].flatten(1).T.double()).T
    ratio = truth / Lattice.build(features).filter(values)[0].flatten(1).double()
    assert 1.7 < ratio.mean() < 2.3
    assert ratio.std() / ratio.mean() < 0.2


def test_padding_has_no_influence():
    image, values = smooth_image(10, 12), noise(1, 4, 10, 12)
    alone = Lattice.build(bilateral_features(image, 15.0, 4.0)).filter(values)
    shown, wide = torch.full((1, 3, 15, 20), torch.nan), torch.full((1, 4, 15, 20), 7.0)
    shown[..., 3:13, 5:17], wide[..., 3:13, 5:17] = image, values
    valid = torch.zeros(1, 15, 20, dtype=torch.bool)
    valid[:, 3:13, 5:17] = True
    lattice = Lattice.build(bilateral_features(shown, 15.0, 4.0, valid), valid)
    for padding in (7.0, torch.inf):
        wide[(~valid)[:, None].expand_as(wide)] = padding
        for precision in (torch.float32, torch.float64):
            filtered = lattice.filter(wide.to(precision).where(valid[:, None], 0.0))
            torch.testing.assert_close(filtered[..., 3:13, 5:17].float(), alone)
            assert (filtered[(~valid)[:, None].expand_as(wide)] == 0).all()


def test_threads_and_company_do_not_change_a_bit():
    features, values = 2 * noise(5, 5, 12, 13), noise(5, 40, 12, 13)
    one, four = (Lattice.build(features, num_threads=threads) for threads in (1, 4))
    for name in ("vertices", "weights", "neighbors", "starts"):
        assert torch.equal(getattr(one, name), getattr(four, name))
    together = one.filter(values)
    assert torch.equal(together, four.filter(values))
    for b in range(5):
        assert torch.equal(together[b, None], Lattice.build(features[b, None]).filter(values[b, None]))


def test_it_travels():
    lattice = Lattice.build(noise(2, 3, 5, 6))
    again = pickle.loads(pickle.dumps(lattice)).to("cpu")
    values = noise(2, 2, 5, 6)
    assert torch.equal(again.filter(values), lattice.filter(values))
    if torch.cuda.is_available():
        there = lattice.pin_memory().to("cuda").filter(values.cuda())
        torch.testing.assert_close(there.cpu(), lattice.filter(values), atol=1e-5, rtol=1e-4)


def test_features_are_in_the_order_of_the_papers_and_start_at_the_first_pixel():
    image = torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    features = bilateral_features(image, 10.0, 2.0)
    assert features[0, :2, 3, 4].tolist() == [2.0, 1.5]
    torch.testing.assert_close(features[:, 2:], image * 25.5)
    valid = torch.zeros(2, 4, 5, dtype=torch.bool)
    valid[0, 1:, 2:] = True
    assert spatial_features(2, 4, 5, 1.0, valid)[:, :, 3, 4].tolist() == [[2.0, 2.0], [4.0, 3.0]]


@pytest.mark.parametrize("size", [(0, 4, 4), (1, 0, 4), (2, 4, 0)])
def test_nothing_gives_nothing(size):
    batch, height, width = size
    lattice = Lattice.build(torch.zeros(batch, 2, height, width))
    assert lattice.filter(torch.zeros(batch, 3, height, width)).shape == (batch, 3, height, width)
    assert Lattice.build(torch.zeros(1, 2, 3, 3)).filter(torch.zeros(1, 0, 3, 3)).shape == (1, 0, 3, 3)


@pytest.mark.skipif(sys.platform != "linux", reason="kilobytes of memory are counted on Linux alone")
def test_memory_does_not_grow_over_a_thousand_calls():
    features, values = 3 * noise(1, 5, 40, 40), noise(1, 9, 40, 40)

    resource = pytest.importorskip("resource")

    def call(times: int) -> int:
        for _ in range(times):
            Lattice.build(features).filter(values, "mean")
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    before = call(20)
    assert call(1000) - before < 20_000


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: Lattice.build(torch.zeros(2, 3, 4)), r"`features` must be a float \(B, D, H, W\), D from 1 to 6"),
        (lambda: Lattice.build(torch.zeros(1, 7, 4, 4)), "`features` must be a float .* got torch.float32"),
        (lambda: Lattice.build(torch.full((1, 2, 4, 4), torch.nan)), "`features` must be finite and below about 1000"),
        (lambda: Lattice.build(torch.full((1, 2, 4, 4), 1e6)), "take larger sigmas"),
        (
            lambda: Lattice.build(torch.zeros(1, 2, 4, 4), torch.ones(1, 4, 5).bool()),
            r"`valid` must be a bool \(1, 4, 4",
        ),
        (lambda: Lattice.build(torch.zeros(1, 2, 4, 4)).filter(torch.zeros(1, 2, 4, 5)), "`values` must be a float"),
        (lambda: Lattice.build(torch.zeros(1, 2, 4, 4)).filter(torch.zeros(1, 2, 4, 4), "both"), "`blur` must be one"),
        (lambda: spatial_features(1, 4, 4, 0.0), "`sigma_xy` must be finite and above 0, got 0.0"),
        (lambda: bilateral_features(torch.zeros(1, 3, 4, 4), -1.0, 1.0), "`sigma_rgb` must be finite and above 0"),
    ],
)
def test_what_it_cannot_use_is_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()
