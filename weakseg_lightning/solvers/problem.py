"""Arguments of `Solver.solve` besides scores and image: seeds, label sets, padding, checked, with their defaults."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Self

import torch
from torch import Tensor

from weakseg_lightning._native import _core
from weakseg_lightning.devices import to_device, to_host, works_aside
from weakseg_lightning.energies.potts import VOID
from weakseg_lightning.solvers.arguments import as_bytes, check_logits, check_tensor

IMPOSSIBLE = -1e4  # a score, in place of minus infinity, of which differences can be taken
Start = Literal["coarse", "argmin", "zeros", "initial"]


class SeedsOutsideError(Exception):
    """Seeds have labels outside the label set, or none that exist: `check_problem` wants the label set beside them."""


@dataclass(frozen=True)
class Problem:
    """The arguments of `Solver.solve` besides scores and image, checked.

    Args:
        seeds: uint8 ``(B, H, W)``, 255 where the pixel is free.
        allowed: bool ``(B, K)``: the label set and the labels of the seeds.
        valid: bool ``(B, H, W)``, False on padding.
        initial: uint8 ``(B, H, W)``, 255 where no label is given; None = no labeling to start from.
        known: ``allowed`` on the CPU.
        allowed_at: bool ``(B, K, H, W)``, the labels of each pixel; None = all that are allowed.
        seeds_unseen: True where the scores are on another device, and the label set, which was on the CPU, was taken
            as it is: ``allowed`` is on the CPU, too, and `require_known` is to be called with the seeds once they are.
    """

    seeds: Tensor
    allowed: Tensor
    valid: Tensor
    initial: Tensor | None
    known: Tensor
    allowed_at: Tensor | None = None
    seeds_unseen: bool = False

    def require_known(self, seeds: Tensor, valid: Tensor) -> None:
        """Raise `SeedsOutsideError` if seeds that were not looked at before have other labels than the label set.

        Args:
            seeds: ``seeds`` on the CPU.
            valid: ``valid`` on the CPU.
        """
        if not self.seeds_unseen:
            return
        wrong = _outside(seeds, self.known.shape[1]).any()  # on padding, too
        if wrong or (_labels_of(seeds, valid, self.known.shape[1]) & ~self.known).any():
            raise SeedsOutsideError

    def start(self, kind: Start = "argmin") -> Tensor:
        """Return the labeling to start from: ``initial``, else that of a kind.

        Args:
            kind: the labeling in place of ``initial``; ``initial`` demands that it is given.

        Returns:
            uint8 ``(B, H, W)``, 255 where the solver is to choose.

        Raises:
            ValueError: if no labeling is given, but demanded.
        """
        if self.initial is not None:
            return self.initial
        if kind == "initial":
            raise ValueError(
                "`initial` must be passed where `start` is 'initial', got None: pass a labeling to start from"
            )
        return torch.full_like(self.seeds, 0 if kind == "zeros" else VOID)

    def restricted(self, scores: Tensor) -> Tensor:
        """Return scores ``(B, K, H, W)`` in which labels that a pixel may not have are as good as impossible.

        A seed may have its own, whatever the set says.
        """
        if self.allowed_at is None:
            return scores
        labels = torch.arange(scores.shape[1], dtype=torch.uint8, device=scores.device)
        usable = self.allowed_at | (self.seeds[:, None] == labels[:, None, None])
        best = scores.masked_fill(~usable, -torch.inf).amax(1, keepdim=True)  # which a softmax does not see
        return (scores - best.nan_to_num(neginf=0)).masked_fill(~usable, IMPOSSIBLE)

    def forbidden(self, labels: Tensor) -> Tensor | None:
        """Find the pixels of a labeling ``(B, H, W)`` that have a label which they may not have; None without sets."""
        if self.allowed_at is None:
            return None
        named = labels.long().clamp(max=self.allowed_at.shape[1] - 1)
        outside = ~self.allowed_at.gather(1, named[:, None])[:, 0]
        return outside & self.valid & (self.seeds == VOID) & (labels != VOID)

    def map(self, move: Callable[[Tensor], Tensor]) -> Self:
        """Return the problem with each of its tensors replaced."""
        initial, allowed_at = (None if each is None else move(each) for each in (self.initial, self.allowed_at))
        required = (move(self.seeds), move(self.allowed), move(self.valid))
        return type(self)(*required, initial, move(self.known), allowed_at)


def check_problem(
    logits: Tensor,
    image: Tensor,
    seeds: Tensor | None,
    label_set: Tensor | None,
    valid: Tensor | None,
    initial: Tensor | None = None,
    sets_on_host: bool = False,
) -> Problem:
    """Check the arguments of `Solver.solve` and fill in those that are None.

    Args:
        logits: see there.
        image: see there.
        seeds: see there.
        label_set: see there.
        valid: see there.
        initial: see there.
        sets_on_host: whether the label set may be on the CPU, so that seeds may be unseen (`Problem.seeds_unseen`).

    Raises:
        ValueError: if they do not fit together, or an image may use no label.
    """
    check_logits(logits)
    batch, classes, *size = logits.shape
    plane, device = (batch, *size), logits.device
    check_tensor("image", image, "float", (batch, image.shape[1] if image.ndim == 4 else 3, *size), device)
    if valid is None:
        valid = torch.ones(plane, dtype=torch.bool, device=device)
    check_tensor("valid", valid, "bool", plane, device)
    if label_set is not None and sets_on_host:
        if seeds is not None and initial is None and _is_told_ahead(label_set, logits):
            return _told_ahead(logits, label_set, seeds, valid)
        label_set = to_device(label_set, device)
    if label_set is None:
        label_set = torch.ones((batch, classes), dtype=torch.bool, device=device)
    per_pixel = label_set.ndim == 4
    check_tensor("label_set", label_set, "bool", (batch, classes, *size) if per_pixel else (batch, classes), device)
    allowed_at = label_set if per_pixel else None
    if allowed_at is not None:
        label_set = (allowed_at & valid[:, None]).flatten(2).any(2) | ~valid.flatten(1).any(1, keepdim=True)
    given = {name: labels for name, labels in (("initial", initial), ("seeds", seeds)) if labels is not None}
    narrow = {name: _narrowed(name, labels, logits) for name, labels in given.items()}
    if seeds is None:
        known_seeds, allowed = torch.full(plane, VOID, dtype=torch.uint8, device=device), label_set
    else:
        known_seeds = narrow["seeds"][0]
        allowed = label_set | _labels_of(known_seeds, valid, classes)
    bare = None if allowed_at is None else (valid & (known_seeds == VOID) & ~allowed_at.any(1)).flatten(1).any(1)
    # All values at once, so that a device is waited for once.
    outside = [outside.any() for _, outside in narrow.values()]
    known, *wrong = to_host(allowed, *outside, *([] if bare is None else [bare]))
    for name, found in zip(narrow, wrong, strict=False):
        if found:
            raise _wrong_labels(name, given[name], classes)
    _check_allowed(known)
    if bare is not None and wrong[-1].any():
        images = wrong[-1].nonzero().flatten().tolist()
        raise ValueError(
            f"`label_set` must allow at least one class at each valid pixel without a seed; in images {images} of the "
            "batch some have none: allow the background there, or make them not `valid`"
        )
    start = narrow["initial"][0] if "initial" in narrow else None
    return Problem(known_seeds, allowed, valid, start, known, allowed_at)


def _is_told_ahead(label_set: Tensor, logits: Tensor) -> bool:
    """Tell if the CPU knows the labels that count, without waiting for the device that the scores are on."""
    here = label_set.ndim == 2 and label_set.device.type == "cpu"
    return here and works_aside(logits.device) and logits.shape[1] < VOID


def _told_ahead(logits: Tensor, label_set: Tensor, seeds: Tensor, valid: Tensor) -> Problem:
    """The problem with the label set as it is; seeds that are no label get one that is in none."""
    batch, classes, *size = logits.shape
    check_tensor("label_set", label_set, "bool", (batch, classes))
    check_tensor("seeds", seeds, "integer", (batch, *size), logits.device)
    _check_allowed(label_set)
    narrow = torch.where(_outside(seeds, classes), classes, seeds).to(torch.uint8)
    return Problem(narrow, label_set, valid, None, label_set, seeds_unseen=True)


def check_labels(name: str, labels: Tensor, logits: Tensor) -> Tensor:
    """Check a map of classes and 255.

    Args:
        name: the argument in error messages.
        labels: what was given.
        logits: ``(B, K, H, W)``.

    Returns:
        The map as uint8.

    Raises:
        ValueError: if it is no integer ``(B, H, W)`` on the logits' device, or holds anything but classes and 255.
    """
    narrow, wrong = _narrowed(name, labels, logits)
    if wrong.any():
        raise _wrong_labels(name, labels, logits.shape[1])
    return narrow


def _narrowed(name: str, labels: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
    """The map as uint8, and bool, of any shape, true where a value is neither a class nor 255."""
    shape = (logits.shape[0], *logits.shape[2:])
    check_tensor(name, labels, "integer", shape, logits.device)
    if labels.device.type == "cpu" and labels.dtype in (torch.uint8, torch.int32, torch.int64):
        narrow = torch.empty(shape, dtype=torch.uint8)
        if _core.read_labels(labels.contiguous().numpy(), logits.shape[1], narrow.numpy()):
            return narrow, torch.tensor(False)
    return labels.to(torch.uint8), _outside(labels, logits.shape[1])


def _outside(labels: Tensor, classes: int) -> Tensor:
    return (labels != VOID) & ((labels < 0) | (labels >= classes))


def _wrong_labels(name: str, labels: Tensor, classes: int) -> ValueError:
    first = int(labels[_outside(labels, classes)][0])
    return ValueError(f"`{name}` must hold classes 0..{classes - 1} or {VOID}, got {first}")


def _labels_of(seeds: Tensor, valid: Tensor, classes: int) -> Tensor:
    """The classes that occur among the seeds, bool ``(B, K)``."""
    if seeds.device.type == "cpu":
        named = torch.zeros((seeds.shape[0], VOID + 1), dtype=torch.bool)
        _core.find_labels(seeds.numpy(), as_bytes(valid), named.view(torch.uint8).numpy())
        return named[:, :classes]
    present = torch.zeros((seeds.shape[0], classes + 1), dtype=torch.bool, device=seeds.device)
    index = torch.where(valid & (seeds != VOID), seeds.long(), classes).clamp(max=classes)  # others are an error soon
    return present.scatter_(1, index.flatten(1), True)[:, :classes]


def _check_allowed(allowed: Tensor) -> None:
    empty = (~allowed.any(1)).nonzero().flatten().tolist()
    if empty:
        raise ValueError(
            f"`label_set` must allow at least one class for each image; images {empty} of the batch have none and no "
            "seeds either: allow the background, or pass None to allow all classes"
        )
