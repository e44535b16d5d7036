"""`weakseg check`: everything about a folder of users' images, and what is wrong with it."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from shlex import quote

import numpy as np
from numpy.typing import NDArray

from weakseg_lightning.cli.commands.channels import channels_in_words, find_channels
from weakseg_lightning.cli.commands.evaluation import followed
from weakseg_lightning.cli.commands.places import existing_folder, options
from weakseg_lightning.data.folder.annotations import AnnotationKind, Problem
from weakseg_lightning.data.folder.classes import BACKGROUND, BACKGROUND_OF_LABELME, CLASSES_FILE, normal
from weakseg_lightning.data.folder.contact_sheet import contact_sheet
from weakseg_lightning.data.folder.contents import FolderContents, read_folder
from weakseg_lightning.data.folder.images.guides import guides_folder, lacking_guides
from weakseg_lightning.data.folder.images.remarks import remarks
from weakseg_lightning.data.folder.images.volumes import require_volumes
from weakseg_lightning.data.folder.inspection import (
    Inspection,
    constant_channels,
    inspect_all,
    nothing_labelled,
    only_void,
)
from weakseg_lightning.data.folder.names import IMAGES
from weakseg_lightning.data.folder.tables.cases import CaseRule, cases_in_words
from weakseg_lightning.data.images.channels import ChannelFiles
from weakseg_lightning.data.images.volumes import VolumeReader
from weakseg_lightning.data.maps.contents import holds_maps
from weakseg_lightning.data.maps.inspection import describe_maps
from weakseg_lightning.data.text import counted
from weakseg_lightning.energies.potts import VOID

__all__ = ["check"]

_KINDS: dict[AnnotationKind, str] = {
    "stroke": "lines",
    "click": "clicks",
    "box": "boxes",
    "region": "polygons and brushes",
    "nothing": "background alone",
    "tag": "tags",
    "size": "sizes",
}
Counts = NDArray[np.int64]
"""Pixels of each class."""

_LARGE = 4_000_000  # pixels
_SHOWN = 5
_ALIKE = 10  # problems of one text that are listed one by one


def check(
    data: Path,
    sheet: Path | None = None,
    guides: Path | None = None,
    cases: str | None = None,
    channels: dict[str, int | str] | list[str] | None = None,
    slice_axis: int | None = None,
) -> int:
    """Read a folder of your own images: counts, class balance, what is wrong with which file, and a contact sheet.

    Besides images/ the folder may hold: scribbles/ and masks/ (PNGs of the images' names and sizes, value = class,
    255 = none, or in the colors of classes.yaml); accepted/ (the same, labels accepted in `weakseg paint`, counted
    apart); points.csv (columns image,x,y,class); boxes.csv
    (image,x1,y1,x2,y2,class); tags.csv (image,class); sizes.csv (image,class,size: a fraction, or small or large);
    cases.csv (image,case: the slices of which volume);
    classes.yaml (classes: [background, cat, dog]; ignore: labels that mean no class; tags: which flags and choices of a
    tool are tags); exports of LabelMe, CVAT (images 1.1) and Label Studio, also in annotations/. Links are followed.
    Images may be volumes, images/NAME.nii.gz, with scribbles/ and masks/ of the same names; then slices are the images.
    What is not read, or read in a way that you should know, is listed as a note. Where scribbles/ or masks/ hold
    GeoJSON or TIFFs, the folder is one of maps, see MapDataModule.

    Args:
        data: the folder, which holds `images`.
        sheet: picture to write the contact sheet to; contact_sheet.jpg in the folder by default.
        guides: folder, seen from the folder, of maps of regions or boundaries, as the recipe's `data.guides` names it;
            `data.guide` is another option, the channels that graph cuts see.
        cases: regular expression that tells which images are slices of one case, as the recipe's `data.cases`.
        channels: names of the channels of images that are not gray or RGB, as the recipe's `data.channels`: names of
            all bands, or by name the number of a band or another file, {red: 1, nir: NAME_nir.tif}. TIFFs of other
            bands, `.npy` and files such as NAME_nir.tif beside NAME.tif are found without.
        slice_axis: axis of the volumes' arrays along which slices are counted, 0, 1 or 2, as the recipe's
            `data.slice_axis`; by default that of the largest spacing, where it is a fifth larger than the others, or
            else the last.

    Returns:
        The exit status: 0 if all is well, 1 if there are problems.
    """
    folder = existing_folder(data)
    if holds_maps(folder):
        return _check_maps(folder, channels)
    of_bands = find_channels(folder, channels)
    named = None if of_bands is None else ChannelFiles(of_bands.given)
    reader = VolumeReader(slice_axis, channels=named)
    contents = read_folder(folder, guides_folder(folder, guides), CaseRule(cases), named, reader)
    require_volumes(contents, 0, slice_axis)
    found = list(followed(inspect_all(contents, list(contents.images)), "Reading", len(contents.images)))
    problems = list(dict.fromkeys([*contents.problems, *(problem for one in found for problem in one.problems)]))
    problems += constant_channels(contents, found)
    problems += nothing_labelled(contents, found) or _nothing_annotated(contents)
    problems += lacking_guides(contents, filter(contents.has_any, contents.images))
    readable = [one for one in found if one.size is not None]
    print("\n".join([*_counts(data, contents, readable), "", *_balance(contents, found), ""]))
    if of_bands is not None:
        print(channels_in_words(of_bands))
    print("\n".join([*_table(problems), *(f"note: {note}" for note in _notes(data, contents, readable))]))
    good = [one.name for one in found if not one.problems]
    shown = [name for name in good if contents.has_any(name)] or good
    if shown:
        print(_write_sheet(contents, shown, sheet or data / "contact_sheet.jpg"))
    given = options(cases=cases, channels=channels, slice_axis=slice_axis)
    if problems:
        print(f"Fix these, then run:\n  weakseg check {quote(str(data))}{options(guides=guides)}{given}")
        return 1
    print(f"All is well. Next:\n  weakseg init {quote(str(data))}{given}")
    return 0


def _check_maps(folder: Path, channels: dict[str, int | str] | list[str] | None) -> int:
    """The same for a folder of maps; there is no contact sheet."""
    lines, problems = describe_maps(folder, channels)
    print("\n".join([*lines, "", *_table(problems)]))
    if problems:
        print(f"Fix these, then run:\n  weakseg check {quote(str(folder))}{options(channels=channels)}")
    return 1 if problems else 0


def _nothing_annotated(contents: FolderContents) -> list[Problem]:
    """The problem that there is nothing that any training could use."""
    if contents.problems or any(map(contents.has_any, contents.images)):
        return []
    text = "no image has an annotation: add scribbles/, points.csv, boxes.csv, tags.csv, masks/ or an export of a tool"
    return [Problem(IMAGES, text)]


def _write_sheet(contents: FolderContents, names: Sequence[str], path: Path) -> str:
    """Write the contact sheet, or say why there is none: the verdict on the data does not depend on it."""
    try:
        contact_sheet(contents, names).save(path.expanduser(), quality=90)
    except (OSError, ValueError) as error:  # a folder that cannot be written, a suffix of no picture
        reason = " ".join(str(getattr(error, "strerror", None) or error).split())
        return (
            f"note: no contact sheet, {path} cannot be written ({reason}): choose another place with --sheet FILE.jpg"
        )
    return f"Contact sheet: {path}"


def _counts(data: Path, contents: FolderContents, readable: Sequence[Inspection]) -> Iterator[str]:
    sizes = sorted((one.size for one in readable if one.size is not None), key=lambda size: size[0] * size[1])
    shown = list(dict.fromkeys(f"{size[0]} x {size[1]}" for size in (sizes[:1] + sizes[-1:])))
    extent = f", {' to '.join(shown)} pixels" if shown else ""
    origin = "classes.yaml" if contents.classes_given else "guessed from the annotations"
    classes = counted(len(contents.classes.names), "class", "classes")
    yield f"{data}: {counted(len(contents.images), 'image')}{extent}; {classes} ({origin})"
    yield ""
    yield f"{'kind':<22}{'images':>8}{'annotations':>13}"
    maps = {"scribbles/": contents.scribbles, "accepted/": contents.accepted, "masks/": contents.masks}
    maps["guides"] = contents.guides or {}
    for what, files in maps.items():
        if files:
            yield f"{what:<22}{len(files):>8}"
    for kind, what in _KINDS.items():
        annotations = [len(contents.about(name, kind)) for name in contents.annotations]
        if any(annotations):
            yield f"{what:<22}{np.count_nonzero(annotations):>8}{sum(annotations):>13}"
    if contents.cases:
        yield f"{len(contents.cases)} images are {cases_in_words(contents.cases.values())}"


def _balance(contents: FolderContents, found: Sequence[Inspection]) -> Iterator[str]:
    """Frequency of each class, and the fraction of pixels that is labelled."""
    seeds = [one.seeds for one in found if one.seeds is not None]
    accepted = [one.accepted for one in found if one.accepted is not None]
    masks = [one.mask for one in found if one.mask is not None]
    columns = [("of scribbles", seeds), *([("of accepted", accepted)] if accepted else []), ("of masks", masks)]
    width = max(12, *(len(name) for name in contents.classes.names)) + 2
    heads = "".join(f"{of:>{len(of) + 2}}" for of, _ in columns)
    yield f"{'class':<{width + 4}}{'images':>8}{'annotations':>13}{heads}"
    for index, name in enumerate(contents.classes.names):
        annotations = {
            image: count
            for image, known in contents.annotations.items()
            if (count := sum(one.label == index for one in known))
        }
        drawn = {one.name for one in found for counts in one.counts if counts[index]}
        fractions = "".join(f"{_fraction(counts, index):>{len(of) + 2}}" for of, counts in columns)
        yield f"{index:>3} {name:<{width}}{len(drawn | set(annotations)):>8}{sum(annotations.values()):>13}{fractions}"
    for what, maps in (("scribbles and clicks", seeds), ("accepted labels", accepted)):
        if maps:
            total = np.sum(maps, axis=0)
            yield f"{what} label {total[:VOID].sum() / total.sum():.2%} of the pixels of {counted(len(maps), 'image')}"


def _fraction(counts: Sequence[Counts], index: int) -> str:
    """A class's fraction of all labelled pixels."""
    total = np.sum(counts, axis=0)[:VOID] if counts else np.zeros(VOID)
    return f"{total[index] / total.sum():.1%}" if total.sum() else "-"


def _table(problems: Sequence[Problem]) -> Iterator[str]:
    if not problems:
        return
    yield f"{len(problems)} problem{'s' * (len(problems) > 1)}:"
    width = min(40, max(len(problem.file) for problem in problems))
    alike: dict[str, list[Problem]] = {}
    for problem in problems:
        alike.setdefault(problem.text, []).append(problem)
    for text, same in alike.items():
        shown = same if len(same) <= _ALIKE else same[:_SHOWN]
        yield from (f"  {problem.file:<{width}}  {text}" for problem in shown)
        if rest := same[len(shown) :]:
            yield f"  {f'and {len(rest)} more':<{width}}  {text}"
    yield ""


def _notes(data: Path, contents: FolderContents, readable: Sequence[Inspection]) -> Iterator[str]:
    """Notes: no faults, but good to know."""
    names = list(contents.images)
    yield from contents.notes
    yield from remarks(contents)
    if not contents.classes_given and not (contents.root / CLASSES_FILE).exists():
        yield f"no classes.yaml; `weakseg init {data}` writes one with {', '.join(contents.classes.names[:_SHOWN])} ..."
    if bare := [name for name in names if not contents.has_any(name)]:
        have = f"{counted(len(bare), 'image')} {'have' if len(bare) > 1 else 'has'}"
        yield f"{have} no annotation, as {bare[0]}: they can be labelled after training"
    seen = {one.label for known in contents.annotations.values() for one in known}
    seen |= {int(index) for one in readable for counts in one.counts for index in np.flatnonzero(counts)}
    if absent := [name for index, name in enumerate(contents.classes.names) if index and index not in seen]:
        more = " ..." if len(absent) > _SHOWN else ""
        yield f"no annotation has the class {', '.join(absent[:_SHOWN])}{more}: nothing can be learned about it"
    first = contents.classes.names[0]
    if later := [name for name in contents.classes.names[1:] if normal(name) in (BACKGROUND, BACKGROUND_OF_LABELME)]:
        yield f"the first class is the background, in methods and scores: that is {first!r} here, not {later[0]!r}"
    if void := [one.name for one in readable if one.mask is not None and not one.mask[:VOID].any()]:
        are = f"{counted(len(void), 'mask')} {'are' if len(void) > 1 else 'is'}"
        yield f"{are} void all over, as that of {void[0]}: nothing is learned from or tested there"
    if contents.lacks_spacing:
        text = "add the columns spacing_z, spacing_y and spacing_x to cases.csv, or set `data.spacing` in the recipe"
        yield f"distances within cases (HD95, `predict --images.cut`) count voxels, as no spacing is known: {text}"
    masked = [name for name in names if contents.has_mask(name)]
    if not masked:
        yield "no image has a mask: training works, but there will be no validation"
    if hollow := [one.name for one in readable if one.mask is not None and only_void(one.mask)]:
        masks = f"{counted(len(hollow), 'mask')} with 0 and 255 alone"
        yield f"{masks}, as that of {hollow[0]}: 255 means void, a class is 1 to 254"
    large = [one.size for one in readable if one.size is not None and one.size[0] * one.size[1] > _LARGE]
    if large:
        images = f"{counted(len(large), 'image')} of large size"
        yield f"{images}, as {large[0][0]} x {large[0][1]}: reduced copies would train much faster"
