"""Cross-entropies over some of the pixels: the labeled ones, or those with a latent label."""

import torch
from torch import Tensor
from torch.nn import functional

from weakseg_lightning.energies.potts import VOID
from weakseg_lightning.losses.distributed import mean_over


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
