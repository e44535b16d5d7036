"""The adaptive bias of EM-Adapt: hard labels, after each class has been given its fraction of the image."""

from dataclasses import dataclass

import torch
from torch import Tensor
from typing_extensions import override

from weakseg_lightning.checks import above, at_least, between
from weakseg_lightning.constraints import LinearConstraints
from weakseg_lightning.devices import to_host, works_aside
from weakseg_lightning.solvers.base import DistributionResult, DistributionSolver
from weakseg_lightning.solvers.constrained.solver import NOT_FINITE


@dataclass(frozen=True)
class AdaptiveBias(DistributionSolver):
    """Labels ``X_p = argmax_l f_p(l) + b_l`` over the classes of the image, each b_l just large enough for l's part.

    The background (class 0) is to take at least ``background`` of an image's valid pixels, each other class that is
    allowed in it at least ``foreground``. Biases start at 0 and only rise. A round visits the background, then the
    other classes by rising number; a class that lacks pixels takes those that need the smallest bias (of equals the
    first, row by row), wherever they are, which may make others lack pixels. Rounds end when no class lacks any.

    This is an auction, so that the end is near the best: no bias tells the labels apart by more than ``tolerance``
    times the spread of the image's scores, and of all labelings with these fractions X has the greatest sum of scores,
    up to that much per pixel. Fractions that add up to more than the whole image are scaled down together, as no
    labeling reaches them. (The official code makes a few rounds, in random order, that reach the fractions
    approximately, and scales nothing.)

    It solves suppression and these fractions, nothing else: active rows of the constraints are an error. P is one-hot.
    In the result, ``duals`` are the biases and ``violation`` is how far each class is from its fraction, ``(B, K)``
    both; ``evaluations`` counts rounds, and ``residual`` is nan. Random maps of 41 x 41 cells took 1 to 6 rounds with 2
    foreground classes, 1 to 24 with 6.

    Args:
        foreground: least fraction of each allowed class other than the background, 0..1 (rho_fg).
        background: least fraction of the background, 0..1 (rho_bg).
        rounds: most rounds, at least 1; an image that needs more is said not to have converged.
        tolerance: least rise of a bias, as a fraction of the spread of the image's scores, above 0; smaller is closer
            to the best labeling, and slower.

    Raises:
        ValueError: if an argument is out of range.

    References:
        Papandreou, Chen, Murphy, Yuille: Weakly- and Semi-Supervised Learning of a Deep Convolutional Network for
        Semantic Image Segmentation, ICCV 2015, section 3.2 (EM-Adapt).
        Bertsekas: The auction algorithm, Annals of Operations Research 14, 1988.
    """

    foreground: float = 0.2
    background: float = 0.4
    rounds: int = 500
    tolerance: float = 0.01

    def __post_init__(self) -> None:
        """Check the arguments."""
        between("foreground", self.foreground, 0, 1)
        between("background", self.background, 0, 1)
        at_least("rounds", self.rounds, 1)
        above("tolerance", self.tolerance, 0)

    @override
    def _solve(self, scores: Tensor, constraints: LinearConstraints, valid: Tensor | None) -> DistributionResult:
        """Label each image of a batch.

        Raises:
            ValueError: if an image has active rows.
        """
        _check_rows(constraints.on_host)
        shape = scores.shape
        if valid is None:
            valid = scores.new_ones(shape[0], *shape[2:], dtype=torch.bool)
        sound = scores.masked_fill(~valid[:, None], 0).isfinite().flatten(1).all(1)
        scores = torch.where(sound[:, None, None, None], scores, 0)
        scores = _allowed_scores(scores, constraints, valid)
        wanted = self._pixels_wanted(constraints.allowed, valid.sum((1, 2)))
        labels, biases, rounds = self._bid(scores, wanted)
        told = (valid & sound[:, None, None]).flatten(1)
        one_hot = torch.zeros_like(scores).scatter_(1, labels[:, None], 1.0) * told[:, None]
        taken = one_hot.sum(2)
        missing = (wanted - taken).clamp(min=0) / valid.sum((1, 2)).clamp(min=1)[:, None]
        missing_here, rounds, sound = to_host(missing, rounds, sound)
        messages = (self._message(row.tolist(), constraints.class_names) for row in missing_here)
        return DistributionResult(
            probabilities=one_hot.view(shape).float(),
            duals=biases.float(),
            residual=torch.full_like(biases[:, 0], torch.nan).float(),
            violation=missing.float(),
            evaluations=rounds,
            converged=(missing_here == 0).all(1) & sound,
            message=tuple(text if good else NOT_FINITE for text, good in zip(messages, sound.tolist(), strict=True)),
        )

    def _pixels_wanted(self, allowed: Tensor, pixels: Tensor) -> Tensor:
        """Least number of pixels of each class, float64 ``(B, K)``."""
        fractions = torch.where(allowed, self.foreground, 0.0).double()
        fractions[:, 0] = torch.where(allowed[:, 0], self.background, 0.0)
        exact = fractions * pixels[:, None]
        # 0.2 of 5 pixels is 1 pixel, whatever binary fractions make of it
        wanted = (exact - 1e-6).clamp(min=0).ceil()
        scaled = (exact / fractions.sum(1, keepdim=True).clamp(min=1) + 1e-6).floor()
        return torch.where(wanted.sum(1, keepdim=True) <= pixels[:, None], wanted, scaled)

    def _bid(self, scores: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Labels ``(B, N)``, biases ``(B, K)``, and the number of rounds that each image took ``(B,)``."""
        owner, biases = scores.argmax(1), torch.zeros_like(wanted)
        rounds = torch.zeros(len(scores), dtype=torch.int64, device=scores.device)
        step = self.tolerance * _spread(scores)
        (here,) = to_host(wanted)
        classes = here.any(0).nonzero().flatten().tolist()
        # Rounds after the end change nothing, but the CPU has to wait for a device that works aside to know.
        rounds_between_checks = 4 if works_aside(scores.device) else 1
        for number in range(1, self.rounds + 1):
            bidding = torch.zeros_like(rounds, dtype=torch.bool)
            for label in classes:
                owner, biases, bid = _claim(label, owner, biases, scores, wanted[:, label], step)
                bidding |= bid
            rounds += bidding
            if number % rounds_between_checks == 0 and not bidding.any():
                break
        return owner, biases, rounds

    def _message(self, missing: list[float], class_names: tuple[str, ...]) -> str:
        """The classes that lack pixels in one image, and how many; empty where none does."""
        lacking = [label for label, fraction in enumerate(missing) if fraction > 0]
        if not lacking:
            return ""
        names = ", ".join(class_names[label] if class_names else f"class {label}" for label in lacking)
        lack = ", ".join(f"{missing[label]:.3g}" for label in lacking)
        return f"{names}: {lack} of the image less than wanted after {self.rounds} rounds; raise `rounds`"


def _claim(
    label: int, owner: Tensor, biases: Tensor, scores: Tensor, wanted: Tensor, step: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Let one class take the pixels that it lacks in each image.

    Args:
        label: the class.
        owner: classes of the pixels, int64 ``(B, N)``.
        biases: ``(B, K)``.
        scores: ``(B, K, N)``, -inf where a pixel may not be of a class.
        wanted: number of pixels that the class wants, ``(B,)``.
        step: how far a bias rises beyond the price of the dearest pixel taken, ``(B,)``.

    Returns:
        The new owners and biases, and whether the class took pixels, bool ``(B,)``.
    """
    open_to_it = scores[:, label].isfinite()
    others = open_to_it & (owner != label)
    price = scores.gather(1, owner[:, None])[:, 0] + biases.gather(1, owner) - scores[:, label]
    price, order = price.masked_fill(~others, torch.inf).sort(dim=1, stable=True)
    lacking = wanted - (open_to_it & ~others).sum(1)
    lacking = lacking.minimum(others.sum(1)).clamp(min=0).long()
    taken = torch.arange(owner.shape[1], device=owner.device) < lacking[:, None]
    owner = owner.where(~torch.zeros_like(taken).scatter_(1, order, taken), label)
    dearest = price.gather(1, (lacking - 1).clamp(min=0)[:, None])[:, 0] + step
    risen = torch.where(lacking > 0, dearest.maximum(biases[:, label]), biases[:, label])
    biases = biases.clone()
    biases[:, label] = risen
    return owner, biases, lacking > 0


def _spread(scores: Tensor) -> Tensor:
    """Difference between the highest and the lowest allowed score of each image, ``(B,)``; 1 where there is none."""
    allowed = scores.isfinite()
    highest = scores.masked_fill(~allowed, -torch.inf).amax((1, 2))
    lowest = scores.masked_fill(~allowed, torch.inf).amin((1, 2))
    return torch.where(highest > lowest, highest - lowest, 1.0)


def _allowed_scores(logits: Tensor, constraints: LinearConstraints, valid: Tensor) -> Tensor:
    """Scores in double precision, ``(B, K, H W)``; -inf for classes that a pixel may not take, and on padding."""
    may = constraints.allowed[:, :, None, None].expand(logits.shape)
    if constraints.allowed_at is not None:
        may = may & constraints.allowed_at
    background = torch.arange(logits.shape[1], device=logits.device) == 0
    may = may | (~may.any(1, keepdim=True) & background[:, None, None])
    return logits.double().masked_fill(~(may & valid[:, None]), -torch.inf).flatten(2)


def _check_rows(constraints: LinearConstraints) -> None:
    """Raise for rows, which a bias for each class cannot solve."""
    active = constraints.active.nonzero()
    if len(active):
        row = constraints.name(int(active[0, 0]), int(active[0, 1]))
        raise ValueError(
            f"`constraints`: AdaptiveBias solves for its own fractions (`foreground`, `background`) and takes no other "
            f"constraints than which classes are allowed, got {row!r}; leave Suppression alone in the list, or use "
            "ConstrainedLatent"
        )
