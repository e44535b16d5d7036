"""Maps of a frozen encoder: each computed once, kept in memory and on disk."""

import warnings
import zlib
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from threading import Lock
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from weakseg_lightning.checks import at_least
from weakseg_lightning.files import replacing

_GIGABYTE = 2**30


def digest_of(tensors: Mapping[str, Tensor], algorithm: Any = None) -> str:
    """Name for tensors: equal content, equal name; by an algorithm of hashlib, None = BLAKE2b of 12 bytes."""
    digest = blake2b(digest_size=12) if algorithm is None else algorithm()
    for name, tensor in tensors.items():
        digest.update(name.encode())
        digest.update(_bytes_of(tensor))
    return str(digest.hexdigest())


class FeatureCache:
    """Features by the content of the image and the weights of the encoder.

    An entry is found again in whatever order, epoch, process or run the same pixels meet the same weights; one that is
    damaged is computed and written again. Ranks and runs may share a folder.

    Args:
        folder: folder on disk, for the next run and what does not fit into memory; null = memory alone.
        memory: gigabytes to keep in memory per process; the entries used longest ago go first.
        disk: gigabytes that this process writes into ``folder`` at most; entries that do not fit are computed each
            time.

    Raises:
        ValueError: if a number is negative.
    """

    def __init__(self, folder: str | None = None, memory: float = 1.0, disk: float = 10.0) -> None:
        at_least("memory", memory, 0)
        at_least("disk", disk, 0)
        self.folder = folder
        self.memory = memory
        self.disk = disk
        self._kept: OrderedDict[str, list[Tensor]] = OrderedDict()
        self._kept_bytes = self._written_bytes = 0
        self._writes, self._is_told = folder is not None, False
        self._lock = Lock()

    def get(self, key: str, compute: Callable[[], Sequence[Tensor]]) -> list[Tensor]:
        """Find features, or compute them.

        Args:
            key: name of their content; a ``/`` makes a folder.
            compute: makes them.

        Returns:
            The features, on the CPU.
        """
        found = self._recall(key)
        if found is None:
            found = self._read(key)
            if found is None:
                found = [features.cpu() for features in compute()]
                self._write(key, found)
            self._remember(key, found)
        return found

    def _recall(self, key: str) -> list[Tensor] | None:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def _remember(self, key: str, maps: list[Tensor]) -> None:
        with self._lock:
            if key not in self._kept:
                self._kept[key] = maps
                self._kept_bytes += _size(maps)
            while self._kept and self._kept_bytes > self.memory * _GIGABYTE:
                self._kept_bytes -= _size(self._kept.popitem(last=False)[1])

    def _path(self, key: str) -> Path | None:
        return None if self.folder is None else Path(self.folder).expanduser() / f"{key}.safetensors"

    def _read(self, key: str) -> list[Tensor] | None:
        path = self._path(key)
        if path is None or not path.is_file():
            return None
        try:
            with safe_open(path, "pt") as file:
                maps = [file.get_tensor(str(number)) for number in range(len(file.keys()))]
                return maps if file.metadata().get("crc32") == _checksum(maps) else None
        except (SafetensorError, OSError, AttributeError):  # damaged, or gone: computed again
            return None

    def _write(self, key: str, maps: list[Tensor]) -> None:
        path = self._path(key)
        if path is None or not self._writes or not self._takes(_size(maps)):
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as unfinished:
                named = {str(number): features.contiguous() for number, features in enumerate(maps)}
                save_file(named, unfinished, {"crc32": _checksum(maps)})
        except OSError as error:
            self._writes = False
            warnings.warn(f"features are not kept on disk: {error}", stacklevel=2)

    def _takes(self, size: int) -> bool:
        """Count an entry as written if it fits; warn of the first that does not."""
        with self._lock:
            fits = self._written_bytes + size <= self.disk * _GIGABYTE
            self._written_bytes += size if fits else 0
            tells = not (fits or self._is_told)
            self._is_told |= tells
        if tells:
            warnings.warn(
                f"not all features fit into the `disk: {self.disk:g}` GB of {self.folder}, the others are computed "
                "each time; random crops and scales never repeat: train on whole images "
                "(`scale_range: [1, 1]`, `crop_size` no smaller than they are), or raise `disk`",
                stacklevel=2,
            )
        return fits

    def __deepcopy__(self, memo: object) -> "FeatureCache":
        """A copy of the network shares the features."""
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder, "memory": self.memory, "disk": self.disk}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]


def _bytes_of(tensor: Tensor) -> memoryview:
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data


def _size(maps: Sequence[Tensor]) -> int:
    return sum(features.nbytes for features in maps)


def _checksum(maps: Sequence[Tensor]) -> str:
    total = 0
    for features in maps:
        total = zlib.crc32(_bytes_of(features), total)
    return str(total)
