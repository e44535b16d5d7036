"""Channels of a folder's images as `check` and `init` find them, name them, and write them into a recipe."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from weakseg_lightning.data.folder.annotations import Problem, relative
from weakseg_lightning.data.folder.detection import FoundChannels, detect_channels, guide_of_names
from weakseg_lightning.data.folder.images.separability import GuideChoice
from weakseg_lightning.data.images.channels import ChannelFiles
from weakseg_lightning.data.images.statistics import places_of
from weakseg_lightning.errors import UserError

__all__ = ["channel_lines", "channels_in_words", "find_channels", "guide_in_words", "other_bands"]

_WORDS_OF_YAML = {"null", "true", "false", "yes", "no", "on", "off", "y", "n"}


def find_channels(
    root: Path, given: dict[str, int | str] | list[str] | None, guide: list[str] | None = None
) -> FoundChannels | None:
    """The channels that were given, or those that the files seem to have; None for gray and RGB.

    Args:
        root: the folder.
        given: `channels` of the command.
        guide: `guide` of the command.

    Raises:
        ValueError: if what was given makes no sense.
    """
    found = detect_channels(root) if given is None else FoundChannels(given, "as given")
    if found is not None:
        places_of(ChannelFiles(found.given).names, guide)  # raises
    elif guide is not None:
        raise UserError("`guide` chooses among `channels`, and the images are gray or RGB: name them, or leave it out")
    return found


def channels_in_words(found: FoundChannels) -> str:
    """A line that tells of the channels."""
    return f"Channels: {', '.join(found.given)} ({found.how})"


def guide_in_words(found: FoundChannels, guide: list[str] | None, chosen: GuideChoice | None = None) -> str:
    """What is seen of the channels, and why, to follow the line that tells of them."""
    usual = ", ".join(guide_of_names(list(found.given)))
    if chosen is None:
        others = "; --guide names others" if guide is None and len(found.given) > 3 else ""
        return f"; pictures and graph cuts see {usual if guide is None else ', '.join(guide)}{others}"
    one, other = chosen.classes
    tell = "tell" if len(chosen.names) > 1 else "tells"
    why = f"which {tell} {one} from {other} best (separability {chosen.distance:.2f}; {usual}: {chosen.usual:.2f})"
    return f"; pictures and graph cuts see {', '.join(chosen.names)}, {why}"


def channel_lines(found: FoundChannels | None, guide: list[str] | None) -> Iterator[str]:
    """Lines of the data module's arguments in a recipe; none for gray and RGB."""
    if found is None:
        return
    yield f"    channels: {_flow(found.given)}   # the network's first layer is made for these {len(found.given)}"
    shown = _flow(guide or guide_of_names(list(found.given)))
    yield f"    guide: {shown}   # three, or one, that pictures and graph cuts see: those in which classes differ"


def other_bands(found: FoundChannels, root: Path) -> list[Problem]:
    """The problem of files that have other bands."""
    if not found.others:
        return []
    text = f"has other bands than most ({', '.join(found.given)}): convert or remove it"
    return [Problem(relative(path, root), text) for path in found.others]


def _flow(value: object) -> str:
    """YAML in one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_flow(key)}: {_flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_flow, value))}]"
    text = str(value)
    is_plain = isinstance(value, int) or (
        re.fullmatch(r"[A-Za-z_][\w.-]*", text) and text.lower() not in _WORDS_OF_YAML
    )
    return text if is_plain else json.dumps(text, ensure_ascii=False)
