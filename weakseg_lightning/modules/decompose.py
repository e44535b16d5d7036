"""Weak segmentation by reconstruction from a structured decomposition of the image."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from typing_extensions import override

from weakseg_lightning import checks
from weakseg_lightning.constraints.arguments import class_index
from weakseg_lightning.errors import UserError
from weakseg_lightning.hyperparameters import describe
from weakseg_lightning.losses.area_priors import AreaPrior
from weakseg_lightning.losses.decomposition import (
    Variant,
    absence_loss,
    imagelet_loss,
    mask_loss,
    reconstruction_loss,
)
from weakseg_lightning.modules.core.base import Batch
from weakseg_lightning.modules.core.optimization import Optimizer
from weakseg_lightning.modules.frozen import Frozen, load_classifier
from weakseg_lightning.modules.tagged import ADAM, TaggedModule
from weakseg_lightning.networks.decomposition import DecompositionNet, DecompositionNetwork
from weakseg_lightning.networks.tags import TagNet, TagNetwork


@dataclass(frozen=True)
class AbsencePenalty:
    """Against masks of absent classes on what often comes with them (people beside dogs).

    Adds :func:`weakseg_lightning.losses.absence_loss`, cross-entropy at each pixel with the absence of the classes that
    an image is not tagged with; images that show what is confused with a class count more.

    Args:
        weight: weight of the loss; 0 = none, as in the report.
        confusing_classes: classes by name or index; images tagged with one of them count ``factor`` times.
        confusing_images: names of images, ``*`` stands for anything (``cat*``); they count ``factor`` times, too.
        factor: see these two.
    """

    weight: float = 0.0
    confusing_classes: list[str | int] = field(default_factory=list)
    confusing_images: list[str] = field(default_factory=list)
    factor: float = 1.0

    def __post_init__(self) -> None:
        """Raise if it would reward false positives."""
        checks.finite_at_least("weight", self.weight, 0)
        checks.finite_at_least("factor", self.factor, 0)

    def weights(self, ids: Sequence[str], tags: Tensor, class_names: Sequence[str]) -> Tensor:
        """Weight of each image, float ``(B,)``.

        Raises:
            ValueError: if a confusing class is not among the names.
        """
        shown = tags[:, self.columns(class_names)].any(1)
        named = [any(fnmatchcase(name, pattern) for pattern in self.confusing_images) for name in ids]
        confusing = shown | torch.tensor(named, device=tags.device)
        return self.weight * torch.where(confusing, self.factor, 1.0)

    def columns(self, class_names: Sequence[str]) -> list[int]:
        """Indices of the confusing classes.

        Raises:
            ValueError: if one is not among the names.
        """
        return [class_index(name, class_names, "`confusing_classes`") for name in self.confusing_classes]


class DecomposeReconstructModule(TaggedModule):
    """Takes an image apart into one mask and one image per class, so that these put together are the image again.

    ``L = L_recon + lambda_m L_mask + lambda_c L_cls`` (eq. 7): the recomposed image is the image (eq. 2); the masks of
    the classes that are there take much of it, the others nothing (eq. 4); a classifier g, trained before and left as
    it is, sees in the part ``M_k X_k`` of class k that class and no other, and none in the background's (eq. 6). It
    needs no prior on the size of the background, and no pixel label.

    g comes from a run of :class:`TagClassifierModule`. It is in evaluation mode at all times and never learns.

    Three things go beyond the report, each with the report's setting as its default. ``classifier_input: input`` shows
    g the part ``M_k I`` of the image itself in place of ``M_k X_k``: per-class images can hide or paint objects, so
    that masks that are the same everywhere can satisfy g (with several classes they do), ``M_k I`` cannot.
    ``area_prior`` replaces the indicators of eq. 4 by believed areas. ``absence`` works against false positives.

    Args:
        network: the network f_m, f_x to build.
        num_classes: classes K, background included; taken from the data.
        classifier: the network of g, as its own run had it.
        classifier_checkpoint: checkpoint of that run; training needs it, and it is not needed again afterwards.
        variant: ``report``; or ``released``, the official code: the mask loss is not divided by K, g_k is pushed down
            on the per-class images of absent classes as well, and of g's K - 1 outputs the mean is taken, not the sum.
        recon_weight: weight of the reconstruction loss.
        mask_weight: lambda_m.
        cls_weight: lambda_c.
        classifier_input: parts that g sees: those of the per-class images (``imagelets``, the report) or of the image
            (``input``).
        asked_classes: ``all`` K parts of each image, or only the ``present`` classes' and the background's, which is
            what matters once absent classes have no mask, for less time where there are many classes.
        area_prior: believed areas of the classes for the mask loss; null for indicators.
        absence: penalty against masks of absent classes.
        encoder_from_classifier: begin with g's encoder, if the network has the same.
        optimizer: optimizer settings.
        base: those of :class:`TaggedModule`.

    References:
        Zeng: Weak Segmentation by Reconstruction from Structured Decomposition, project report, 2024.
    """

    net: DecompositionNet

    def __init__(
        self,
        network: DecompositionNetwork,
        num_classes: int,
        classifier: TagNetwork,
        classifier_checkpoint: str | None = None,
        variant: Variant = "report",
        recon_weight: float = 1.0,
        mask_weight: float = 1e-3,
        cls_weight: float = 1e-3,
        classifier_input: Literal["imagelets", "input"] = "imagelets",
        asked_classes: Literal["all", "present"] = "all",
        area_prior: AreaPrior | None = None,
        absence: AbsencePenalty = AbsencePenalty(),
        encoder_from_classifier: bool = False,
        optimizer: Optimizer = ADAM,
        **base: Any,
    ) -> None:
        super().__init__(network, num_classes, optimizer=optimizer, **base)
        checks.one_of("variant", variant, get_args(Variant))
        checks.one_of("classifier_input", classifier_input, ("imagelets", "input"))
        checks.one_of("asked_classes", asked_classes, ("all", "present"))
        for name, value in (("recon_weight", recon_weight), ("mask_weight", mask_weight), ("cls_weight", cls_weight)):
            checks.finite_at_least(name, value, 0)
        self.classifier = classifier
        self.classifier_checkpoint = classifier_checkpoint
        self.variant: Variant = variant
        self.recon_weight = recon_weight
        self.mask_weight = mask_weight
        self.cls_weight = cls_weight
        self.classifier_input = classifier_input
        self.asked_classes = asked_classes
        self.area_prior = area_prior
        self.absence = absence
        self.encoder_from_classifier = encoder_from_classifier
        self.g: Frozen[TagNet] = Frozen(classifier.build(num_classes))
        self._imagelets: Tensor | None = None

    @override
    def setup(self, stage: str) -> None:
        """Load g, begin with its encoder if that is asked for, and compare what names classes with the data."""
        if stage != "fit":
            super().setup(stage)
            return
        names = load_classifier(self.g.module, self.classifier, self.classifier_checkpoint, self.num_classes)
        if self.encoder_from_classifier:
            self._take_encoder()
        super().setup(stage)
        source = f"`classifier_checkpoint` {self.classifier_checkpoint}"
        self._require_same_classes(names, self.class_names, source)
        if self.absence.weight > 0:
            self.absence.columns(self.names_or_numbers)
        if self.area_prior is not None:
            self.area_prior.check(self.names_or_numbers)

    @override
    def training_logits(self, batch: Batch) -> Tensor:
        """Logits of the masks; the per-class images that come with them wait for the loss."""
        logits, self._imagelets = self.net.decompose(batch["image"])
        return logits

    @override
    def learned_outputs(self, images: Tensor) -> tuple[Tensor, ...]:
        """Masks and per-class images."""
        return self.net.decompose(images)

    @override
    def loss_terms(self, logits: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Reconstruction, mask and per-class image losses, weighted (eq. 7), and the penalty on absent classes."""
        imagelets, self._imagelets = self._imagelets, None
        if imagelets is None:
            raise RuntimeError("no per-class images: `training_logits` has to run before `loss_terms`")
        images, tags, valid = batch["image"], batch["tags"], batch["valid"]
        masks = logits.softmax(1)
        targets = tags if self.area_prior is None else self._believed_areas(self.area_prior, batch)
        terms = {
            "recon": self.recon_weight * reconstruction_loss(masks, imagelets, images, valid),
            "mask": self.mask_weight * mask_loss(masks, targets, valid, self.variant),
            "cls": self.cls_weight * self._imagelet_loss(masks, imagelets, batch),
        }
        if self.absence.weight > 0:
            weights = self.absence.weights(batch["id"], tags, self.names_or_numbers)
            terms["absence"] = absence_loss(masks, tags, valid, weights)
        return terms

    def _imagelet_loss(self, masks: Tensor, imagelets: Tensor, batch: Batch) -> Tensor:
        """Eq. 6: what g says of the part of each class."""
        tags = batch["tags"]
        shown = tags if self.asked_classes == "present" else torch.ones_like(tags)
        painted = imagelets if self.classifier_input == "imagelets" else batch["image"][:, None].expand_as(imagelets)
        images, classes = shown.nonzero(as_tuple=True)  # once: each time a GPU has to be waited for
        parts = (masks[:, :, None] * painted)[images, classes]
        scores = masks.new_zeros(*tags.shape, self.num_classes - 1)
        scores = scores.index_put((images, classes), self.g(parts, batch["valid"][images]).to(scores))
        return imagelet_loss(scores, tags, self.variant, shown)

    @torch.no_grad()
    def _believed_areas(self, prior: AreaPrior, batch: Batch) -> Tensor:
        maps = self.g.module.activation_maps(batch["image"])
        return prior.areas(batch["id"], self.names_or_numbers, batch["tags"], maps)

    def _take_encoder(self) -> None:
        ours = getattr(getattr(self.net, "model", None), "encoder", None)
        theirs = self.g.module.encoder
        shapes = [
            {name: value.shape for name, value in one.state_dict().items()} if isinstance(one, nn.Module) else {}
            for one in (ours, theirs)
        ]
        if shapes[0] != shapes[1]:
            raise UserError(
                "`encoder_from_classifier`: network and classifier have different encoders; give both the same one, "
                "as SMPDecomposition with the classifier's `encoder`, or set it to false"
            )
        nn.Module.load_state_dict(ours, theirs.state_dict())  # type: ignore[arg-type]

    @override
    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what rebuilds this module; g's weights are among the others."""
        super().on_save_checkpoint(checkpoint)
        kept = {"classifier": describe(self.classifier.without_weights()), "classifier_checkpoint": None}
        checkpoint["hyper_parameters"].update(kept)
