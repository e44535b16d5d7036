"""A latent labeling of each batch by a solver for the pixel grid: of its pixels, or of the cells of a coarse map."""

from abc import abstractmethod
from typing import Any, Generic, Literal, cast, get_args

from torch import Tensor
from torch.nn import functional as F
from typing_extensions import override

from weakseg_lightning import checks
from weakseg_lightning.energies.potts import VOID
from weakseg_lightning.losses import partial_cross_entropy
from weakseg_lightning.modules.core.base import Batch
from weakseg_lightning.modules.core.guides import guide_of
from weakseg_lightning.modules.core.latent import LatentModule, Result
from weakseg_lightning.modules.core.preparing import WholeImages
from weakseg_lightning.networks import Network

LabelSource = Literal["seeds", "tags", "all"]
LatentPixels = Literal["unlabelled", "all"]
LatentGrid = Literal["image", "map"]


class BatchLatentModule(LatentModule[Result], Generic[Result]):
    """A method that follows the seeds, and a latent labeling elsewhere, which is found for each batch.

    Subclasses write :meth:`latent_term`, and have a ``solver``.

    Args:
        network: the network to build.
        num_classes: classes K, background included; taken from the data.
        labels: the labels that an image may use: those of its ``seeds``, its ``tags``, or ``all``. The set belongs to
            the whole image, not the crop, and holds the background; with fewer than two labels it is ``all``.
        hard_seeds: whether the solver must keep the seeds' labels.
        latent_pixels: the pixels that follow the latent labeling: those ``unlabelled`` by seeds or ``all``.
        latent_grid: what is labeled and compared in the second phase: the pixels of the ``image``, or the cells of the
            network's coarse ``map``, in a fraction of the time; a cell has the seed that most of its pixels have.
        pce_fraction: fraction of the run's iterations that train with partial cross-entropy alone, in 0..1.
        base: those of :class:`LatentModule`.
    """

    solver: Any

    def __init__(
        self,
        network: Network,
        num_classes: int,
        labels: LabelSource = "seeds",
        hard_seeds: bool = True,
        latent_pixels: LatentPixels = "unlabelled",
        latent_grid: LatentGrid = "image",
        pce_fraction: float = 0.5,
        **base: Any,
    ) -> None:
        super().__init__(network, num_classes, pce_fraction=pce_fraction, **base)
        checks.one_of("labels", labels, get_args(LabelSource))
        checks.one_of("latent_pixels", latent_pixels, get_args(LatentPixels))
        checks.one_of("latent_grid", latent_grid, get_args(LatentGrid))
        self.labels = labels
        self.hard_seeds = hard_seeds
        self.latent_pixels = latent_pixels
        self.latent_grid = latent_grid

    @abstractmethod
    def latent_term(self, logits: Tensor, latent: Result, pixels: Tensor) -> Tensor:
        """Compute the weighted loss towards the latent labeling.

        Args:
            logits: scores with gradient, ``(B, K, H, W)``.
            latent: what the solver returned.
            pixels: bool ``(B, H, W)``, those that follow it.

        Returns:
            A scalar.
        """

    @override
    def score(self, images: Tensor) -> Tensor:
        return super().score(images) if self.latent_grid == "image" else self.net.coarse_logits(images)

    def _on_grid(self, batch: Batch) -> Batch:
        """The batch as it is on the grid of the latent labeling."""
        if self.latent_grid == "image":
            return batch
        grid = self.net.coarse_grid()
        size = grid.size(*batch["image"].shape[-2:])
        guide = {"guide": grid.maxima_of(batch["guide"].float())} if "guide" in batch else {}
        return {
            **batch,
            **guide,
            "image": F.interpolate(batch["image"], size=size, mode="bilinear", antialias=True),
            "seeds": grid.labels_of(batch["seeds"], self.num_classes),
            "valid": grid.cells_of(batch["valid"]),
        }

    @override
    def labels_whole_images(self) -> WholeImages:
        return self

    @override
    def solve_latent(self, logits: Tensor, batch: Batch) -> Result:
        """Minimize the solver's energy for each image."""
        batch = self._on_grid(batch)
        seeds = batch["seeds"] if self.hard_seeds else None
        allowed = allowed_labels(batch, self.labels, getattr(self.solver, "label_set_on_host", False))
        image = guide_of(self.solver, batch)
        found = self.solver.solve(logits, image, seeds=seeds, label_set=allowed, valid=batch["valid"])
        return cast(Result, found)

    @override
    def latent_loss(self, logits: Tensor, latent: Result, batch: Batch) -> dict[str, Tensor]:
        """Compute the terms of the seeds and of the other pixels."""
        batch = self._on_grid(batch)
        unlabelled = batch["seeds"] == VOID
        pixels = batch["valid"] & unlabelled if self.latent_pixels == "unlabelled" else batch["valid"]
        return {
            "pce": partial_cross_entropy(logits, batch["seeds"]),
            "latent": self.latent_term(logits, latent, pixels),
        }


def allowed_labels(batch: Batch, source: LabelSource, on_host: bool = False) -> Tensor | None:
    """Find the labels that each image of a batch may use.

    Args:
        batch: the batch, with the label sets of the whole images (``seed_labels`` or ``tags``).
        source: which of the sets; ``all`` restricts nothing.
        on_host: return it on the CPU, where the data left copies there (``on_host`` of the batch).

    Returns:
        bool ``(B, K)``, or None without restriction. A set of fewer than two labels would flood the image with one
        class: it becomes all labels.
    """
    if source == "all":
        return None
    name = "seed_labels" if source == "seeds" else "tags"
    copies = batch.get("on_host", {}) if on_host else {}
    allowed: Tensor = copies[name].of(batch[name]) if name in copies else batch[name]
    return allowed | (allowed.sum(1, keepdim=True) < 2)
