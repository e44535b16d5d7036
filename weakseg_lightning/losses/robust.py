"""Cross-entropies that expect some of the labels to be wrong: the true class is hidden behind a model of the noise."""

import math
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from weakseg_lightning.checks import one_of
from weakseg_lightning.devices import to_device
from weakseg_lightning.energies.potts import VOID
from weakseg_lightning.losses.arguments import check_mask, precise
from weakseg_lightning.losses.distributed import mean_over, sum_over_ranks
from weakseg_lightning.losses.noise_levels import limit_of, require_probability

Normalizer = Literal["seeds", "valid"]


# ---- uniform noise ------------------------------------------------------------------------------------------


def robust_cross_entropy(
    logits: Tensor,
    labels: Tensor,
    eps: float | Tensor,
    exact: Tensor | None = None,
    normalizer: Normalizer = "valid",
    ignore_index: int = VOID,
) -> Tensor:
    """Cross-entropy under uniform label noise: a label is wrong with probability ``eps``, each wrong class alike.

    ``-log(a + b q_y)`` with q = softmax(logits), ``a = eps / (K - 1)``, ``b = 1 - K a``; ``-log q_y`` on exact pixels.
    It is computed from the logits as ``-logaddexp(log a, log b + log q_y)``, which neither overflows nor cancels.

    Args:
        logits: scores, float ``(B, K, H, W)``, or ``(B, K, ...)`` in general; half precision is computed in single.
        labels: observed classes y, int ``(B, ...)``, ``ignore_index`` where there is none.
        eps: probability that a label is wrong, 0 <= eps < (K-1)/K, see :func:`convert_eps`; 0 is the cross-entropy. A
            0-dim tensor receives a gradient, except at exactly 0, where the derivative is unbounded in 1/q.
        exact: bool ``(B, ...)``, the pixels whose label is certain (seeds): eps is 0 there. None: no pixel.
        normalizer: what the sum over the labeled pixels is divided by. ``valid``: their number. ``seeds``: the number
            of exact labeled pixels, then the batch size, as the official code does. At least by 1.
        ignore_index: the label that marks pixels to leave out.

    Returns:
        A scalar; 0 with zero gradient where no pixel is labeled.

    Raises:
        ValueError: if ``eps`` is out of its range, shapes do not fit, or ``normalizer="seeds"`` has no ``exact``.

    References:
        Marin and Boykov, Robust Trust Region for Weakly Supervised Segmentation, ICCV 2021, eq. 20 to 22 and 24.

    Example:
        >>> robust_cross_entropy(torch.tensor([[0.0, 200.0]]), torch.tensor([0]), eps=0.25)  # -log(0.25)
        tensor(1.3863)
    """
    _check_inputs(logits, labels, exact, normalizer)
    if isinstance(eps, Tensor) and eps.ndim:
        raise ValueError(f"`eps` must be one number, got the shape {tuple(eps.shape)}; `exact` marks certain pixels")
    if not (isinstance(eps, Tensor) and torch.compiler.is_compiling()):  # reading a tensor would split the graph
        require_probability(eps.item() if isinstance(eps, Tensor) else eps, logits.shape[1])
    return _robust_cross_entropy(logits, labels, eps, exact, normalizer, ignore_index)


def _robust_cross_entropy(
    logits: Tensor,
    labels: Tensor,
    eps: float | Tensor,
    exact: Tensor | None,
    normalizer: Normalizer,
    ignore_index: int,
) -> Tensor:
    log_q = -functional.cross_entropy(precise(logits), labels.long(), ignore_index=ignore_index, reduction="none")
    level = precise(eps) if isinstance(eps, Tensor) else torch.tensor(eps, dtype=torch.float64)
    log_mixed = _log_mixed(log_q, level, logits.shape[1], exact)
    return _reduced(log_mixed, labels, exact, normalizer, ignore_index)


def _log_mixed(log_q: Tensor, eps: Tensor, num_classes: int, exact: Tensor | None) -> Tensor:
    """``log(a + b q)``, and ``log q`` on exact pixels; ``eps`` a 0-dim tensor."""
    limit, tiny = limit_of(num_classes), torch.finfo(eps.dtype).tiny
    noisy = torch.where(eps < tiny, limit / 2, eps)  # any value inside: log 0 would turn the gradient into NaN
    log_a = noisy.log() - math.log(num_classes - 1)
    # Learning or rounding may bring b to 0, where log b has no gradient.
    log_b = ((limit - noisy) / limit).clamp(min=tiny).log()
    numbers = (log_a.to(log_q.dtype), log_b.to(log_q.dtype), eps < tiny)
    log_a, log_b, certain = (_moved(number, log_q.device) for number in numbers)
    mixed = torch.logaddexp(log_a, log_b + log_q)
    return torch.where(certain if exact is None else certain | exact, log_q, mixed)


def _moved(number: Tensor, device: torch.device) -> Tensor:
    """A number on a device; one without gradient travels so that the CPU does not wait for it."""
    return number.to(device) if number.requires_grad else to_device(number, device)


class RobustCrossEntropy(nn.Module):
    """:func:`robust_cross_entropy` with its options kept, and on request with a noise level that is learned.

    With ``learn_eps`` the level is ``eps = (K-1)/K sigmoid(theta)``, which cannot leave its range, and theta is a
    parameter (0-dim): pass the loss's parameters to the optimizer along with the network's, without weight decay,
    which would pull eps towards half of its limit. K must be known then: give ``num_classes``.

    Args:
        eps: probability that a label is wrong; where it is learned, its value at the start, above 0.
        normalizer: what the sum is divided by, see :func:`robust_cross_entropy`.
        ignore_index: the label that marks pixels to leave out.
        learn_eps: whether eps is learned.
        num_classes: K; needed to learn eps, otherwise only to check ``eps`` early.

    Raises:
        ValueError: if ``eps`` is out of its range, or is to be learned without ``num_classes``.

    Example:
        >>> loss = RobustCrossEntropy(0.25, learn_eps=True, num_classes=2)
        >>> loss(torch.tensor([[0.0, 200.0]]), torch.tensor([0]))
        tensor(1.3863, grad_fn=<DivBackward0>)
        >>> round(loss.current_eps.item(), 4)
        0.25
    """

    def __init__(
        self,
        eps: float,
        normalizer: Normalizer = "valid",
        ignore_index: int = VOID,
        learn_eps: bool = False,
        num_classes: int | None = None,
    ) -> None:
        super().__init__()
        one_of("normalizer", normalizer, get_args(Normalizer))
        if num_classes is not None:
            require_probability(eps, num_classes)
        self.eps = eps
        self.normalizer: Normalizer = normalizer
        self.ignore_index = ignore_index
        self.learn_eps = learn_eps
        self.num_classes = num_classes
        if learn_eps:
            self.theta = nn.Parameter(torch.tensor(self._initial_theta()))

    def _initial_theta(self) -> float:
        if self.num_classes is None:
            raise ValueError("`learn_eps=True` needs `num_classes`: the range of `eps` depends on it")
        if self.eps == 0:
            raise ValueError("`eps` must be above 0 to be learned, got 0: start at a small value as 0.01")
        fraction = self.eps / limit_of(self.num_classes)
        return math.log(fraction) - math.log1p(-fraction)

    @property
    def current_eps(self) -> float | Tensor:
        """The noise level in use: ``eps``, or the one learned so far, with its gradient."""
        if self.num_classes is None or not self.learn_eps:
            return self.eps
        return limit_of(self.num_classes) * self.theta.sigmoid()

    @override
    def forward(self, logits: Tensor, labels: Tensor, exact: Tensor | None = None) -> Tensor:
        """Compute the loss, see :func:`robust_cross_entropy`."""
        _check_inputs(logits, labels, exact, self.normalizer)
        if self.num_classes not in {None, logits.shape[1]}:
            raise ValueError(
                f"`num_classes` is {self.num_classes}, but `logits` have {logits.shape[1]}: make them equal"
            )
        require_probability(self.eps, logits.shape[1])
        return _robust_cross_entropy(logits, labels, self.current_eps, exact, self.normalizer, self.ignore_index)


# ---- any noise ----------------------------------------------------------------------------------------------


def noise_matrix_cross_entropy(
    logits: Tensor,
    labels: Tensor,
    transition: Tensor,
    exact: Tensor | None = None,
    normalizer: Normalizer = "valid",
    ignore_index: int = VOID,
) -> Tensor:
    """Cross-entropy under any class-dependent label noise (forward correction).

    ``-log (T^T q)_y`` with q = softmax(logits) and ``T[l, k] = Pr(Y = k | Z = l)``, the probability that a pixel of the
    true class Z = l is labeled Y = k; ``-log q_y`` on exact pixels. With :func:`uniform_noise` it equals
    :func:`robust_cross_entropy`.

    Args:
        logits: scores, float ``(B, K, ...)``; half precision is computed in single.
        labels: observed classes y, int ``(B, ...)``, ``ignore_index`` where there is none.
        transition: T, float ``(K, K)``: not negative, rows sum to 1, no column is all zero.
        exact: bool ``(B, ...)``, the pixels whose label is certain. None: no pixel.
        normalizer: what the sum is divided by, see :func:`robust_cross_entropy`.
        ignore_index: the label that marks pixels to leave out.

    Returns:
        A scalar; 0 with zero gradient where no pixel is labeled.

    Raises:
        ValueError: if ``transition`` is no transition matrix, shapes do not fit, or ``"seeds"`` has no ``exact``.

    References:
        Patrini et al., Making Deep Neural Networks Robust to Label Noise: a Loss Correction Approach, CVPR 2017;
        Marin and Boykov, Robust Trust Region for Weakly Supervised Segmentation, ICCV 2021, eq. 23.

    Example:
        >>> asymmetric = torch.tensor([[1.0, 0.0], [0.25, 0.75]])  # a quarter of class 1 is labeled 0
        >>> noise_matrix_cross_entropy(torch.tensor([[0.0, 200.0]]), torch.tensor([0]), asymmetric)
        tensor(1.3863)
    """
    if not torch.compiler.is_compiling():
        _check_transition(transition)
    return _noise_matrix_cross_entropy(logits, labels, transition, exact, normalizer, ignore_index)


def _noise_matrix_cross_entropy(
    logits: Tensor,
    labels: Tensor,
    transition: Tensor,
    exact: Tensor | None,
    normalizer: Normalizer,
    ignore_index: int,
) -> Tensor:
    """The same without the check of the matrix, which would read it back from the device in each step."""
    _check_inputs(logits, labels, exact, normalizer)
    if len(transition) != logits.shape[1]:
        raise ValueError(f"`transition` is for {len(transition)} classes, but `logits` have {logits.shape[1]}")
    log_p = precise(logits).log_softmax(1)
    observed = torch.where(labels == ignore_index, 0, labels.long())
    into_label = transition.to(log_p).log().T[observed].movedim(-1, 1)  # log T[l, y] of each pixel, (B, K, ...)
    log_mixed = (log_p + into_label).logsumexp(1)
    if exact is not None:
        log_mixed = torch.where(exact, log_p.gather(1, observed[:, None])[:, 0], log_mixed)
    return _reduced(log_mixed, labels, exact, normalizer, ignore_index)


def uniform_noise(num_classes: int, eps: float) -> Tensor:
    """Transition matrix of uniform noise: ``1 - eps`` on the diagonal, ``eps / (K - 1)`` elsewhere.

    Args:
        num_classes: K.
        eps: probability that a label is wrong, 0 <= eps < (K-1)/K.

    Returns:
        T, float64 ``(K, K)``.

    Raises:
        ValueError: if ``eps`` is out of its range.

    References:
        Marin and Boykov, Robust Trust Region for Weakly Supervised Segmentation, ICCV 2021, eq. 20.

    Example:
        >>> uniform_noise(2, 0.25).tolist()
        [[0.75, 0.25], [0.25, 0.75]]
    """
    require_probability(eps, num_classes)
    matrix = torch.full((num_classes, num_classes), eps / (num_classes - 1), dtype=torch.float64)
    return matrix.fill_diagonal_(1 - eps)


def _check_transition(transition: Tensor) -> None:
    if transition.ndim != 2 or transition.shape[0] != transition.shape[1]:
        raise ValueError(f"`transition` must be a matrix (K, K), got the shape {tuple(transition.shape)}")
    if not (transition >= 0).all():  # also if NaN
        raise ValueError(f"`transition` holds probabilities, got the entry {float(transition.min()):.6g}")
    sums = transition.sum(1)
    worst = int((sums - 1).abs().argmax())
    if not abs(float(sums[worst]) - 1) < 1e-4:
        raise ValueError(
            f"each row of `transition` must sum to 1, row {worst} sums to {float(sums[worst]):.6g}: entry [l, k] is "
            "the probability that true class l is labeled k"
        )
    if unseen := (transition.sum(0) == 0).nonzero().flatten().tolist():
        raise ValueError(
            f"columns {unseen} of `transition` are zero: such a label has an infinite loss; give it a chance"
        )


class NoiseMatrixCrossEntropy(nn.Module):
    """:func:`noise_matrix_cross_entropy` with its options kept; the matrix is a buffer of the state dict.

    Args:
        transition: T as rows of numbers, so that a recipe can hold it (``uniform_noise(21, 0.4).tolist()``).
        normalizer: what the sum is divided by, see :func:`robust_cross_entropy`.
        ignore_index: the label that marks pixels to leave out.

    Raises:
        ValueError: if ``transition`` is no transition matrix.

    Example:
        >>> loss = NoiseMatrixCrossEntropy([[1.0, 0.0], [0.25, 0.75]])
        >>> loss(torch.tensor([[0.0, 200.0]]), torch.tensor([0]))
        tensor(1.3863)
    """

    matrix: Tensor

    def __init__(
        self, transition: list[list[float]], normalizer: Normalizer = "valid", ignore_index: int = VOID
    ) -> None:
        super().__init__()
        one_of("normalizer", normalizer, get_args(Normalizer))
        matrix = torch.as_tensor(transition, dtype=torch.float32)
        _check_transition(matrix)
        self.transition = transition
        self.normalizer: Normalizer = normalizer
        self.ignore_index = ignore_index
        self.register_buffer("matrix", matrix)

    @override
    def forward(self, logits: Tensor, labels: Tensor, exact: Tensor | None = None) -> Tensor:
        """Compute the loss, see :func:`noise_matrix_cross_entropy`."""
        return _noise_matrix_cross_entropy(logits, labels, self.matrix, exact, self.normalizer, self.ignore_index)


# ---- both ---------------------------------------------------------------------------------------------------


def _check_inputs(logits: Tensor, labels: Tensor, exact: Tensor | None, normalizer: str) -> None:
    if logits.ndim < 2 or labels.shape != logits.shape[:1] + logits.shape[2:]:
        given = f"{tuple(labels.shape)} and {tuple(logits.shape)}"
        raise ValueError(f"`labels` must be (B, ...) where `logits` are (B, K, ...), got {given}")
    check_mask("exact", exact, labels.shape)
    one_of("normalizer", normalizer, get_args(Normalizer))
    if normalizer == "seeds" and exact is None:
        raise ValueError('`normalizer="seeds"` divides by the number of exact pixels: give `exact`')


def _reduced(
    log_probability: Tensor, labels: Tensor, exact: Tensor | None, normalizer: Normalizer, ignore_index: int
) -> Tensor:
    valid = labels != ignore_index
    total = -torch.where(valid, log_probability, 0).sum()
    if normalizer == "seeds" and exact is not None:
        return total / sum_over_ranks((exact & valid).sum()).clamp(min=1) / max(len(labels), 1)
    return mean_over(total, valid.sum())
