"""The grid Potts energy: edge weights, unary potentials, and the energy of a labeling."""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional

from weakseg_lightning._native import _core
from weakseg_lightning.checks import at_least, finite_at_least, one_of
from weakseg_lightning.energies.grid import OFFSETS, Connectivity, existing_edges, neighbor_offsets, shifted_pair

Edges = Literal["contrast", "regions", "boundaries"]

VOID = 255
"""The label of pixels that carry none: void, unlabelled, padding."""


@dataclass(frozen=True)
class GridPotts:
    """Potts weights on the pixel grid, from the image's contrast or from a map of its edges.

    ``w_pq = weight * c_pq / dist(p, q)`` with ``dist`` 1 or sqrt(2), and c one of

    - ``contrast``: ``exp(-||I_p - I_q||^2 / (2 sigma^2))``, ``sigma^2`` the mean of ``||I_p - I_q||^2`` over the edges
      of the image (each image its own; 1 where that mean is 0);
    - ``regions``: 0 where a map of region numbers changes within ``dilation`` pixels of p or q, 1 elsewhere;
    - ``boundaries``: 0 where a map is above 0 within ``dilation`` pixels of p or q, 1 elsewhere.

    A pixel is within d pixels of another if neither its row nor its column is further away. Edges that touch padding do
    not exist: they have weight 0 and are left out of the mean, and no map changes there. The maps are the ``guide`` of
    the data, as `FolderDataModule` reads it.

    Args:
        weight: factor of all edges, >= 0, in units of the unary potentials.
        connectivity: 4 or 8 neighbors per pixel.
        normalize_edges: multiply the weights by (number of pixels) / (number of edges) of the image, about 1/4 on the
            8-grid, so that the pairwise term weighs as much as the unary one whatever the grid.
        edges: what c is made of.
        dilation: width in pixels that is added to the edges of a map on either side, >= 0; 0 cuts those edges alone
            that the map cuts. Boundaries of objects are seldom exact to a pixel; superpixels leave no room for more.

    Raises:
        ValueError: if ``weight`` is negative or not finite, ``dilation`` negative, ``connectivity`` neither 4 nor 8, or
            ``edges`` unknown.

    References:
        Marin et al., Beyond Gradient Descent for Regularized Segmentation Losses, CVPR 2019, eq. 1-2.
        Boykov and Jolly, Interactive Graph Cuts for Optimal Boundary and Region Segmentation, ICCV 2001.
        DS-CRF, of the same group, for edges from maps: mIoU of 77.8 dilated by 5 cells at a quarter of the resolution,
        50.6 without. The paper was not at hand: these are from a note on it, and what dilation means is chosen here.

    Example:
        >>> GridPotts(weight=2.0, connectivity=4).edge_weights(torch.zeros(1, 3, 1, 3))[0, 0]
        tensor([[2., 2., 0.]])
        >>> regions = torch.tensor([4.0, 4, 4, 7, 7, 7]).view(1, 1, 1, 6)
        >>> GridPotts(2.0, 4, edges="regions", dilation=1).edge_weights(regions)[0, 0]
        tensor([[2., 0., 0., 0., 2., 0.]])
    """

    weight: float = 80.0
    connectivity: Connectivity = 8
    normalize_edges: bool = False
    edges: Edges = "contrast"
    dilation: int = 5

    def __post_init__(self) -> None:
        """Check the arguments."""
        neighbor_offsets(self.connectivity)
        finite_at_least("weight", self.weight, 0)
        one_of("edges", self.edges, get_args(Edges))
        at_least("dilation", self.dilation, 0)

    @property
    def needs_guide(self) -> bool:
        """True where the weights are those of a map that the data bring, not of the image."""
        return self.edges != "contrast"

    def edge_weights(self, image: Tensor, valid: Tensor | None = None) -> Tensor:
        """Weights of all edges of a batch of images.

        Args:
            image: RGB in 0..1, float ``(B, 3, H, W)`` (any number of channels works); with other ``edges`` than
                ``contrast`` the map of regions (numbers, exact below 2^24) or boundaries, float ``(B, 1, H, W)``.
            valid: bool ``(B, H, W)``, False on padding; None = no padding.

        Returns:
            float32 ``(B, E, H, W)`` on the image's device, E = 2 or 4. Plane e holds at ``(y, x)`` the weight of the
            edge to ``(y + dy, x + dx)`` with ``(dy, dx) = neighbor_offsets(connectivity)[e]``; 0 where there is none.

        Raises:
            ValueError: if ``image`` is not a float ``(B, C, H, W)`` or ``valid`` not a bool ``(B, H, W)``.
        """
        valid = _check_image(image, valid)
        if self.needs_guide and image.shape[1] != 1:
            expected = f"the map of each image, float (B, 1, H, W), where `edges` are {self.edges}"
            raise ValueError(f"`image` must be {expected}, got {tuple(image.shape)}")
        if not self.needs_guide and image.device.type == "cpu" and not image.requires_grad:
            return self._native_edge_weights(image.float(), valid)
        exists = existing_edges(valid, self.connectivity)
        edges = exists.flatten(1).sum(1)
        closeness = (
            self._uncut(image.float(), valid) if self.needs_guide else self._likeness(image.float(), exists, edges)
        )
        factor = torch.full_like(edges, self.weight, dtype=closeness.dtype)
        if self.normalize_edges:
            factor = factor * valid.flatten(1).sum(1) / edges.clamp(min=1)
        length = [float(dy * dy + dx * dx) ** 0.5 for dy, dx in neighbor_offsets(self.connectivity)]
        # Filled on the device, as a tensor of numbers would be copied to it.
        lengths = torch.stack([closeness.new_full((), each) for each in length])
        inverse_length = lengths.reciprocal()[:, None, None]
        return torch.where(exists, closeness * inverse_length * factor[:, None, None, None], 0.0)

    def _native_edge_weights(self, image: Tensor, valid: Tensor) -> Tensor:
        """The same in compiled code: one pass in place of twenty."""
        batch, _, height, width = image.shape
        weights = torch.empty(batch, self.connectivity // 2, height, width, dtype=torch.float32)
        _core.potts_weights(
            image=image.contiguous().numpy(),
            valid=valid.contiguous().view(torch.uint8).numpy(),
            weight=self.weight,
            normalize=self.normalize_edges,
            weights=weights.numpy(),
            num_threads=torch.get_num_threads(),
        )
        return weights

    def _likeness(self, image: Tensor, exists: Tensor, edges: Tensor) -> Tensor:
        """Similarity of the colors at both ends of each edge, 0 to 1, ``(B, E, H, W)``."""
        contrast = torch.zeros_like(exists, dtype=image.dtype)
        for e, step in enumerate(neighbor_offsets(self.connectivity)):
            first, second = shifted_pair(image, *step)
            shifted_pair(contrast[:, e], *step)[0].copy_((first - second).square().sum(1))
        # `where`, not a product: what stands on padding, be it NaN, must not come through.
        contrast = torch.where(exists, contrast, 0.0)
        mean = contrast.flatten(1).sum(1) / edges.clamp(min=1)
        sigma2 = torch.where(mean > 0, mean, 1.0)
        return torch.exp(-contrast / (2 * sigma2[:, None, None, None]))

    def _uncut(self, guide: Tensor, valid: Tensor) -> Tensor:
        """1 for edges near which the map shows no edge, 0 for the others, ``(B, E, H, W)``."""
        nothing = torch.finfo(guide.dtype).min
        highest = _largest_within(self.dilation, torch.where(valid[:, None], guide, nothing))[:, 0]
        lowest = -_largest_within(self.dilation, torch.where(valid[:, None], -guide, nothing))[:, 0]
        if self.edges == "boundaries":
            lowest = torch.zeros_like(lowest)
        uncut = guide.new_zeros(len(guide), self.connectivity // 2, *guide.shape[2:])
        for e, step in enumerate(neighbor_offsets(self.connectivity)):
            high, low = torch.maximum(*shifted_pair(highest, *step)), torch.minimum(*shifted_pair(lowest, *step))
            shifted_pair(uncut[:, e], *step)[0].copy_(high <= low)
        return uncut


def _largest_within(distance: int, maps: Tensor) -> Tensor:
    """The largest value within a distance in rows and columns of each pixel."""
    side = 2 * distance + 1
    along_columns = functional.max_pool2d(maps, (side, 1), 1, (distance, 0))
    return functional.max_pool2d(along_columns, (1, side), 1, (0, distance))


def _check_image(image: Tensor, valid: Tensor | None) -> Tensor:
    if image.ndim != 4 or not image.is_floating_point():
        raise ValueError(f"`image` must be a float (B, 3, H, W), got {image.dtype} {tuple(image.shape)}")
    shape = (image.shape[0], *image.shape[2:])
    if valid is None:
        return torch.ones(shape, dtype=torch.bool, device=image.device)
    if valid.shape != shape or valid.dtype != torch.bool:
        raise ValueError(f"`valid` must be a bool {shape} like `image`, got {valid.dtype} {tuple(valid.shape)}")
    if valid.device != image.device:
        raise ValueError(f"`valid` must be on the device of `image`, {image.device}, got {valid.device}")
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
            f"got {tuple(labels.shape)} and {tuple(edge_weights.shape)}"
        )
    cut = torch.zeros_like(edge_weights)
    for e, step in enumerate(OFFSETS[: expected[1]]):
        first, second = shifted_pair(labels, *step)
        weights = shifted_pair(edge_weights[:, e], *step)[0]
        shifted_pair(cut[:, e], *step)[0].copy_(torch.where(first != second, weights, 0.0))
    return double_sum(cut)


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
        labels: integer ``(B, H, W)``; pixels labeled 255 cost nothing.
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
            f"got {tuple(labels.shape)} and {tuple(unary.shape)}"
        )
    known = labels != VOID
    index = torch.where(known, labels, 0).long()[:, None]
    return double_sum(torch.where(known, unary.gather(1, index)[:, 0], 0.0))


def double_sum(values: Tensor) -> Tensor:
    """Sum of each batch element in double precision."""
    values = values.cpu() if values.device.type == "mps" else values  # MPS has no float64
    return values.flatten(1).sum(1, dtype=torch.float64)
