"""Labelings of training images, kept compressed between epochs, ranks and restarts.

Amortized methods solve for the latent labeling of an image once in a cycle of epochs and train on it for the rest of
the cycle. A cycle's labelings form a *generation*: its name is made of the network that they were solved with, so that
nothing that another network solved is ever taken for them. The last two generations are kept: the current one, and
the one before, from which solves start and which a run resumed from its last checkpoint may still need.
"""

import json
import struct
import warnings
import zlib
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import fsspec
import numpy as np
import torch
from numpy.typing import NDArray

from weakseg_lightning.errors import FileError, UserError

__all__ = ["LatentStore", "compress", "decompress"]

Labels = NDArray[np.uint8]
Reference = bytes | str | None

_HEADER = struct.Struct("<4sIIII")  # mark, height, width, checksums of what was solved and of the labels
_MARK = b"WSL2"
_MANIFEST = "store.json"
_LONGEST_NAME = 200


class LatentStore:
    """Labelings by image id, in memory or below a path.

    In memory, entries are exchanged between the ranks at the end of each epoch, and where a checkpoint is written, in
    which they travel. With a ``path`` they are files, written whole or not at all, which all ranks and restarts of a
    run share; the checkpoint then holds none. A labeling of an image takes one to ten kilobytes: above about a million
    images use a ``path``. Each knows by a checksum which image and annotation it was solved for: where they have
    changed, it does not count.

    Args:
        path: folder, or address of an object store (anything that fsspec opens, such as ``s3://bucket/run``), that all
            ranks can reach; None keeps the labelings in memory.

    Example:
        >>> store = LatentStore()
        >>> store.begin("first")
        >>> store.put("2007_000032", np.zeros((2, 3), dtype=np.uint8))
        >>> store.get("2007_000032").shape, store.get("another") is None
        ((2, 3), True)
    """

    def __init__(self, path: str | None = None) -> None:
        self.path = path
        self.enabled = False
        self.generations: list[str] = []
        self.settings: dict[str, Any] = {}
        self._entries: dict[str, dict[str, bytes]] = {}
        self._unshared: list[str] = []

    # ---- a run -------------------------------------------------------------------------------------------------

    def open(self, settings: dict[str, Any]) -> None:
        """Make sure that the path's labelings are of this network and energy; an empty path becomes theirs.

        Args:
            settings: what the labelings depend on besides the weights, as plain values.

        Raises:
            ValueError: if the path holds labelings of other settings.
            OSError: if the path cannot be read or written, or fsspec cannot open it.
        """
        self.settings = settings
        if self.path is None:
            return
        try:
            manifest = _manifest(self.path, settings)
        except Exception as error:  # object stores have exceptions of their own, which do not name the address
            raise FileError(f"`store.path`: {self.path} cannot be used: {error}") from error
        self._require_same(_parsed(manifest, self.path), f"the store in {self.path}")

    def begin(self, generation: str) -> None:
        """Start a generation, or go on with it; of the earlier ones all but the last are dropped."""
        if generation in self.generations[-1:]:
            return
        self.generations.append(generation)
        while len(self.generations) > 2:
            self._drop(self.generations.pop(0))

    # ---- labelings --------------------------------------------------------------------------------------------

    def put(self, image_id: str, labels: Labels, solved_for: int = 0) -> None:
        """Keep a labeling in the current generation; safe against other writers and a crash.

        Args:
            image_id: name of the image.
            labels: uint8 ``(H, W)``.
            solved_for: checksum of the image and its annotation, by
                :meth:`weakseg_lightning.data.dataset.Loaded.checksum`.
        """
        data, generation = compress(labels, solved_for), self.generations[-1]
        if self.path is None:
            self._entries.setdefault(generation, {})[image_id] = data
            self._unshared.append(image_id)
        else:
            files, folder = fsspec.url_to_fs(self.path)
            path = f"{folder}/{generation}/{_place(image_id)}"
            files.makedirs(path.rpartition("/")[0], exist_ok=True)
            _write(files, path, data)

    def get(self, image_id: str, solved_for: int | None = None, age: int = 0) -> Labels | None:
        """Find a labeling of the current generation (``age`` 0) or of the one before (1); None if there is none."""
        return self.resolve(self.reference(image_id, age), solved_for)

    def reference(self, image_id: str, age: int = 0) -> Reference:
        """Make what :meth:`resolve` turns into the labeling in another process: its bytes, or where they are."""
        if age >= len(self.generations):
            return None
        generation = self.generations[-1 - age]
        if self.path is None:
            return self._entries.get(generation, {}).get(image_id)
        return f"{self.path.rstrip('/')}/{generation}/{_place(image_id)}"

    @staticmethod
    def resolve(reference: Reference, solved_for: int | None = None) -> Labels | None:
        """Turn a reference into the labeling, uint8 ``(H, W)``.

        Returns:
            None where there is none and, with a warning, where it is damaged or where it was solved for an image and
            annotation of another checksum than ``solved_for``.
        """
        data = _read(reference) if isinstance(reference, str) else reference
        if data is None:
            return None
        try:
            labels, checksum = decompress(data)
        except ValueError as error:
            where = f" in {reference}" if isinstance(reference, str) else ""
            warnings.warn(f"a stored labeling{where} is broken ({error}): it is solved for again", stacklevel=2)
            return None
        if solved_for is not None and checksum != solved_for:
            warnings.warn(
                "images or annotations have changed since their labelings were stored: these are solved for again",
                stacklevel=2,
            )
            return None
        return labels

    def attach(self, batch: dict[str, Any], loaded: Sequence[Any]) -> dict[str, Any]:
        """Add the labelings to a training batch, in the worker that loads it.

        Args:
            batch: the batch, otherwise complete; its ``seeds`` are ``(B, H, W)``.
            loaded: the B images as they were read, with their references and what moves a labeling along.

        Returns:
            ``latent`` uint8 ``(B, H, W)``, augmented as the images were, 255 on padding. Where a labeling is missing
            it is 255, and ``whole`` has by its position the ``image`` uint8 ``(3, h, w)`` before augmentation, its
            ``seeds`` ``(h, w)``, its ``guide`` ``(1, h, w)``, ``valid`` ``(h, w)`` and ``boxes`` ``(n, 5)`` if the data
            bring them, the ``draw`` to augment its solution by, and the ``checksum`` to store it with.
        """
        latent = torch.full_like(batch["seeds"], 255, dtype=torch.uint8)
        whole = {}
        for position, item in enumerate(loaded):
            checksum = item.checksum()
            stored = None if item.reference is None else self.resolve(item.reference, checksum)
            if stored is None:
                optional = ("guide", "colors", "valid", "boxes")
                given = {name: getattr(item, name) for name in optional if getattr(item, name) is not None}
                needed = {"image": item.image, "seeds": item.seeds, "draw": item.draw, "checksum": checksum}
                whole[position] = needed | given
                continue
            latent[position] = item.move(torch.from_numpy(stored.copy()))
        return {"latent": latent, "whole": whole} if whole else {"latent": latent}

    @property
    def nbytes(self) -> int:
        """Bytes of the labelings in memory."""
        return sum(len(data) for entries in self._entries.values() for data in entries.values())

    # ---- ranks and restarts ------------------------------------------------------------------------------------

    def exchange(self) -> None:
        """Give the labelings found since the last exchange to the other ranks; every rank has to call this."""
        if self.path is None and torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1:
            mine = {name: self._entries[self.generations[-1]][name] for name in self._unshared}
            gathered: list[dict[str, bytes]] = [{}] * torch.distributed.get_world_size()
            torch.distributed.all_gather_object(gathered, mine)
            for entries in gathered:
                self._entries.setdefault(self.generations[-1], {}).update(entries)
        self._unshared = []

    def state_dict(self) -> dict[str, Any]:
        """Write the store's state as plain values and tensors, the labelings among them if they are in memory."""
        held = {generation: _pack(entries) for generation, entries in self._entries.items()}
        return {"generations": list(self.generations), "settings": self.settings, "entries": held}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where :meth:`state_dict` was called.

        Raises:
            ValueError: if the state is of another network or energy than :meth:`open` was told.
        """
        self._require_same(state["settings"], "the checkpoint")
        self.generations = list(state["generations"])
        self._entries = {generation: _unpack(packed) for generation, packed in state["entries"].items()}

    def _drop(self, generation: str) -> None:
        self._entries.pop(generation, None)
        if self.path is not None:
            files, folder = fsspec.url_to_fs(self.path)
            try:
                files.rm(f"{folder}/{generation}", recursive=True)
            except FileNotFoundError:  # another rank was first
                return

    def _require_same(self, found: dict[str, Any], holder: str) -> None:
        for name, theirs, ours in _differences(found, self.settings):
            if name == "class_names" and None in (theirs, ours):
                continue  # not known: labelings of before they were kept, or data without names
            raise UserError(
                f"{holder} has labelings that were solved with `{name}` {theirs}, this run has {ours}: use the "
                "settings that made them, or begin again with an empty `store.path`"
            )


def _differences(found: Any, expected: Any, name: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Name, value there and value here of all settings that differ, the innermost."""
    if isinstance(found, dict) and isinstance(expected, dict):
        for key in expected | found:
            inner = name if key == "init_args" else f"{name}.{key}".lstrip(".")
            yield from _differences(found.get(key), expected.get(key), inner)
    elif found != expected:
        yield name, found, expected


def compress(labels: Labels, solved_for: int = 0) -> bytes:
    """Write a labeling, uint8 ``(H, W)``, in few bytes that show when they are damaged."""
    raw = labels.astype(np.uint8, copy=False).tobytes()
    checked = struct.pack("<I", solved_for) + raw
    return _HEADER.pack(_MARK, *labels.shape, solved_for, zlib.crc32(checked)) + zlib.compress(raw, 6)


def decompress(data: bytes) -> tuple[Labels, int]:
    """Read what :func:`compress` wrote.

    Returns:
        uint8 ``(H, W)``, and the checksum of what it was solved for.

    Raises:
        ValueError: if it is damaged, cut short or something else.
    """
    if len(data) < _HEADER.size or not data.startswith(_MARK):
        raise UserError("it is no labeling")
    _, height, width, solved_for, checksum = _HEADER.unpack_from(data)
    try:
        raw = zlib.decompress(data[_HEADER.size :])
    except zlib.error as error:
        raise UserError("it is cut short or damaged") from error
    if len(raw) != height * width or zlib.crc32(struct.pack("<I", solved_for) + raw) != checksum:
        raise UserError("its checksum is wrong")
    return np.frombuffer(raw, dtype=np.uint8).reshape(height, width), solved_for


def _pack(entries: dict[str, bytes]) -> dict[str, Any]:
    """One tensor in place of many byte strings, which a checkpoint would write one by one and half as large again."""
    data = np.frombuffer(b"".join(entries.values()), dtype=np.uint8).copy()
    return {"ids": list(entries), "sizes": [len(entry) for entry in entries.values()], "data": torch.from_numpy(data)}


def _unpack(packed: dict[str, Any]) -> dict[str, bytes]:
    data, ends = packed["data"].numpy().tobytes(), np.cumsum(packed["sizes"]).tolist()
    starts: Iterable[int] = [0, *ends]
    return {name: data[start:end] for name, start, end in zip(packed["ids"], starts, ends, strict=False)}


def _place(image_id: str) -> str:
    """Folder and file name for any id: one of 256 folders; the name is readable where it is short."""
    name, digest = quote(image_id, safe=""), blake2b(image_id.encode(), digest_size=16).hexdigest()
    return f"{digest[:2]}/{name if len(name) <= _LONGEST_NAME else digest}.labels"


def _read(path: str) -> bytes | None:
    files, name = fsspec.url_to_fs(path)
    try:
        data: bytes = files.cat_file(name)
    except FileNotFoundError:
        return None
    return data


def _write(files: fsspec.AbstractFileSystem, path: str, data: bytes) -> None:
    """Write a file so that it is never seen half written: beside its place, then moved there."""
    beside = f"{path}.{uuid4().hex}"
    files.pipe_file(beside, data)
    files.mv(beside, path)


def _manifest(path: str, settings: dict[str, Any]) -> bytes:
    """Read the settings of the path's labelings; an empty path is told them."""
    files, folder = fsspec.url_to_fs(path)
    files.makedirs(folder, exist_ok=True)
    manifest = f"{folder}/{_MANIFEST}"
    if not files.exists(manifest):
        _write(files, manifest, json.dumps(settings, indent=1).encode())
    data: bytes = files.cat_file(manifest)
    return data


def _parsed(manifest: bytes, path: str) -> dict[str, Any]:
    try:
        settings: dict[str, Any] = json.loads(manifest)
    except ValueError as error:
        raise UserError(f"{path}/{_MANIFEST} is damaged ({error}): begin again with an empty `store.path`") from error
    return settings
