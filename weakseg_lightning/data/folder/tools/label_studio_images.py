"""The images that a task of Label Studio is about."""

import base64
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PureWindowsPath
from typing import Any
from urllib.parse import unquote, unquote_plus

from weakseg_lightning.data.folder.names import ImageRef, address_ref
from weakseg_lightning.data.folder.tools.shapes import ShapeError
from weakseg_lightning.data.images.reading import IMAGE_SUFFIXES

_UPLOADS = re.compile(r"(?:^|/)upload/(?:\d+/)?([^/]+)$")
_PREFIX = re.compile(r"^(?:\d+-)?[0-9a-f]{8}-(?=.)")  # what Label Studio puts before the names of uploaded files
_IN_QUERY = re.compile(r"(?:^|&)(d|filepath|fileuri)=(.*)", re.DOTALL)
_STORAGES = ("local-files", "uploaded", "resolve", "presign")  # addresses that name the image in their query
_NUMBER = re.compile(r"(\d+)$")


class UnknownImageError(ShapeError):
    """The image that is meant cannot be known."""


class TaskImages:
    """The images of a task: keys of its data that hold an address of an image, or several.

    Args:
        task: the task.
        entry: its name in messages.
    """

    def __init__(self, task: Mapping[str, Any], entry: str) -> None:
        self.entry = entry
        self.data: Mapping[str, Any] = task["data"]
        self.addresses = _addresses(self.data)
        self.uploaded = [str(name) for name in (task.get("file_upload"), task.get("storage_filename")) if name]

    def find(self, result: Mapping[str, Any]) -> tuple[ImageRef, str]:
        """Find the image that a result is about.

        Returns:
            The image, and the name of the part of the file that is about it.

        Raises:
            UnknownImageError: if it cannot be known.
        """
        key = self._only_key(result)
        return self._image(key, self._item(key, result))

    def every(self, results: Iterable[Mapping[str, Any]]) -> Iterator[tuple[ImageRef, str]]:
        """List all images of the task that the labeling interface shows.

        Args:
            results: results of the project, which name the objects of its interface.

        Raises:
            UnknownImageError: if it cannot be known which these are.
        """
        keys = dict.fromkeys(key for result in results if (key := self._key(result)) is not None)
        for key in keys or [self._only_key({})]:
            for item in range(len(self.addresses[key])):
                yield self._image(key, item)

    def is_of_other_data(self, result: Mapping[str, Any]) -> bool:
        """Recognize results about a text or another medium."""
        name = str(result.get("to_name"))
        return not self.addresses or (name in self.data and name not in self.addresses)

    # ---- inside ---------------------------------------------------------------------------------------------

    def _only_key(self, result: Mapping[str, Any]) -> str:
        if (key := self._key(result)) is not None:
            return key
        if not self.addresses:
            raise UnknownImageError("has no image: `data` holds no address of one")
        keys = ", ".join(map(repr, self.addresses))
        raise UnknownImageError(f"could be about one of several images ({keys}): write the right key as its `to_name`")

    def _key(self, result: Mapping[str, Any]) -> str | None:
        for name in (str(result.get("source") or "").removeprefix("$"), str(result.get("to_name"))):
            if name in self.addresses:
                return name
        return next(iter(self.addresses)) if len(self.addresses) == 1 else None

    def _item(self, key: str, result: Mapping[str, Any]) -> int:
        """Which of the images of a key: that of its number, or, of a repeater, that of its name: ``page_0``."""
        count, value = len(self.addresses[key]), result.get("value")
        index = result.get("item_index", value.get("item_index") if isinstance(value, dict) else None)
        number = _NUMBER.search(str(result.get("to_name")))
        if index is None and number and isinstance(self.data[key], list) and isinstance(self.data[key][0], dict):
            index = int(number[1])
        if index is None and count == 1:
            index = 0
        if not isinstance(index, int) or not 0 <= index < count:
            raise UnknownImageError(f"does not say which of the {count} images of {key!r} it is about: export it again")
        return index

    def _image(self, key: str, item: int) -> tuple[ImageRef, str]:
        address = self.addresses[key][item]
        if address.startswith("data:"):
            raise UnknownImageError(
                f"holds its image itself ({address[:16]}...), so that its file cannot be known: upload the files to "
                "Label Studio, or let it read them from a storage"
            )
        entry = self.entry if len(self.addresses) == 1 else f"{self.entry}, {key!r}"
        if isinstance(self.data[key], list):
            return _ref(address), f"{entry}, image {item + 1}"
        alone = len(self.addresses) == 1
        return _ref(address, *(name for name in self.uploaded if alone and _is_image(name))), entry


# ---- addresses --------------------------------------------------------------------------------------------------


def _addresses(data: Mapping[str, Any]) -> dict[str, list[str]]:
    """Addresses of images by the keys of the data; if none looks like an image, whatever looks like an address."""
    texts = {key: texts for key, value in data.items() if (texts := _texts(value))}
    images = {key: found for key, found in texts.items() if all(map(_is_image, found))}
    return images or {key: found for key, found in texts.items() if all(map(_is_address, found))}


def _texts(value: Any) -> list[str]:
    """A text, those of a list, or, of a list of objects, the one address in each."""
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list):
        return []
    texts = []
    for item in value:
        found = [item] if isinstance(item, str) else [one for one in _values(item) if _is_image(one)]
        if len(found) != 1:
            return []
        texts += found
    return texts


def _values(item: Any) -> list[str]:
    return [value for value in item.values() if isinstance(value, str)] if isinstance(item, dict) else []


def _is_image(address: str) -> bool:
    return address.startswith("data:image/") or any(_has_suffix(path) for path in _paths(address))


def _is_address(address: str) -> bool:
    return address.startswith("/") or "://" in address.partition("\n")[0]


def _has_suffix(path: str) -> bool:
    return PureWindowsPath(path.strip()).suffix.lower() in IMAGE_SUFFIXES


def _ref(address: str, *stored: str) -> ImageRef:
    """The image with an address, or else with the name that Label Studio stored it by."""
    paths = []
    for path in (*_paths(address), *(f"upload/{name}" for name in stored)):
        uploaded = _UPLOADS.search(path)
        name = uploaded[1] if uploaded else path
        paths += [name, _PREFIX.sub("", name)] if uploaded else [name]
    cleaned = next((_PREFIX.sub("", found[1]) for path in _paths(address) if (found := _UPLOADS.search(path))), "")
    return address_ref(_readable(address), *dict.fromkeys(paths), uploaded=cleaned)


def _readable(address: str) -> str:
    """An address as messages show it: what Label Studio encoded is decoded."""
    query = _IN_QUERY.search(address.partition("?")[2])
    return _decoded(query[2]) if query and query[1] == "fileuri" else address


def _paths(address: str) -> list[str]:
    """Possible paths of an image in its address, the most likely first."""
    scheme, _, rest = address.partition("://")
    if rest and scheme.lower() not in ("http", "https", "file"):  # a storage: its keys are written as they are
        key = rest.partition("/")[2]
        return [key, unquote(key)]
    before, _, query = address.partition("?")
    named = _IN_QUERY.search(query)
    if named and before.rstrip("/").endswith(_STORAGES):
        first = named[2].partition("&")[0]
        if named[1] == "fileuri":
            return _paths(_decoded(first))
        return [unquote(named[2]), unquote(first), unquote_plus(first), first]
    path = before.partition("://")[2].partition("/")[2].partition("#")[0] if rest else before
    others = [unquote(pair.partition("=")[2]) for pair in query.split("&")]
    return [unquote(path), path, *(other for other in others if _has_suffix(other))]


def _decoded(given: str) -> str:
    """The address that Label Studio wrote as base64, if it did."""
    text = unquote(given).partition("&")[0]
    try:
        padded = text.translate(str.maketrans("-_", "+/")) + "=" * (-len(text) % 4)
        found = base64.b64decode(padded, validate=True).decode()
    except ValueError:
        return text
    return found if "://" in found else text
