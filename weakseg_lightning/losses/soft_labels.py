"""Losses towards soft labels: how far the network's output is from a distribution over the classes at each pixel."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from typing_extensions import override

from weakseg_lightning.checks import one_of
from weakseg_lightning.losses.arguments import bounded_log, check_distributions, precise
from weakseg_lightning.losses.distributed import mean_over, mean_over_images

Link = Literal["collision", "cross_entropy", "reverse"]
Average = Literal["pixels", "images"]

_LINKS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {  # of log softmax(f) and y
    "collision": lambda log_s, y: -(log_s + y.log()).logsumexp(1),
    "cross_entropy": lambda log_s, y: -(y * log_s).sum(1),
    "reverse": lambda log_s, y: -(log_s.exp() * bounded_log(y)).sum(1),
}


def link_loss(
    logits: Tensor,
    distribution: Tensor,
    pixels: Tensor | None = None,
    link: Link = "collision",
    average: Average = "pixels",
) -> Tensor:
    """Mean of ``H(y_p, S_p)`` for soft labels y and the network's output S = softmax(f).

    H is one of

    - ``collision``: collision cross-entropy ``-ln sum_k S^k y^k``, see :func:`collision_cross_entropy`;
    - ``cross_entropy``: ``-sum_k y^k ln S^k``, which asks S to be as unsure as y;
    - ``reverse``: ``-sum_k S^k ln y^k``, where probabilities y below 1e-6 count as 1e-6.

    y is a constant: no gradient goes through it.

    Args:
        logits: scores f, float ``(B, K, H, W)``; half precision is computed in single.
        distribution: y, float ``(B, K, H, W)``, sums to 1 over K; pixels where it is 0 throughout are left out.
        pixels: bool ``(B, H, W)``, the pixels to use; all of them by default.
        link: the function H.
        average: ``pixels``, the mean over all pixels used; ``images``, that over the images of each one's mean.

    Returns:
        A scalar; 0 with zero gradient where no pixel is used.

    Raises:
        ValueError: if the shapes differ, or ``link`` or ``average`` is unknown.

    References:
        Zhang and Boykov, CVPR 2025 (soft self-labeling), arXiv 2507.01721. The paper itself was not at hand: the
        formulas are from a note on it.

    Example:
        >>> logits, unsure = torch.tensor([2.0, 0.0]).view(1, 2, 1, 1), torch.full((1, 2, 1, 1), 0.5)
        >>> [round(link_loss(logits, unsure, link=link).item(), 4) for link in ("cross_entropy", "reverse")]
        [1.1269, 0.6931]
    """
    one_of("link", link, _LINKS)
    one_of("average", average, ("pixels", "images"))
    check_distributions("distribution", distribution, logits, "pixels", pixels)
    logits = precise(logits)
    target = distribution.detach().to(logits.dtype)
    known = (target > 0).any(1)
    used = known if pixels is None else known & pixels
    # `where` before the logarithms: neither values nor gradients of other pixels, be they NaN, may come through.
    inside = used[:, None]
    log_s = torch.where(inside, logits, 0).log_softmax(1)
    each = torch.where(used, _LINKS[link](log_s, torch.where(inside, target, 1)), 0)
    return mean_over_images(each, used) if average == "images" else mean_over(each.sum(), used.sum())


def collision_cross_entropy(
    logits: Tensor, target: Tensor, pixels: Tensor | None = None, average: Average = "pixels"
) -> Tensor:
    """Collision cross-entropy ``-ln sum_k S^k y^k`` of soft labels y and the network's output S = softmax(f).

    The negative logarithm of the probability that labels drawn from both are equal: symmetric in S and y; at one-hot y
    the negative log-likelihood; without gradient at uniform y, so that labels that are unsure teach nothing, where
    cross-entropy would teach to be unsure. Its gradient by the logits is ``S - S y / sum_k S^k y^k``, which is not 0 at
    S = y but makes S surer, unless y is uniform or one-hot. For a label l that is wrong with probability eps (``1 -
    eps`` in y at l, ``eps / (K - 1)`` elsewhere) it is :func:`weakseg_lightning.losses.robust_cross_entropy`.

    Args:
        logits: scores f, float ``(B, K, H, W)``; half precision is computed in single.
        target: y, float ``(B, K, H, W)``, sums to 1 over K, a constant; pixels where it is 0 throughout are left out.
        pixels: bool ``(B, H, W)``, the pixels to use; all of them by default.
        average: ``pixels``, the mean over all pixels used; ``images``, that over the images of each one's mean.

    Returns:
        A scalar; 0 with zero gradient where no pixel is used.

    Raises:
        ValueError: if the shapes differ, or ``average`` is unknown.

    References:
        Collision cross-entropy, arXiv 2303.07321, not at hand either (see :func:`link_loss`); the relation to the
        robust loss is derived here.

    Example:
        >>> logits = torch.tensor([3.0, 0.0]).view(1, 2, 1, 1)
        >>> collision_cross_entropy(logits, torch.full((1, 2, 1, 1), 0.5))  # -ln(1/2), whatever the logits
        tensor(0.6931)
    """
    return link_loss(logits, target, pixels, "collision", average)


class CollisionCrossEntropy(nn.Module):
    """:func:`collision_cross_entropy` with its option kept.

    Args:
        average: ``pixels``, the mean over all pixels used; ``images``, that over the images of each one's mean.

    Raises:
        ValueError: if ``average`` is unknown.

    Example:
        >>> CollisionCrossEntropy()(torch.zeros(1, 2, 1, 1), torch.tensor([0.0, 1.0]).view(1, 2, 1, 1))
        tensor(0.6931)
    """

    def __init__(self, average: Average = "pixels") -> None:
        super().__init__()
        one_of("average", average, ("pixels", "images"))
        self.average: Average = average

    @override
    def forward(self, logits: Tensor, target: Tensor, pixels: Tensor | None = None) -> Tensor:
        """Compute the loss, see :func:`collision_cross_entropy`."""
        return collision_cross_entropy(logits, target, pixels, self.average)
