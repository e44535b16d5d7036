"""Multiple instance learning: each class that an image is tagged with is learned at one pixel."""

import torch
from torch import Tensor

from weakseg_lightning.losses.arguments import check_mask
from weakseg_lightning.losses.distributed import mean_over


def mil_loss(logits: Tensor, tags: Tensor, valid: Tensor | None = None) -> Tensor:
    """Cross-entropy of each class of an image at the pixel where the class is most probable (MIL-FCN).

    ``-1/|L_I| sum_{l in L_I} max_p log softmax(f_p)[l]``, L_I = the classes of the image, background included, p over
    its valid pixels. Of several pixels that are equally probable, the first takes all of the gradient, row by row.

    Args:
        logits: scores f, float ``(B, K, H, W)``.
        tags: the classes of each image, bool ``(B, K)``.
        valid: bool ``(B, H, W)``, False on padding; None = no padding.

    Returns:
        The mean over the images that have a class and a valid pixel; 0 with zero gradient where there is none.

    Raises:
        ValueError: if the shapes do not fit together.

    References:
        Pathak, Shelhamer, Long, Darrell: Fully Convolutional Multi-Class Multiple Instance Learning, ICLR workshop
        2015.

    Example:
        >>> logits = torch.tensor([[[[9.0, 0.0]], [[0.0, 9.0]]]])
        >>> mil_loss(logits, torch.tensor([[True, True]])).item() < 1e-3
        True
    """
    if tags.shape != logits.shape[:2] or tags.dtype != torch.bool:
        expected = f"bool (B, K) = {tuple(logits.shape[:2])} as `logits` has it"
        raise ValueError(f"`tags` must be {expected}, got {tags.dtype} {tuple(tags.shape)}")
    check_mask("valid", valid, (logits.shape[0], *logits.shape[2:]))
    # sums over half-precision scores lose digits; double precision stays as it is
    log_q = logits.log_softmax(1, dtype=torch.promote_types(logits.dtype, torch.float32)).flatten(2)
    if valid is None:
        valid = logits.new_ones(logits.shape[0], *logits.shape[2:], dtype=torch.bool)
    inside = valid.flatten(1)[:, None]
    first_best = log_q.detach().masked_fill(~inside, -torch.inf).argmax(2, keepdim=True)
    best = log_q.gather(2, first_best)[..., 0]
    counted = tags & inside.any(2)
    of_image = -(best * counted).sum(1) / counted.sum(1).clamp(min=1)
    return mean_over(of_image.sum(), counted.any(1).sum())
