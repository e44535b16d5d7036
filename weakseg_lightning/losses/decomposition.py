"""Losses of weak segmentation by reconstruction: an image is split into one image per class and put together again.

Symbols as in the report (Zeng, Weak Segmentation by Reconstruction from Structured Decomposition, 2024), but that the
background is class 0 here, the last class there: I the image, M its mask-lets (probabilities of the K classes), X its
per-class images (one RGB image per class), g a classifier of the K - 1 foreground classes.
"""

from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from weakseg_lightning.checks import one_of

Variant = Literal["report", "released"]

EPSILON = 1e-6  # below every logarithm, as in the official code


def recompose(masks: Tensor, imagelets: Tensor) -> Tensor:
    """Put per-class images together, weighted by mask-lets: ``sum_k M_k X_k`` (eq. 1).

    Args:
        masks: M, ``(B, K, H, W)``.
        imagelets: X, ``(B, K, 3, H, W)``.

    Returns:
        The reconstruction ``(B, 3, H, W)``.

    Example:
        >>> recompose(torch.tensor([[[[0.25]], [[0.75]]]]), torch.tensor([[[[[1.0]]] * 3, [[[0.0]]] * 3]])).flatten()
        tensor([0.2500, 0.2500, 0.2500])
    """
    return (masks[:, :, None] * imagelets).sum(1)


def reconstruction_loss(masks: Tensor, imagelets: Tensor, images: Tensor, valid: Tensor) -> Tensor:
    """Squared error of the recomposed image, ``1/(C |V|) sum_{c, p in V} (sum_k M_kp X_kcp - I_cp)^2`` (eq. 2).

    Args:
        masks: M, ``(B, K, H, W)``.
        imagelets: X, ``(B, K, 3, H, W)``.
        images: I, RGB in 0..1, ``(B, 3, H, W)``.
        valid: the pixels V of each image, bool ``(B, H, W)``, False on padding.

    Returns:
        The mean over the images; an image without valid pixels counts as 0.
    """
    squares = (recompose(masks, imagelets) - images).square().mean(1)
    return shares(squares[:, None], valid).mean()


def shares(masks: Tensor, valid: Tensor) -> Tensor:
    """Mean of each map over the valid pixels of its image: the expected fraction of each class (eq. 3).

    Args:
        masks: ``(B, K, H, W)``.
        valid: bool ``(B, H, W)``.

    Returns:
        ``(B, K)``; 0 where an image has no valid pixel.
    """
    inside = valid[:, None].to(masks.dtype)
    return (masks * inside).sum((2, 3)) / inside.sum((2, 3)).clamp(min=1)


def mask_loss(masks: Tensor, targets: Tensor, valid: Tensor, variant: Variant = "report") -> Tensor:
    r"""Cross-entropy between the fraction of the image that each mask-let takes and what is known of it (eq. 4).

    ``-1/K sum_k y_k log a_k + (1 - y_k) log(1 - a_k)``, a_k = mean of M_k. y is 1 for the classes that are there, the
    background among them, and 0 for the others; or each class's true share, a volumetric prior.

    Args:
        masks: M, ``(B, K, H, W)``.
        targets: y, bool or float in 0..1, ``(B, K)``.
        valid: bool ``(B, H, W)``, False on padding.
        variant: ``report`` divides by K, the official code (``released``) does not.

    Returns:
        The mean over the images.

    Example:
        >>> halves = torch.tensor([[[[1.0, 0.0]], [[0.0, 1.0]]]])
        >>> there = torch.ones(1, 1, 2, dtype=torch.bool)
        >>> round(mask_loss(halves, torch.tensor([[True, True]]), there).item(), 4)  # log 2
        0.6931
    """
    one_of("variant", variant, get_args(Variant))
    areas, y = shares(masks, valid), targets.to(masks.dtype)
    entropy = -(y * (areas + EPSILON).log() + (1 - y) * (1 - areas + EPSILON).log())
    return (entropy.mean(1) if variant == "report" else entropy.sum(1)).mean()


def imagelet_loss(scores: Tensor, tags: Tensor, variant: Variant = "report", shown: Tensor | None = None) -> Tensor:
    r"""Cross-entropy of a classifier on per-class images: the own class should be there, and no other (eq. 5 and 6).

    ``1/K sum_k (-[y_k = 1, k > 0] log g_k(M_k X_k) - sum_{j > 0, j != k} log(1 - g_j(M_k X_k)))``. No class should be
    seen in the background's per-class image (k = 0).

    Args:
        scores: logits of g for the per-class image of each class k, ``(B, K, K - 1)``; g_j is the sigmoid of
            ``[:, k, j - 1]``.
        tags: y, bool ``(B, K)``.
        variant: the official code (``released``) adds ``-log(1 - g_k(M_k X_k))`` for the classes that are absent, and
            takes the mean over the K - 1 outputs j, not their sum (with one foreground class, that is the same).
        shown: bool ``(B, K)``, False for per-class images that are left out; None = all count.

    Returns:
        The mean over the images.
    """
    one_of("variant", variant, get_args(Variant))
    own = torch.eye(scores.shape[1], dtype=torch.bool, device=scores.device)[None, :, 1:]
    wanted = own & tags[:, :, None]
    unwanted = ~own if variant == "report" else ~wanted
    terms = F.softplus(-scores) * wanted + F.softplus(scores) * unwanted  # -log g and -log(1 - g)
    if shown is not None:
        terms = terms * shown[:, :, None]
    outputs = terms.sum(2) if variant == "report" else terms.mean(2)
    return outputs.sum(1).mean() / scores.shape[1]


def absence_loss(masks: Tensor, tags: Tensor, valid: Tensor, weights: Tensor) -> Tensor:
    r"""Cross-entropy of each pixel with what a tag says for certain: a class that is absent is at no pixel.

    ``-w 1/|V| sum_{p in V} sum_{k absent} log(1 - M_kp)``. The mask loss (eq. 4) sees areas alone, and hardly minds a
    small one: a patch that is taken for an absent class with confidence costs it next to nothing, and this loss much.

    Args:
        masks: M, ``(B, K, H, W)``.
        tags: bool ``(B, K)``.
        valid: bool ``(B, H, W)``, False on padding.
        weights: w of each image, ``(B,)``.

    Returns:
        The mean over the images, weighted: ``sum_i w_i loss_i / B``.
    """
    absent = (~tags).to(masks.dtype)
    nowhere = -(1 - masks + EPSILON).log().clamp(max=0)
    return (weights * (absent * shares(nowhere, valid)).sum(1)).mean()
