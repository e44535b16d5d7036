"""Places of the cells of a network's coarse map in the image."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from weakseg_lightning.devices import to_device
from weakseg_lightning.energies.potts import VOID


@dataclass(frozen=True)
class CoarseGrid:
    """The cells of a coarse map: cell i is centered at pixel ``stride i + offset`` of the network's image.

    The network's image is the given one resized by ``scale`` (:func:`resized`). Whatever the network, one rule says
    what a cell belongs to: the pixel that holds its center (half way between two pixels: the later one; beyond the last
    pixel: the last one). Pixel j spans j to j + 1 in the coordinates of boxes, and cell i spans i to i + 1.

    Args:
        stride: distance of neighboring cells, in pixels of the resized image.
        offset: the pixel that cell 0 is centered at, (stride - 1) / 2 where cell i stands for the pixels from stride i.
        scale: factor by which images are resized, in (0, 8].

    Example:
        >>> grid = CoarseGrid(stride=8, offset=3.5)
        >>> grid.size(17, 16)
        (3, 2)
        >>> grid.pixels(17)
        tensor([ 4, 12, 16])
    """

    stride: int
    offset: float
    scale: float = 1.0

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width in cells of the map of an image of ``height`` x ``width`` pixels."""
        return math.ceil(resized(height, self.scale) / self.stride), math.ceil(resized(width, self.scale) / self.stride)

    def pixels(self, length: int) -> Tensor:
        """Pixels that the cells along an axis belong to.

        Args:
            length: height or width of the image in pixels.

        Returns:
            Rows or columns of pixels, one per cell, int64 ``(n,)``, rising.
        """
        small = resized(length, self.scale)
        cells = torch.arange(math.ceil(small / self.stride), dtype=torch.float64)
        centers = (self.stride * cells + self.offset + 0.5) * (length / small)
        return centers.floor().long().clamp(max=length - 1)

    def cells_of(self, mask: Tensor) -> Tensor:
        """Take a map of pixels to cells, each cell what the pixel at its center is.

        Args:
            mask: bool (or labels, of any type) ``(..., H, W)``, H and W the size of the images.

        Returns:
            The same for the cells of the coarse map, ``(..., h, w)``, h and w as :meth:`size` says.

        Example:
            >>> valid = torch.ones(1, 16, 24, dtype=torch.bool)
            >>> valid[..., 12:] = False
            >>> CoarseGrid(stride=8, offset=0.0).cells_of(valid)
            tensor([[[ True,  True, False],
                     [ True,  True, False]]])
        """
        rows, columns = self._along_axes(self.pixels, mask)
        return mask[..., rows[:, None], columns]

    def labels_of(self, labels: Tensor, num_classes: int) -> Tensor:
        """Take sparse labels of pixels to cells: each cell the label that most of its labeled pixels have.

        No stroke is lost, however thin: a cell is labeled where any of its pixels is.

        Args:
            labels: int64 ``(B, H, W)``, 255 = none.
            num_classes: classes K.

        Returns:
            int64 ``(B, h, w)``, 255 where no pixel is labeled; of labels that are equally frequent, the smallest.

        Example:
            >>> labels = torch.full((1, 2, 4), 255)
            >>> labels[0, 1, 1:3] = torch.tensor([2, 1])
            >>> CoarseGrid(stride=2, offset=0.5).labels_of(labels, num_classes=3)
            tensor([[[2, 1]]])
        """
        height, width = self.size(*labels.shape[-2:])
        rows, columns = self._along_axes(self._cells, labels)
        # Pixels without a label count nothing, rather than being left out: how many there are only the device knows.
        known = labels != VOID
        places = (rows[:, None] * width + columns) * num_classes + torch.where(known, labels, 0)
        counts = torch.zeros(len(labels), height * width * num_classes, dtype=torch.int64, device=labels.device)
        counts.scatter_add_(1, places.flatten(1), known.flatten(1).long())
        counts = counts.view(len(labels), height, width, num_classes)
        return torch.where(counts.sum(-1) > 0, counts.argmax(-1), VOID)

    def maxima_of(self, maps: Tensor) -> Tensor:
        """Take maps of pixels to cells, each cell the largest value of the pixels in it: no boundary is lost.

        Args:
            maps: float ``(..., H, W)``, H and W the size of the images.

        Returns:
            The same for the cells of the coarse map, ``(..., h, w)``, h and w as :meth:`size` says.

        Example:
            >>> CoarseGrid(stride=2, offset=0.5).maxima_of(torch.tensor([[0.0, 0.0, 7.0, 0.0, 1.0]]))
            tensor([[0., 7., 1.]])
        """
        height, width = self.size(*maps.shape[-2:])
        rows, columns = self._along_axes(self._cells, maps)
        pixels = maps.flatten(-2)
        cells = (rows[:, None] * width + columns).flatten().expand_as(pixels)
        found = pixels.new_zeros(*pixels.shape[:-1], height * width)
        return found.scatter_reduce(-1, cells, pixels, "amax", include_self=False).view(*maps.shape[:-2], height, width)

    def _along_axes(self, of_length: Callable[[int], Tensor], maps: Tensor) -> tuple[Tensor, Tensor]:
        """Indices along the height and along the width of maps ``(..., H, W)``, copied to their device together."""
        rows, columns = (of_length(length) for length in maps.shape[-2:])
        both = to_device(torch.cat((rows, columns)), maps.device)
        return both[: len(rows)], both[len(rows) :]

    def _cells(self, length: int) -> Tensor:
        """Cell along an axis that each of ``length`` pixels lies in, int64 ``(length,)``."""
        small = resized(length, self.scale)
        centers = (torch.arange(length, dtype=torch.float64) + 0.5) * (small / length)
        cells = ((centers - self.offset - 0.5) / self.stride + 0.5).floor().long()
        return cells.clamp(0, math.ceil(small / self.stride) - 1)

    def boxes_of(self, boxes: Tensor, height: int, width: int) -> Tensor:
        """Take boxes from pixels to cells: a cell is in a box if its center is.

        Args:
            boxes: ``x1, y1, x2, y2`` and whatever follows, float ``(n, 4 or more)``. Pixel or cell j is in a box if
                ``x1 <= j + 0.5 < x2``: the box around pixels a to b, b included, has x1 = a and x2 = b + 1.
            height: height of the image in pixels.
            width: width of the image in pixels.

        Returns:
            The boxes in cells, same shape and type, within the map. A box too small to hold a cell's center gets the
            cell nearest to its middle, so that no object is lost; one beside the image holds no cell.

        Example:
            >>> CoarseGrid(stride=8, offset=3.5).boxes_of(torch.tensor([[0.0, 8.0, 16.0, 9.0, 5.0]]), 32, 32)
            tensor([[0., 1., 2., 2., 5.]])
        """
        moved = boxes.clone()
        for axis, length in ((0, width), (1, height)):
            moved[:, axis : axis + 3 : 2] = self._interval(boxes[:, axis : axis + 3 : 2], length).to(boxes.dtype)
        return moved

    def upsample(self, values: Tensor, height: int, width: int) -> Tensor:
        """Bring values of cells to pixels: linear between the centers of cells, constant beyond the outermost.

        Args:
            values: float ``(B, K, h, w)``, h and w as :meth:`size` says.
            height: height of the image in pixels.
            width: width of the image in pixels.

        Returns:
            The values at the center of each pixel, ``(B, K, height, width)``.

        Example:
            >>> CoarseGrid(stride=2, offset=0.5).upsample(torch.tensor([[[[0.0, 4.0]]]]), 2, 4)[0, 0, 0]
            tensor([0., 1., 3., 4.])
        """
        columns, rows = (self._normalized(length) for length in (width, height))
        where = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), -1).to(values.dtype)
        where = to_device(where, values.device).expand(len(values), -1, -1, -1)
        return F.grid_sample(values, where, mode="bilinear", padding_mode="border", align_corners=False)

    def _normalized(self, length: int) -> Tensor:
        """Centers of pixels along an axis in cells, from -1 at the beginning of the first cell to 1."""
        small = resized(length, self.scale)
        centers = (torch.arange(length, dtype=torch.float64) + 0.5) * (small / length)
        cells = (centers - self.offset - 0.5) / self.stride + 0.5
        return 2 * cells / math.ceil(small / self.stride) - 1

    def _interval(self, interval: Tensor, length: int) -> Tensor:
        """Take intervals ``(n, 2)`` along an axis of ``length`` pixels to cells."""
        small = resized(length, self.scale)
        cells = math.ceil(small / self.stride)
        ends = (interval.double() * (small / length) - self.offset - 0.5) / self.stride + 0.5
        middle = ends.mean(1).floor().clamp(0, cells - 1)
        ends = ends.clamp(0, cells)
        # the first center at or after each end: the same for both where none lies between
        first, behind = (ends - 0.5).ceil().unbind(1)
        lost = (first >= behind) & (interval[:, 0] <= interval[:, 1]) & (interval[:, 1] > 0) & (interval[:, 0] < length)
        return torch.where(lost[:, None], torch.stack((middle, middle + 1), 1), ends)


def resized(length: int, scale: float) -> int:
    """Height or width in pixels of an image resized by ``scale``, at least 1."""
    return length if scale == 1 else max(1, round(length * scale))
