"""Linear constraints on label distributions, as tensors for a whole batch, and the facts they are made from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from torch import Tensor

from weakseg_lightning.devices import to_host


@dataclass(frozen=True)
class LinearConstraints:
    """Knowledge of the label distributions P of a batch: classes that may occur, and linear inequalities.

    Row c of an image says ``sum_{i in R_c} sum_l a_cl p_i(l) >= b_c |R_c|``: i runs over the valid pixels of the row's
    region R_c, l over the classes; an upper bound has negative coefficients. With ``slack`` beta the row may be
    violated by xi at the price ``beta xi`` (xi in pixels), so that its dual variable stays in ``[0, beta]``: the row
    then adds at most ``beta a_cl`` to a logit. Rows that are not ``active`` do not exist for that image.

    Args:
        coefficients: a, float ``(B, C, K)``.
        bounds: b, float ``(B, C)``, a fraction of the region's valid pixels.
        slack: beta, float ``(B, C)``; infinity makes the row hard.
        active: bool ``(B, C)``.
        allowed: bool ``(B, K)``: the classes that an image may hold; the others have probability 0.
        regions: bool ``(B, R, H, W)``; None where no row has a region.
        region_of: int64 ``(B, C)``, the region of each row, -1 = the whole image; None where no row has a region.
        allowed_at: bool ``(B, K, H, W)``, the classes that each pixel may take, besides ``allowed``; None = all. A
            pixel that may take none takes class 0.
        names: what the C rows say, for messages; see :meth:`name`.
        class_names: names of the K classes.

    References:
        Pathak, Krähenbühl, Darrell: Constrained Convolutional Neural Networks for Weakly Supervised Segmentation,
        ICCV 2015, eq. 3 and 6.
    """

    coefficients: Tensor
    bounds: Tensor
    slack: Tensor
    active: Tensor
    allowed: Tensor
    regions: Tensor | None
    region_of: Tensor | None
    allowed_at: Tensor | None
    names: tuple[str, ...]
    class_names: tuple[str, ...] = ()

    @cached_property
    def on_host(self) -> "LinearConstraints":
        """The same with all that is not of single pixels on the CPU, copied once."""
        region_of = [] if self.region_of is None else [self.region_of]
        coefficients, bounds, slack, active, allowed, *region_of = to_host(
            self.coefficients, self.bounds, self.slack, self.active, self.allowed, *region_of
        )
        return replace(
            self,
            coefficients=coefficients,
            bounds=bounds,
            slack=slack,
            active=active,
            allowed=allowed,
            region_of=region_of[0] if region_of else None,
        )

    def name(self, image: int, row: int) -> str:
        """Put a row about an image as people say it: ``dog in box 2 >= 0.75``.

        Rows whose class or bound depends on the image have ``{class}`` and ``{bound}`` in :attr:`names`; here they are
        filled in.

        Args:
            image: index in the batch.
            row: index among the C rows.
        """
        name = self.names[row]
        if "{class}" in name:
            name = name.replace("{class}", self.class_names[int(self.coefficients[image, row].abs().argmax())])
        return name.replace("{bound}", f"{abs(float(self.bounds[image, row])):g}")


@dataclass(frozen=True)
class ImageFacts:
    """Facts about the B images of a batch; all tensors on one device.

    Args:
        ids: names of the images.
        class_names: names of the K classes, background first.
        tags: the classes of each image, bool ``(B, K)``, background always True.
        valid: the pixels of the (coarse) map that are no padding, bool ``(B, H, W)``.
        sizes: the bucket that the area of each class is in, 0 = the smallest, -1 = not known, int ``(B, K)``.
        boxes: ``x1, y1, x2, y2, class`` in cells of the map, one float ``(n, 5)`` per image.
        masks: named regions, bool ``(B, H, W)``.
    """

    ids: Sequence[str]
    class_names: Sequence[str]
    tags: Tensor
    valid: Tensor
    sizes: Tensor | None = None
    boxes: Sequence[Tensor] | None = None
    masks: Mapping[str, Tensor] = field(default_factory=dict)
