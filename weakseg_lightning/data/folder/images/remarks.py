"""Remarks on images that are read otherwise than their owner may think: nodata, transparency, depth, names."""

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path

from weakseg_lightning.data.folder.detection import stem_of_channel
from weakseg_lightning.data.folder.files import Files
from weakseg_lightning.data.images.bands import declared_nodata
from weakseg_lightning.data.images.described import DescribedBands, describe_bands
from weakseg_lightning.data.images.reading import read_header
from weakseg_lightning.data.text import counted

__all__ = ["remarks"]

_OFTEN_DATA = (".tif", ".tiff", ".jp2")  # files whose last band programs mark as transparency, whatever it is


def remarks(files: Files) -> Iterator[str]:
    """Tell of images whose headers say what changes how they are read; those that cannot be read are left out."""
    if files.volumes is not None:
        return
    described = dict[str, DescribedBands]()
    nodata = dict[str, float]()
    for name, path in files.images.items():
        try:
            described[name] = describe_bands(path)
            if (value := declared_nodata(path)) is not None:
                nodata[name] = value
        except ValueError:
            continue  # reported when it is read
    yield from _nodata(nodata)
    yield from _turned(files)
    yield from _depths(described, files.channels is not None)
    if files.channels is None:
        yield from _transparency(described, files.images)
        yield from _channels_in_color(described)


def _nodata(nodata: Mapping[str, float]) -> Iterator[str]:
    if nodata:
        name, value = next(iter(nodata.items()))
        declaring = f"{counted(len(nodata), 'image')} {'declare' if len(nodata) > 1 else 'declares'} nodata"
        yield f"{declaring}, as {name} ({value:g}): such pixels are in no loss and no score, and labels there are void"


def _turned(files: Files) -> Iterator[str]:
    """Tell of label maps and of files of channels that lie otherwise than their images are stored, unseen by sizes."""
    maps = chain.from_iterable(maps.items() for maps in (files.masks, files.accepted, files.scribbles))
    beside = ((name, other) for name, path in files.images.items() for other in _channels_beside(files, path))
    told = {
        "the label maps: labels are taken to be drawn on what stands upright; look at the contact sheet": maps,
        "the files of their channels: each file is turned by its own data; see that these agree": beside,
    }
    for what, others in told.items():
        found = dict.fromkeys(name for name, path in others if _lies_otherwise(files.images[name], path))
        if found:
            are = "are" if len(found) > 1 else "is"
            first = next(iter(found))
            yield f"{counted(len(found), 'image')}, as {first}, {are} turned by EXIF data otherwise than {what}"


def _channels_beside(files: Files, path: Path) -> list[Path]:
    return [] if files.channels is None else files.channels.files(path)[1:]


def _lies_otherwise(image: Path, other: Path) -> bool:
    """Tell if two files are turned by their EXIF data in different ways that their sizes do not show."""
    try:
        one, two = read_header(image), read_header(other)
    except ValueError:
        return False
    unseen = one.width == one.height or one.lies_sideways == two.lies_sideways
    return one.orientation != two.orientation and unseen


def _depths(described: Mapping[str, DescribedBands], has_channels: bool) -> Iterator[str]:
    """Tell of images of other types than most."""
    (usual, _), *others = Counter(one.depth for one in described.values()).most_common() or [("", 0)]
    for depth, count in others:
        first = next(name for name, one in described.items() if one.depth == depth)
        why = (
            "one scale is applied to all" if has_channels else "only 8 bits are taken as they are, others are stretched"
        )
        are = "are" if count > 1 else "is"
        yield (
            f"{count} of {counted(len(described), 'image')} {are} {depth}, as {first}, the others {usual}: {why}; "
            "convert them to one type if they are of one kind"
        )


def _transparency(described: Mapping[str, DescribedBands], images: Mapping[str, Path]) -> Iterator[str]:
    """Tell of a last band that is marked as transparency, which programs do to bands that are none."""
    marked = [name for name, one in described.items() if one.has_alpha and images[name].suffix.lower() in _OFTEN_DATA]
    for bands in sorted({described[name].count for name in marked}):
        alike = [name for name in marked if described[name].count == bands]
        example = "[red, green, blue, nir]" if bands == 4 else "[one, other]"
        yield (
            f"band {bands} of {counted(len(alike), 'image')}, as {alike[0]}, is marked as transparency and read so; if "
            f"it is a channel, name the bands: --channels '{example}'"
        )


def _channels_in_color(described: Mapping[str, DescribedBands]) -> Iterator[str]:
    """Tell of files that are named as channels of others, and count as images since they are in color."""
    named = {name: stem for name, one in described.items() if one.count > 1 and (stem := stem_of_channel(name))}
    if beside := [name for name, stem in named.items() if stem in described]:
        are = "are" if len(beside) > 1 else "is"
        text = f"{counted(len(beside), 'file')} named as a channel, as {beside[0]}, {are} in color and an image"
        yield f"{text} like others: if it is a channel of {named[beside[0]]}, save it with one band"
