"""Losses towards the labels of some of the pixels, given or latent: cross-entropies, and Dice."""

import torch
from torch import Tensor
from torch.nn import functional

from weakseg_lightning.energies.potts import VOID
from weakseg_lightning.losses.arguments import precise
from weakseg_lightning.losses.distributed import mean_over, total_of_ranks

_SMOOTHING = 1e-5  # keeps Dice of a class that is nowhere at 1


def partial_cross_entropy(logits: Tensor, labels: Tensor, ignore_index: int = VOID) -> Tensor:
    """Cross-entropy on the labeled pixels alone (pCE).

    ``-1/|Omega_L| sum_{p in Omega_L} log softmax(f_p)[y_p]``, Omega_L = the pixels whose label is not ``ignore_index``.

    Args:
        logits: scores f, float ``(B, K, H, W)``.
        labels: classes y, int ``(B, H, W)``, ``ignore_index`` where there is none.
        ignore_index: the label that marks pixels to leave out.

    Returns:
        The mean over the labeled pixels of the batch; 0 with zero gradient where there is none.

    References:
        Marin et al., Beyond Gradient Descent for Regularized Segmentation Losses, CVPR 2019, eq. 7 (first term).

    Example:
        >>> partial_cross_entropy(torch.zeros(1, 2, 1, 2), torch.tensor([[[0, 255]]]))
        tensor(0.6931)
    """
    total = functional.cross_entropy(logits.float(), labels.long(), ignore_index=ignore_index, reduction="sum")
    return mean_over(total, (labels != ignore_index).sum())


def latent_cross_entropy(logits: Tensor, latent: Tensor, pixels: Tensor | None = None) -> Tensor:
    """Cross-entropy against a latent labeling, ``KL(X_p || S_p)`` for the one-hot X that a discrete solver returns.

    Args:
        logits: scores, float ``(B, K, H, W)``.
        latent: the labeling X, int ``(B, H, W)``, 255 where it says nothing.
        pixels: bool ``(B, H, W)``, the pixels to use (Omega_U); all of them by default.

    Returns:
        The mean over the pixels used; 0 with zero gradient where there is none.

    References:
        Marin et al., Beyond Gradient Descent for Regularized Segmentation Losses, CVPR 2019, eq. 7 (second term).

    Example:
        >>> latent_cross_entropy(torch.zeros(1, 4, 1, 1), torch.tensor([[[3]]]))
        tensor(1.3863)
    """
    labels = latent.long()
    if pixels is not None:
        labels = torch.where(pixels, labels, VOID)
    return partial_cross_entropy(logits, labels)


def dice_loss(logits: Tensor, labels: Tensor, ignore_index: int = VOID) -> Tensor:
    """Mean of one minus the soft Dice coefficient of each class, which weighs small classes as large ones.

    ``1 - 1/K sum_k (2 sum_p S_p^k [y_p = k] + e) / (sum_p S_p^k + sum_p [y_p = k] + e)`` with S = softmax(logits) and
    e = 1e-5. The sums run over the labeled pixels of the whole batch, of all ranks. This is PyMIC's; WSL4MIS squares
    S in the denominator.

    Args:
        logits: scores, float ``(B, K, H, W)``; half precision is computed in single.
        labels: classes y, int ``(B, H, W)``, ``ignore_index`` where there is none.
        ignore_index: the label that marks pixels to leave out.

    Returns:
        A scalar in 0..1; 0 with zero gradient where no pixel is labeled.

    Example:
        >>> dice_loss(torch.zeros(1, 2, 1, 2), torch.tensor([[[0, 1]]]))  # 2 * 0.5 / (1 + 1) for either class
        tensor(0.5000)
    """
    labeled = labels != ignore_index
    s = torch.where(labeled[:, None], precise(logits), 0).softmax(1) * labeled[:, None]
    target = (
        functional.one_hot(torch.where(labeled, labels, 0).long(), logits.shape[1]).movedim(3, 1) * labeled[:, None]
    )
    sums = torch.stack([(s * target).sum((0, 2, 3)), (s + target).sum((0, 2, 3))])
    common, both = total_of_ranks(sums).unbind()
    return 1 - ((2 * common + _SMOOTHING) / (both + _SMOOTHING)).mean()
