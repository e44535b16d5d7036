"""Batches on their way to the device: they travel small, each once, and are what modules expect when they are there."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from weakseg_lightning.devices import in_unit_range

__all__ = ["BatchTransfer", "HostCopy", "decode_batch"]

Batch = dict[str, Any]


def decode_batch(batch: Batch) -> Batch:
    """Turn a batch as loaders give it out into what modules expect, on the device where it is.

    A data module does so to all batches of a Trainer; whoever iterates over its loaders without one calls this.

    Args:
        batch: what :func:`weakseg_lightning.data.collate` made; a decoded batch comes back unchanged.

    Returns:
        A new dict: ``image`` float32 ``(B, 3, H, W)`` RGB in 0..1, or C channels as they came;
        ``seeds`` and ``mask`` int64 ``(B, H, W)``, 255 =
        none; ``next_batch``, where there is one, the same; all else as it was.

    Example:
        >>> small = {"image": torch.tensor([[[[51]]] * 3], dtype=torch.uint8), "id": ["a"]}
        >>> decode_batch(small)["image"].flatten(), decode_batch(small)["id"]
        (tensor([0.2000, 0.2000, 0.2000]), ['a'])
    """
    decoded = dict(batch)
    if "image" in batch:
        decoded["image"] = in_unit_range(batch["image"])
    for name in ("seeds", "mask"):
        if name in batch:
            decoded[name] = batch[name].to(torch.int64)
    if "next_batch" in batch:
        decoded["next_batch"] = decode_batch(batch["next_batch"])
    return decoded


class HostCopy:
    """The copy that the CPU has of a tensor of a batch.

    Args:
        moved: the tensor on the device.
        copy: the same on the CPU.
    """

    def __init__(self, moved: Tensor, copy: Tensor) -> None:
        self._moved, self._version, self._copy = moved, moved._version, copy

    def of(self, tensor: Tensor) -> Tensor:
        """Return the copy of a tensor, or itself where it is another or was changed, as by a hook."""
        return self._copy if tensor is self._moved and tensor._version == self._version else tensor


class BatchTransfer:
    """Moves each batch to the device once, although one that is looked ahead to comes twice.

    It comes as ``next_batch`` of the batch before, then by itself. The second time what was moved the first time takes
    its place; it is known by its images, which the loader hands out as the same tensor both times. Where they are not,
    after a restart or behind hooks that make new ones, the batch is moved again, which costs time alone.
    """

    def __init__(self) -> None:
        self._ahead: tuple[Tensor, Batch] | None = None

    def __call__(self, batch: Batch, move: Callable[[Batch], Batch]) -> Batch:
        """Move a batch, and the one that it holds as ``next_batch``.

        Args:
            batch: the batch as the loader gives it out.
            move: moves one that holds no other.

        Returns:
            A new dict.
        """
        if self._ahead is not None and batch["image"] is self._ahead[0]:
            moved, self._ahead = self._ahead[1], None
        else:
            moved = move({name: value for name, value in batch.items() if name != "next_batch"})
        if "next_batch" not in batch:
            return moved
        next_batch = move(batch["next_batch"])
        self._ahead = batch["next_batch"]["image"], next_batch
        return moved | {"next_batch": dict(next_batch)}  # a copy: what a module puts into it is not the next batch's

    def forget(self) -> None:
        """Let go of the batch that is kept, at the end of a run."""
        self._ahead = None
