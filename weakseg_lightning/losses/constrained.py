"""The loss of constrained CNNs: how far the network's output is from the latent label distributions."""

import torch
from torch import Tensor

from weakseg_lightning.losses.arguments import check_distributions, precise
from weakseg_lightning.losses.distributed import mean_over_images


def kl_loss(logits: Tensor, probabilities: Tensor, valid: Tensor | None = None) -> Tensor:
    """Kullback-Leibler divergence of the network's output Q = softmax(f) from latent label distributions P.

    ``1/n sum_i sum_l p_i(l) (log p_i(l) - log q_i(l))`` for an image of n valid pixels i, with ``0 log 0 = 0``; its
    gradient by the logits is ``(Q - P) / n``. P is a constant: no gradient goes through it.

    Args:
        logits: scores f, float ``(B, K, H, W)``.
        probabilities: P, float ``(B, K, H, W)``; sums to 1 on valid pixels.
        valid: bool ``(B, H, W)``, False on padding, whatever P is there. None = the pixels where P is not 0 throughout,
            which leaves out padding and images that a solver gave up.

    Returns:
        The mean over the images that have a valid pixel, in single precision or more; 0 with zero gradient where there
        is none.

    Raises:
        ValueError: if the shapes differ.

    References:
        Pathak, Krähenbühl, Darrell: Constrained Convolutional Neural Networks for Weakly Supervised Segmentation,
        ICCV 2015, eq. 3 and 5.

    Example:
        >>> latent = torch.tensor([1.0, 0.0]).reshape(1, 2, 1, 1)
        >>> kl_loss(torch.zeros(1, 2, 1, 1), latent)
        tensor(0.6931)
    """
    check_distributions("probabilities", probabilities, logits, "valid", valid)
    logits = precise(logits)
    latent = probabilities.detach().to(logits.dtype)
    valid = (latent > 0).any(1) if valid is None else valid
    scores = torch.where(valid[:, None], logits, 0).log_softmax(1)
    each = torch.where(latent > 0, latent * (latent.log() - scores), 0).sum(1)
    return mean_over_images(torch.where(valid, each, 0), valid)
