"""The grid Potts energy: edge weights, unary potentials, and the energy of a labeling."""

from dataclasses import dataclass
from math import isfinite
from typing import Literal

import torch
from torch import Tensor

from weakseg_lightning._native import _core

Connectivity = Literal[4, 8]
Offsets = tuple[tuple[int, int], ...]

_OFFSETS: Offsets = ((0, 1), (1, 0), (1, 1), (1, -1))
VOID = 255


def neighbor_offsets(connectivity: Connectivity) -> Offsets:
    """Return the steps ``(dy, dx)`` from a pixel to its forward neighbors: each edge of the grid occurs once.

    Args:
        connectivity: 4 or 8 neighbors a pixel.

    Returns:
        2 or 4 steps, in the order of the planes of `GridPotts.edge_weights`.

    Raises:
        ValueError: if ``connectivity`` is neither 4 nor 8.

    Example:
        >>> neighbor_offsets(4)
        ((0, 1), (1, 0))
    """
    if connectivity not in (4, 8):
        raise ValueError(f"`connectivity` must be 4 or 8, got {connectivity!r}.")
    return _OFFSETS[: connectivity // 2]


def _ends(plane: Tensor, dy: int, dx: int) -> tuple[Tensor, Tensor]:
    """Views ``(..., H - dy, W - |dx|)`` of the first and the second ends of all edges in one direction."""
    height, width = plane.shape[-2:]
    rows, columns = max(height - dy, 0), max(width - abs(dx), 0)
    left, right = max(-dx, 0), max(dx, 0)
    first = plane[..., :rows, left : left + columns]
    return first, plane[..., dy : dy + rows, right : right + columns]


def _double_sum(values: Tensor) -> Tensor:
    """Sum of each batch element in double precision."""
    if values.device.type == "mps":  # has no float64
        values = values.cpu()
    return values.flatten(1).sum(1, dtype=torch.float64)


def count_edges(valid: Tensor, connectivity: Connectivity) -> Tensor:
    """Count the grid edges between valid pixels.

    Args:
        valid: bool ``(B, H, W)``, False on padding.
        connectivity: 4 or 8 neighbors a pixel.

    Returns:
        int64 ``(B,)``.

    Example:
        >>> count_edges(torch.ones(1, 2, 3, dtype=torch.bool), 8)
        tensor([11])
    """
    count = torch.zeros(valid.shape[0], dtype=torch.int64, device=valid.device)
    for dy, dx in neighbor_offsets(connectivity):
        first, second = _ends(valid, dy, dx)
        count += (first & second).flatten(1).sum(1)
    return count


@dataclass(frozen=True)
class GridPotts:
    """Contrast-sensitive Potts weights on the pixel grid.

    ``w_pq = weight * exp(-||I_p - I_q||^2 / (2 sigma^2)) / dist(p, q)`` with ``dist`` 1 or sqrt(2), and ``sigma^2`` the
    mean of ``||I_p - I_q||^2`` over the image's edges (each image its own; 1 where that mean is 0). Edges that touch
    padding do not exist: they have weight 0 and are left out of the mean.

    Args:
        weight: factor of all edges, >= 0, in units of the unary potentials.
        connectivity: 4 or 8 neighbors a pixel.
        normalize_edges: multiply the weights by (number of pixels) / (number of edges) of the image, about 1/4 on the
            8-grid, so that the pairwise term weighs as much as the unary one whatever the grid.

    Raises:
        ValueError: if ``weight`` is negative or not finite, or ``connectivity`` is neither 4 nor 8.

    References:
        Marin et al., Beyond Gradient Descent for Regularized Segmentation Losses, CVPR 2019, eq. 1-2.
        Boykov and Jolly, Interactive Graph Cuts for Optimal Boundary and Region Segmentation, ICCV 2001.

    Example:
        >>> GridPotts(weight=2.0, connectivity=4).edge_weights(torch.zeros(1, 3, 1, 3))[0, 0]
        tensor([[2., 2., 0.]])
    """

    weight: float = 80.0
    connectivity: Connectivity = 8
    normalize_edges: bool = False

    def __post_init__(self) -> None:
        """Check the arguments."""
        neighbor_offsets(self.connectivity)
        if not (isfinite(self.weight) and self.weight >= 0):
            raise ValueError(f"`weight` must be finite and >= 0, got {self.weight!r}.")

    def edge_weights(self, image: Tensor, valid: Tensor | None = None) -> Tensor:
        """Weights of all edges of a batch of images.

        Args:
            image: RGB in 0..1, float ``(B, 3, H, W)`` (any number of channels works).
            valid: bool ``(B, H, W)``, False on padding; None = no padding.

        Returns:
            float32 ``(B, E, H, W)`` on the image's device, E = 2 or 4. Plane e holds at ``(y, x)`` the weight of the
            edge to ``(y + dy, x + dx)`` with ``(dy, dx) = neighbor_offsets(connectivity)[e]``; 0 where there is none.

        Raises:
            ValueError: if ``image`` is not a float ``(B, C, H, W)`` or ``valid`` not a bool ``(B, H, W)``.
        """
        valid = _check_image(image, valid)
        if image.device.type == "cpu" and not image.requires_grad:
            return self._native_edge_weights(image.float(), valid)
        contrast, exists = self._contrast(image.float(), valid)
        edges = exists.flatten(1).sum(1)
        mean = contrast.flatten(1).sum(1) / edges.clamp(min=1)
        sigma2 = torch.where(mean > 0, mean, 1.0)
        factor = torch.full_like(sigma2, self.weight)
        if self.normalize_edges:
            factor = factor * valid.flatten(1).sum(1) / edges.clamp(min=1)
        length = [float(dy * dy + dx * dx) ** 0.5 for dy, dx in neighbor_offsets(self.connectivity)]
        inverse_length = contrast.new_tensor(length).reciprocal()[:, None, None]
        weights = torch.exp(-contrast / (2 * sigma2[:, None, None, None])) * inverse_length
        return torch.where(exists, weights * factor[:, None, None, None], 0.0)

    def _native_edge_weights(self, image: Tensor, valid: Tensor) -> Tensor:
        """The same in compiled code: one pass in place of twenty."""
        batch, _, height, width = image.shape
        weights = torch.empty(batch, self.connectivity // 2, height, width)
        _core.potts_weights(
            image=image.contiguous().numpy(),
            valid=valid.contiguous().view(torch.uint8).numpy(),
            weight=self.weight,
            normalize=self.normalize_edges,
            weights=weights.numpy(),
            num_threads=torch.get_num_threads(),
        )
        return weights

    def _contrast(self, image: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """Squared color difference along each edge ``(B, E, H, W)``, and which edges exist."""
        offsets = neighbor_offsets(self.connectivity)
        shape = (image.shape[0], len(offsets), *image.shape[2:])
        contrast = image.new_zeros(shape)
        exists = torch.zeros(shape, dtype=torch.bool, device=image.device)
        for e, (dy, dx) in enumerate(offsets):
            first, second = _ends(image, dy, dx)
            here, there = _ends(valid, dy, dx)
            present = here & there
            # `where`, not a product: what stands on padding, be it NaN, must not come through.
            _ends(contrast[:, e], dy, dx)[0].copy_(torch.where(present, (first - second).square().sum(1), 0.0))
            _ends(exists[:, e], dy, dx)[0].copy_(present)
        return contrast, exists


def _check_image(image: Tensor, valid: Tensor | None) -> Tensor:
    if image.ndim != 4 or not image.is_floating_point():
        raise ValueError(f"`image` must be a float (B, 3, H, W), got {image.dtype} {tuple(image.shape)}.")
    shape = (image.shape[0], *image.shape[2:])
    if valid is None:
        return torch.ones(shape, dtype=torch.bool, device=image.device)
    if valid.shape != shape or valid.dtype != torch.bool:
        raise ValueError(f"`valid` must be a bool {shape} like `image`, got {valid.dtype} {tuple(valid.shape)}.")
    if valid.device != image.device:
        raise ValueError(f"`valid` must be on the device of `image`, {image.device}, got {valid.device}.")
    return valid


def potts_energy(labels: Tensor, edge_weights: Tensor) -> Tensor:
    """Pairwise energy of a labeling: the sum of the weights of the cut edges.

    Args:
        labels: integer ``(B, H, W)``. Edges of padding have weight 0, so its labels do not matter.
        edge_weights: float ``(B, E, H, W)`` from `GridPotts.edge_weights`.

    Returns:
        float64 ``(B,)``.

    Raises:
        ValueError: if the shapes do not belong together.

    Example:
        >>> weights = GridPotts(weight=2.0, connectivity=4).edge_weights(torch.zeros(1, 3, 1, 3))
        >>> potts_energy(torch.tensor([[[0, 1, 1]]]), weights)
        tensor([2.], dtype=torch.float64)
    """
    expected = (labels.shape[0], edge_weights.shape[1], *labels.shape[1:])
    if labels.ndim != 3 or edge_weights.shape != expected or expected[1] not in (2, 4):
        raise ValueError(
            "`labels` (B, H, W) and `edge_weights` (B, 2 or 4, H, W) must belong together, "
            f"got {tuple(labels.shape)} and {tuple(edge_weights.shape)}."
        )
    cut = torch.zeros_like(edge_weights)
    for e, (dy, dx) in enumerate(_OFFSETS[: expected[1]]):
        first, second = _ends(labels, dy, dx)
        weights = _ends(edge_weights[:, e], dy, dx)[0]
        _ends(cut[:, e], dy, dx)[0].copy_(torch.where(first != second, weights, 0.0))
    return _double_sum(cut)


def unary_potentials(logits: Tensor, unary_weight: float = 1.0) -> Tensor:
    """Unary potentials ``-unary_weight * log_softmax(logits)``.

    Args:
        logits: scores, float ``(B, K, H, W)``.
        unary_weight: factor, >= 0.

    Returns:
        float32 ``(B, K, H, W)``. In half precision a confident score would round to the same potential as its rivals,
        so the logits are converted first.

    Example:
        >>> unary_potentials(torch.zeros(1, 2, 1, 1)).flatten()
        tensor([0.6931, 0.6931])
    """
    return torch.log_softmax(logits.float(), dim=1) * -unary_weight


def unary_energy(labels: Tensor, unary: Tensor) -> Tensor:
    """Unary energy of a labeling.

    Args:
        labels: integer ``(B, H, W)``; pixels labelled 255 cost nothing.
        unary: float ``(B, K, H, W)`` from `unary_potentials`.

    Returns:
        float64 ``(B,)``.

    Raises:
        ValueError: if the shapes do not belong together.

    Example:
        >>> unary_energy(torch.tensor([[[1, 255]]]), torch.tensor([[[[0.0, 0.0]], [[3.0, 3.0]]]]))
        tensor([3.], dtype=torch.float64)
    """
    if labels.ndim != 3 or unary.ndim != 4 or labels.shape != (unary.shape[0], *unary.shape[2:]):
        raise ValueError(
            "`labels` (B, H, W) and `unary` (B, K, H, W) must belong together, "
            f"got {tuple(labels.shape)} and {tuple(unary.shape)}."
        )
    known = labels != VOID
    index = torch.where(known, labels, 0).long()[:, None]
    return _double_sum(torch.where(known, unary.gather(1, index)[:, 0], 0.0))
