import pickle

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from weakseg_lightning.energies.lattice import Lattice, bilateral_features
from weakseg_lightning.hyperparameters import describe
from weakseg_lightning.losses import DenseCRFLoss, dense_crf_energy, dense_crf_lattice, dense_crf_loss


def example(height: int = 6, width: int = 8, batch: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, a smooth image with noise, and padding on the right and at the bottom."""
    torch.manual_seed(0)
    coarse = torch.rand(batch, 3, 2, 2)
    image = functional.interpolate(coarse, size=(height, width), mode="bilinear") * 0.9
    image = image + 0.1 * torch.rand(batch, 3, height, width)
    valid = torch.ones(batch, height, width, dtype=torch.bool)
    valid[0, :, width - 2 :] = False
    valid[-1, height - 2 :] = False
    return torch.randn(batch, 4, height, width), image, valid


def operator(lattice: Lattice, height: int, width: int, blur: str = "mean") -> Tensor:
    """The matrices W of the lattice's operator, float64 ``(B, N, N)``, column by column."""
    batch, pixels = len(lattice.starts) - 1, height * width
    units = torch.eye(pixels, dtype=torch.float64).view(1, pixels, height, width).expand(batch, -1, -1, -1)
    return lattice.filter(units, blur).flatten(2).transpose(1, 2)  # type: ignore[arg-type]


def by_matrix(probabilities: Tensor, matrices: Tensor) -> Tensor:
    s = probabilities.double().flatten(2)
    return -torch.einsum("bkp,bpq,bkq->b", s, matrices, s)


# ---- value --------------------------------------------------------------------------------------------------


def test_value_is_the_quadratic_form_of_the_operator() -> None:
    logits, image, valid = example()
    lattice = dense_crf_lattice(image, sigma_rgb=40, sigma_xy=5, scale=1.0, valid=valid)
    s = torch.where(valid[:, None], logits.softmax(1), 0)
    expected = 1e-3 * by_matrix(s, operator(lattice, 6, 8)).sum() / 2
    value = dense_crf_loss(logits, image, 1e-3, 40, 5, 1.0, valid)
    assert float(value) == pytest.approx(float(expected), rel=1e-5)
    assert value < 0
    assert dense_crf_loss(logits, image, 1e-3, 40, 5, 1.0, valid, lattice) == value


def test_mean_of_the_orders_leaves_the_value_and_is_symmetric() -> None:
    logits, image, valid = example()
    lattice = dense_crf_lattice(image, 40, 5, 1.0, valid)
    forward, mean = (operator(lattice, 6, 8, blur) for blur in ("forward", "mean"))
    torch.testing.assert_close(mean, mean.transpose(1, 2))
    s = logits.softmax(1)
    torch.testing.assert_close(by_matrix(s, forward), by_matrix(s, mean))


def test_the_lattice_computes_a_fixed_share_of_the_gaussian() -> None:
    """Against all pairs of pixels in double precision, at the published widths and on a map of 32 x 32 cells."""
    torch.manual_seed(1)
    image = functional.interpolate(torch.rand(1, 3, 5, 5), size=(32, 32), mode="bicubic").clamp(0, 1)
    labels = (image[:, 0] > 0.5).long()
    logits = 8.0 * functional.one_hot(labels, 2).permute(0, 3, 1, 2)
    features = bilateral_features(image, 15.0, 50.0).double().flatten(2)[0].T
    gaussian = torch.exp(-torch.cdist(features, features).square() / 2)
    s = logits.double().softmax(1).flatten(2)[0]
    exact = -torch.einsum("kp,pq,kq->", s, gaussian, s)
    share = float(dense_crf_loss(logits, image, 1.0, 15.0, 50.0, 1.0)) / float(exact)
    assert 1 / 2.2 < share < 1 / 1.3


def test_half_resolution_takes_means_of_probabilities_every_second_pixel_and_half_the_width() -> None:
    logits, image, _ = example()
    lattice = Lattice.build(bilateral_features(image[..., ::2, ::2].contiguous(), 40, 2))
    small = functional.avg_pool2d(logits.softmax(1), 2)
    expected = dense_crf_energy(small, lattice).sum() / 2
    torch.testing.assert_close(dense_crf_loss(logits, image, 1.0, sigma_rgb=40, sigma_xy=4), expected)


def test_weight_scales_and_the_batch_averages() -> None:
    logits, image, valid = example()
    single = [dense_crf_loss(logits[i : i + 1], image[i : i + 1], 1.0, valid=valid[i : i + 1]) for i in range(2)]
    both = dense_crf_loss(logits, image, 2.0, valid=valid)
    torch.testing.assert_close(both, sum(single))


def test_a_uniform_labeling_has_the_lowest_value() -> None:
    _, image, _ = example()
    uniform = torch.zeros(2, 4, 6, 8)
    uniform[:, 1] = 50
    mixed = 50.0 * functional.one_hot(torch.randint(0, 4, (2, 6, 8)), 4).permute(0, 3, 1, 2)
    assert dense_crf_loss(uniform, image) < dense_crf_loss(mixed, image) < 0


# ---- gradient -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_gradient_agrees_with_finite_differences(scale: float) -> None:
    logits, image, valid = example()
    lattice = dense_crf_lattice(image, 40, 5, scale, valid)
    doubled = logits.double().requires_grad_()
    loss = lambda f: dense_crf_loss(f, image, 0.1, 40, 5, scale, valid, lattice)  # noqa: E731
    assert torch.autograd.gradcheck(loss, (doubled,))


def test_gradient_is_minus_two_w_s_and_finite_differences_of_the_authors_operator_agree() -> None:
    """The one-sided operator has the same value, so the exact gradient is that of its symmetric part."""
    logits, image, valid = example()
    lattice = dense_crf_lattice(image, 40, 5, 1.0, valid)
    s = logits.double().softmax(1).requires_grad_()
    dense_crf_energy(s, lattice).sum().backward()
    matrices = operator(lattice, 6, 8, "forward")
    symmetric = (matrices + matrices.transpose(1, 2)) / 2
    expected = -2 * torch.einsum("bpq,bkq->bkp", symmetric, s.detach().flatten(2)).view_as(s)
    torch.testing.assert_close(s.grad, expected)
    one_sided = lambda p: by_matrix(p, matrices).sum()  # noqa: E731
    step = torch.zeros_like(s)
    step[0, 1, 2, 3] = 1e-6
    difference = float(one_sided(s.detach() + step) - one_sided(s.detach() - step)) / 2e-6
    assert difference == pytest.approx(float(s.grad[0, 1, 2, 3]), rel=1e-6)


def test_gradient_of_single_precision_is_that_of_double() -> None:
    logits, image, valid = example(20, 24)
    gradients = []
    for dtype in (torch.float32, torch.float64):
        f = logits.clone().to(dtype).requires_grad_()
        dense_crf_loss(f, image, 1.0, valid=valid).backward()
        gradients.append(f.grad.double())
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-5 * float(gradients[1].abs().max()))


# ---- padding and other borders ------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_padding_has_no_influence(scale: float) -> None:
    logits, image, _ = example(6, 8)
    valid = torch.zeros(2, 6, 8, dtype=torch.bool)
    valid[:, :4, :5] = True  # at half resolution, the cell of column 4 touches padding
    values = []
    for noise in (0.0, 1.0):
        f = torch.where(valid[:, None], logits, noise * 9).requires_grad_()
        loss = dense_crf_loss(f, torch.where(valid[:, None], image, noise), 1.0, 40, 5, scale, valid)
        loss.backward()
        assert not f.grad.masked_select(~valid[:, None]).any()
        values.append(float(loss.detach()))
    assert values[0] == values[1] < 0
    alone = dense_crf_loss(logits[..., :4, :4], image[..., :4, :4], 1.0, 40, 5, scale)
    if scale == 0.5:
        assert values[0] == pytest.approx(float(alone), rel=1e-5)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # of torch, where a graph ends
def test_compiled_equals_eager() -> None:
    logits, image, valid = example()
    compiled = torch.compile(dense_crf_loss, backend="eager")
    gradients = []
    for loss in (dense_crf_loss, compiled):
        f = logits.clone().requires_grad_()
        loss(f, image, 1.0, valid=valid).backward()
        gradients.append(f.grad)
    torch.testing.assert_close(gradients[0], gradients[1])


# ---- module and errors --------------------------------------------------------------------------------------


def test_class_equals_function_with_and_without_a_lattice_from_another_process() -> None:
    logits, image, valid = example()
    loss = DenseCRFLoss(1e-3, 20, 30, 0.5, build_in="workers")
    expected = dense_crf_loss(logits, image, 1e-3, 20, 30, 0.5, valid)
    assert torch.equal(loss(logits, image, valid), expected)
    travelled = pickle.loads(pickle.dumps(loss.build(image, valid)))
    assert torch.equal(loss(logits, image, valid, travelled), expected)
    assert not list(loss.parameters())
    rebuilt = DenseCRFLoss(**describe(loss)["init_args"])
    assert torch.equal(rebuilt(logits, image, valid), expected)


def test_wrong_arguments_are_explained() -> None:
    logits, image, _ = example()
    with pytest.raises(ValueError, match="`build_in` must be one of 'step', 'workers', got 'worker'"):
        DenseCRFLoss(build_in="worker")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"`values` must be a float .* those of the lattice"):
        dense_crf_loss(logits, image, lattice=dense_crf_lattice(image, scale=1.0))


@pytest.mark.parametrize("shape", [(1, 9), (9, 1), (1, 1)])
def test_images_of_one_row_or_column(shape: tuple[int, int]) -> None:
    logits = torch.randn(1, 3, *shape, generator=torch.Generator().manual_seed(0)).requires_grad_()
    valid = torch.ones(1, *shape, dtype=torch.bool)
    loss = DenseCRFLoss()(logits, torch.rand(1, 3, *shape), valid)
    loss.backward()
    assert loss.isfinite()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
