"""The channels that the images of a folder seem to have, for commands that write or print the arguments of the data."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from weakseg_lightning.data.folder.files import ACCEPTED, MASKS, SCRIBBLES
from weakseg_lightning.data.folder.names import IMAGES
from weakseg_lightning.data.images.bands import ARRAY_SUFFIX
from weakseg_lightning.data.images.described import DescribedBands, describe_bands
from weakseg_lightning.data.images.nifti import is_volume, volume_name
from weakseg_lightning.data.images.reading import IMAGE_SUFFIXES, files_below
from weakseg_lightning.data.images.statistics import places_of
from weakseg_lightning.data.samples import BadSampleError

__all__ = ["FoundChannels", "detect_channels", "guide_of_names", "stem_of_channel"]

_SUFFIXES = (*IMAGE_SUFFIXES, ARRAY_SUFFIX)
_BANDS = (".tif", ".tiff", ARRAY_SUFFIX)  # of files that may hold more than a picture
# Words of photographs, such as _front or _2, are not among them: each of these is an image of its own.
_WORDS = re.compile(
    r"(?P<stem>.+)(?P<ending>[_-](?P<word>"
    r"red|green|blue|nir|mir|tir|lwir|swir[0-9]?|re[0-9]?|red-?edge|thermal|pan|b[0-9]{1,2}a?|band[0-9]+|ch[0-9]+|"
    r"vv|vh|hh|hv|depth|dsm|dtm|dem|ndvi|dapi|hoechst|gfp|rfp|yfp|cfp|mcherry|fitc|tritc|cy[357]|phase|bf|"
    r"t1w|t1ce|t1gd|t2w|flair|adc|dwi))",
    re.IGNORECASE,
)
# Points in time are called so, too: channels only of volumes whose labels are not of one of them.
_MODALITIES = re.compile(r"(?P<stem>.+)(?P<ending>[_-](?P<word>t1|t1c|t1n|t2|t2f|pd|ct|pet))", re.IGNORECASE)


@dataclass(frozen=True)
class FoundChannels:
    """Channels that were found.

    Attributes:
        given: ``channels`` of the data.
        how: where they are, in words.
        others: files that have other bands.
    """

    given: dict[str, int | str] | list[str]
    how: str
    others: tuple[Path, ...] = ()


def detect_channels(root: Path) -> FoundChannels | None:
    """Find out if the images of a folder have more than gray or RGB.

    They have if most are TIFFs of more bands or pages, or ``.npy``, or if there are files of one band beside them whose
    names end in the word of one, such as ``_nir``.

    Args:
        root: the folder, which holds ``images/``.

    Returns:
        The channels; None for gray and RGB.
    """
    base = root / IMAGES
    files = [path for path in files_below(base) if _may_have_channels(path)] if base.is_dir() else []
    return _beside(base, files, _annotated(root)) or _within(files)


def guide_of_names(names: Sequence[str]) -> list[str]:
    """Names of the channels that pictures show unless ``guide`` says others: three, or one."""
    return list(dict.fromkeys(names[number] for number in places_of(names, None)))


def stem_of_channel(name: str) -> str | None:
    """The name of the image that a file is a channel of, if its name ends in the word of one, as ``a_nir``."""
    match = _WORDS.fullmatch(name)
    return None if match is None else match["stem"]


def _may_have_channels(path: Path) -> bool:
    return path.suffix.lower() in _SUFFIXES or is_volume(path)


def _name(path: Path, base: Path) -> str:
    """Name of an image below a folder, without its suffix."""
    relative = path.relative_to(base)
    return relative.with_name(volume_name(path)).as_posix() if is_volume(path) else relative.with_suffix("").as_posix()


# ---- several bands in a file ----------------------------------------------------------------------------------


def _within(files: Sequence[Path]) -> FoundChannels | None:
    described = {path: found for path in files if path.suffix.lower() in _BANDS if (found := _described(path))}
    rich = {path: found for path, found in described.items() if not found.is_picture}
    if 2 * len(rich) <= len(files):
        return None
    (count, _), *_ = Counter(found.count for found in rich.values()).most_common(1)
    alike = [found for found in rich.values() if found.count == count]
    named = next((found for found in alike if found.names), alike[0])
    others = tuple(path for path in files if path not in rich or rich[path].count != count)
    whence = "named there" if named.names else "which do not name them: rename them there"
    bands = "1 band" if count == 1 else f"{count} bands"
    return FoundChannels(list(named.names_or_numbers), f"the {bands} of the files, {whence}", others)


def _described(path: Path) -> DescribedBands | None:
    try:
        return describe_bands(path)
    except BadSampleError:
        return None  # named where it is read


# ---- several files per image ----------------------------------------------------------------------------------


def _annotated(root: Path) -> set[str]:
    """Names of what label maps are of: images of their own."""
    folders = (root / name for name in (SCRIBBLES, ACCEPTED, MASKS))
    return {_name(path, folder) for folder in folders if folder.is_dir() for path in files_below(folder)}


def _beside(base: Path, files: Sequence[Path], annotated: set[str]) -> FoundChannels | None:
    images = dict[str, set[str]]()  # by the name of an image, the ends of its files, of its own file without a word
    first = dict[str, Path]()
    words = dict[str, str]()
    names = {path: _name(path, base) for path in files}
    of_stems = _name_modalities(names, annotated)
    for path, name in names.items():
        match = None if name in annotated else _channel_word(path, name, of_stems)
        ending = "" if match is None else path.name.removeprefix(Path(match["stem"]).name)
        images.setdefault(name if match is None else match["stem"], set()).add(ending)
        first.setdefault(ending, path)
        if match is not None:
            words[ending] = match["word"].lower()
    usual = [ending for ending in first if 2 * sum(ending in ends for ends in images.values()) >= len(images)]
    beside = sorted(ending for ending in usual if ending)
    if not beside or len(usual) < 2 or any(_count(first[ending]) != 1 for ending in beside):
        return None
    own = _own(first[""]) if "" in usual else {}
    given = {**own, **{words[ending]: f"NAME{ending}" for ending in beside}}
    return FoundChannels(given, f"of {len(usual)} files per image, as {first[beside[0]].name}")


def _name_modalities(names: Mapping[Path, str], annotated: set[str]) -> bool:
    """Tell if label maps of volumes are named by what comes before the modality: `a` of `a_t1` and `a_t2`."""
    matches = (_MODALITIES.fullmatch(name) for path, name in names.items() if is_volume(path))
    found = [match for match in matches if match is not None]
    named = any(match[0] in annotated for match in found)
    return not named and any(match["stem"] in annotated for match in found)


def _channel_word(path: Path, name: str, of_stems: bool) -> re.Match[str] | None:
    match = _WORDS.fullmatch(name)
    return _MODALITIES.fullmatch(name) if match is None and of_stems and is_volume(path) else match


def _own(path: Path) -> dict[str, int | str]:
    """The channels of an image's own file."""
    if is_volume(path):
        return {"own": 1}
    found = _described(path)
    if found is None:
        return {}
    names = found.names_or_numbers
    if found.is_picture:
        names = ("red", "green", "blue") if found.count >= 3 else ("gray",)
    return {name: number for number, name in enumerate(names, 1)}


def _count(path: Path) -> int:
    if is_volume(path):
        return 1
    found = _described(path)
    return 0 if found is None else found.count
