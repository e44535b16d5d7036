"""Constrained CNN (CCNN): the network follows the nearest label distribution that satisfies linear constraints."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor
from typing_extensions import override

from weakseg_lightning import checks
from weakseg_lightning.constraints import ConstraintRule, ImageFacts, compile_constraints, find_contradictions
from weakseg_lightning.energies.potts import VOID
from weakseg_lightning.errors import UserError, first_of
from weakseg_lightning.losses import collision_cross_entropy, kl_loss, partial_cross_entropy, sum_over_ranks
from weakseg_lightning.modules.core.base import Batch
from weakseg_lightning.modules.core.latent import LatentModule
from weakseg_lightning.networks import Network
from weakseg_lightning.solvers import ConstrainedLatent, DistributionResult, DistributionSolver

_NAMED_CONTRADICTIONS = 5
_CHECKED_TOGETHER = 64
_LINKS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "kl": kl_loss,
    "collision": partial(collision_cross_entropy, average="images"),
}


class CCNNModule(LatentModule[DistributionResult]):
    """Constrained CNN: trains from tags, sizes, boxes, and whatever else linear constraints can say of the output.

    Each iteration minimizes ``KL(P || Q)`` over the label distributions P that satisfy the constraints of the image
    (the solver; Q = the network's output), then takes a gradient step of the network on the same, P fixed: the mean of
    ``sum_i KL(P_i || Q_i) / n`` over the images, n = cells of the network's coarse map. Constraints speak of whole
    images: train on whole images (``crop_size`` no smaller than they are, ``scale_range: [1, 1]``), or with
    ``tags_from: crop``. Images that show their full mask (``data.full_fraction``) are trained with cross-entropy.

    Args:
        network: the network to build.
        num_classes: classes K, background included; taken from the data.
        constraints: rules that make the constraints of an image from the facts about it; the published sets are in
            the recipes, and :func:`weakseg_lightning.constraints.preset` makes them.
        solver: finds P: :class:`weakseg_lightning.solvers.ConstrainedLatent`, or EM-Adapt's ``AdaptiveBias``.
        map_stride: distance in pixels of the cells that constraints act on; null for the network's own coarse map.
        mask_weight: weight of the cross-entropy on an image with a full mask against the divergence on a weak one.
        link: what the gradient step minimizes: ``kl``, the divergence above; ``collision``, the collision cross-entropy
            ``-ln sum_k P_i^k Q_i^k`` in its place, with which cells that the constraints leave unsure teach little.
        base: those of :class:`LatentModule`.

    References:
        Pathak, Krähenbühl, Darrell: Constrained Convolutional Neural Networks for Weakly Supervised Segmentation,
        ICCV 2015, eq. 3 to 10.
    """

    def __init__(
        self,
        network: Network,
        num_classes: int,
        constraints: list[ConstraintRule],
        solver: DistributionSolver | None = None,
        map_stride: int | None = 8,
        mask_weight: float = 1.0,
        link: Literal["kl", "collision"] = "kl",
        **base: Any,
    ) -> None:
        super().__init__(network, num_classes, latent_lag=0, **base)
        checks.finite_at_least("mask_weight", mask_weight, 0)
        checks.one_of("link", link, _LINKS)
        self.constraints = constraints
        self.solver = solver or ConstrainedLatent()
        self.map_stride = map_stride
        self.mask_weight = mask_weight
        self.link = link
        self.grid = self.net.coarse_grid(map_stride)  # raises where the network has no such map

    # ---- before training ------------------------------------------------------------------------------------

    @override
    def setup(self, stage: str) -> None:
        """Compare the rules with the data, and look for contradictions between the constraints of each training image.

        Raises:
            ValueError: if constraints without slack cannot hold together; names them and the images.
        """
        super().setup(stage)
        read_known = getattr(getattr(self.trainer, "datamodule", None), "facts_of_training", None)
        if stage == "fit" and read_known is not None:
            images = list(read_known())
            for rule in self.constraints:
                rule.check([one["id"] for one in images], self.names_or_numbers)
            self._require_no_contradictions(images)

    def _require_no_contradictions(self, images: Iterable[dict[str, Any]]) -> None:
        # Masks of named regions come with the batches: what such rules say is known there alone.
        rules = [rule for rule in self.constraints if not isinstance(getattr(rule, "region", None), str)]
        found = find_contradictions(rules, map(self._facts_of, _grouped(images, self._map_size)))
        if found:
            shown = first_of(list(found.values()), _NAMED_CONTRADICTIONS)
            raise UserError(f"`constraints`: {shown}. Loosen one of them, or give it `slack`")

    def _map_size(self, known: dict[str, Any]) -> tuple[int, int]:
        return self.grid.size(known["height"], known["width"])

    def _facts_of(self, images: Sequence[dict[str, Any]]) -> ImageFacts:
        """The facts about whole images whose coarse maps are of one size."""
        sizes = [one["sizes"] for one in images if "sizes" in one]
        boxes = [
            self.grid.boxes_of(one["boxes"], one["height"], one["width"]) for one in images if one["boxes"] is not None
        ]
        return ImageFacts(
            ids=[one["id"] for one in images],
            class_names=self.names_or_numbers,
            tags=torch.stack([one["tags"] for one in images]),
            valid=torch.ones(len(images), *self._map_size(images[0]), dtype=torch.bool),
            sizes=torch.stack(sizes) if len(sizes) == len(images) else None,
            boxes=boxes if len(boxes) == len(images) else None,
        )

    # ---- the alternation ------------------------------------------------------------------------------------

    @override
    def score(self, images: Tensor) -> Tensor:
        """Logits of the cells of the coarse map, ``(B, K, h, w)``."""
        return self.net.coarse_logits(images, self.map_stride)

    @override
    def solve_latent(self, logits: Tensor, batch: Batch) -> DistributionResult:
        """Find the nearest distribution that satisfies the constraints (eq. 3, P fixed to factorize)."""
        known = self._facts(batch)
        constraints = compile_constraints(self.constraints, known)
        return self.solver.solve(logits, constraints, valid=known.valid)

    @override
    def latent_loss(self, logits: Tensor, latent: DistributionResult, batch: Batch) -> dict[str, Tensor]:
        """Compute the divergence of eq. 3, or its link, over the weak images, and cross-entropy on full masks."""
        weak = ~batch["full"]
        cells = self.grid.cells_of(batch["valid"]) & weak[:, None, None]
        counts = sum_over_ranks(torch.stack([weak, ~weak], 1).sum(0))
        fractions = counts / counts.sum()
        terms: dict[str, Tensor] = {self.link: fractions[0] * _LINKS[self.link](logits, latent.probabilities, cells)}
        if fractions[1] > 0:  # on any rank, as all have to count the same
            labels = torch.where(weak[:, None, None], VOID, batch["seeds"])
            upsampled = self.grid.upsample(logits, *labels.shape[-2:])
            terms["mask"] = self.mask_weight * fractions[1] * partial_cross_entropy(upsampled, labels)
        return terms

    def _facts(self, batch: Batch) -> ImageFacts:
        """The facts about the images of a batch, in cells of the coarse map."""
        height, width = batch["image"].shape[-2:]
        boxes = batch.get("boxes")
        regions = {name: mask for name, mask in batch.items() if _is_mask(mask, batch["valid"]) and name != "valid"}
        return ImageFacts(
            ids=batch["id"],
            class_names=self.names_or_numbers,
            tags=batch["tags"],
            valid=self.grid.cells_of(batch["valid"]),
            sizes=batch.get("sizes"),
            boxes=None if boxes is None else [self.grid.boxes_of(one, height, width) for one in boxes],
            masks={name: self.grid.cells_of(mask) for name, mask in regions.items()},
        )


def _grouped(
    images: Iterable[dict[str, Any]], key: Callable[[dict[str, Any]], tuple[int, int]]
) -> Iterator[list[dict[str, Any]]]:
    """Collect images of one key, a limited number at a time."""
    groups: dict[tuple[int, int], list[dict[str, Any]]] = {}
    for image in images:
        group = groups.setdefault(key(image), [])
        group.append(image)
        if len(group) == _CHECKED_TOGETHER:
            yield groups.pop(key(image))
    yield from groups.values()


def _is_mask(value: Any, valid: Tensor) -> bool:
    return isinstance(value, Tensor) and value.dtype == torch.bool and value.shape == valid.shape
