"""`weakseg scribbles`: folders of scribbles, as the data modules read them."""

import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from rich.console import Console

from weakseg_lightning.checks import at_least
from weakseg_lightning.cli.commands.evaluation import followed
from weakseg_lightning.cli.commands.places import existing_folder
from weakseg_lightning.data.text import counted
from weakseg_lightning.data.voc.datamodule import VOC_CLASSES, scribble_folder_name
from weakseg_lightning.data.voc.scribble_folders import Drawing, Outcome, draw_all, from_mask, from_png, from_xml
from weakseg_lightning.errors import FileError, MissingFileError, UserError

__all__ = ["convert", "shorten", "simulate"]


def convert(
    source: Path,
    output: Path,
    images: Path | None = None,
    class_names: list[str] | None = None,
    overwrite: bool = False,
    processes: int = 1,
) -> int:
    """Draw the XML scribbles of ScribbleSup as PNG: 3 pixels wide, value = class, 255 = unlabelled.

    Args:
        source: folder of the XML files.
        output: folder in which pascal_2012_scribble is made; VOCDataModule looks for it in VOCdevkit/VOC2012.
        images: folder of the images, needed where an XML file does not state the size of its image.
        class_names: names of the classes in the order of their indices, or a text file with one name per line; those
            of VOC by default.
        overwrite: replace scribbles that are there.
        processes: how many files are worked on at once.

    Returns:
        The exit status: 1 if files had to be skipped.
    """
    draw = partial(from_xml, class_names=_names(class_names), images=images and existing_folder(images, "images"))
    return _run(draw, _files("source", source, ".xml"), [1.0], output, overwrite, processes)


def shorten(
    source: Path,
    lengths: list[float],
    output: Path | None = None,
    images: Path | None = None,
    class_names: list[str] | None = None,
    overwrite: bool = False,
    processes: int = 1,
) -> int:
    """Shorten scribbles, XML or PNG, to fractions of their length: what remains is the middle of each stroke.

    From PNG, strokes are recovered by thinning; each connected part of a class counts as one stroke.

    Args:
        source: folder of the scribbles, XML files or PNGs of whole strokes.
        lengths: fractions of the strokes' length that are kept, 0 (a click) to 1.
        output: folder in which pascal_2012_scribble0.5 (for the length 0.5) is made; that of the source by default.
        images: folder of the images, needed where an XML file does not state the size of its image.
        class_names: names of the classes in XML files, in the order of their indices, or one text file with a name a
            line; those of VOC by default.
        overwrite: replace scribbles that are there.
        processes: how many files are worked on at once.

    Returns:
        The exit status: 1 if files had to be skipped.
    """
    xml = any(source.glob("*.xml"))
    if xml and any(source.glob("*.png")):
        raise UserError(f"`source`: {source} holds XML and PNG files: put the scribbles into a folder of their own")
    if xml and output is None:
        raise UserError("`output` must be given with XML scribbles: VOCDataModule looks in VOCdevkit/VOC2012")
    draw: Drawing = from_png
    if xml:
        draw = partial(from_xml, class_names=_names(class_names), images=images and existing_folder(images, "images"))
    paths = _files("source", source, ".xml" if xml else ".png")
    return _run(draw, paths, lengths, output or source.absolute().parent, overwrite, processes)


def simulate(
    masks: list[Path],
    output: Path | None = None,
    lengths: list[float] | None = None,
    seed: int = 0,
    minimum_area: int = 24,
    stroke_area: int = 400,
    overwrite: bool = False,
    processes: int = 1,
) -> int:
    """Make scribbles from full masks, for data sets that have none: strokes through the middle of each part.

    Args:
        masks: folders of the masks (palette or gray PNG, or MAT of SBD); of equal names the first is taken.
        output: folder in which pascal_2012_scribble is made; that of the first folder of masks by default.
        lengths: fractions of the strokes' length that are kept, 0 (a click) to 1; 1 by default.
        seed: names one annotator; the scribbles of an image depend on it and on the image's name alone.
        minimum_area: smaller parts, in pixels, get nothing, but for the largest part of each class.
        stroke_area: smaller parts, in pixels, get a click.
        overwrite: replace scribbles that are there.
        processes: how many files are worked on at once.

    Returns:
        The exit status: 1 if files had to be skipped.
    """
    paths: dict[str, Path] = {}
    for folder in masks:
        paths = {path.stem: path for path in _files("masks", folder, ".png", ".mat")} | paths
    if not paths:
        raise UserError("`masks` must name at least one folder")
    draw = partial(from_mask, seed=seed, minimum_area=minimum_area, stroke_area=stroke_area)
    chosen = [paths[name] for name in sorted(paths)]
    return _run(draw, chosen, lengths or [1.0], output or masks[0].absolute().parent, overwrite, processes)


# ---- arguments ----------------------------------------------------------------------------------------------


def _files(argument: str, folder: Path, *suffixes: str) -> list[Path]:
    """The files of a folder with one of the suffixes, by name."""
    existing_folder(folder, argument)
    found = sorted(path for path in folder.iterdir() if path.suffix in suffixes and not path.name.startswith("."))
    if not found:
        kinds = " nor ".join(f"*{suffix}" for suffix in suffixes)
        raise MissingFileError(f"`{argument}`: {folder} holds no {kinds}: name the folder of the files themselves")
    return found


def _names(given: list[str] | None) -> Sequence[str]:
    """The names of the classes, in small letters as the files are read."""
    if given is None:
        return VOC_CLASSES
    if len(given) == 1 and Path(given[0]).is_file():
        given = [line.strip() for line in Path(given[0]).read_text(encoding="utf-8").splitlines() if line.strip()]
    if len(given) < 2:
        raise UserError(f"`class_names` must be names, or one text file with one name per line, got {given}")
    return [name.lower() for name in given]


def _check(paths: Sequence[Path], lengths: Sequence[float], output: Path, overwrite: bool, processes: int) -> None:
    """Validate the arguments before anything is written."""
    at_least("processes", processes, 1)
    if not lengths or not all(0 <= length <= 1 for length in lengths):
        raise UserError(f"`lengths` must be numbers between 0 and 1, got {lengths}")
    for folder in (output / scribble_folder_name(length) for length in lengths):
        if folder.resolve() in {path.parent.resolve() for path in paths}:
            raise UserError(f"{folder} is the source itself: choose another `output`")
        present = [path for path in paths if (folder / f"{path.stem}.png").exists()]
        if present and not overwrite:
            raise FileError(
                f"{folder} has scribbles of {len(present)} of the {len(paths)} images already, "
                f"as {present[0].stem}.png: choose another `output`, or replace them with --overwrite"
            )


# ---- the work -----------------------------------------------------------------------------------------------


def _run(
    draw: Drawing, paths: Sequence[Path], lengths: Sequence[float], output: Path, overwrite: bool, processes: int
) -> int:
    lengths = list(dict.fromkeys(lengths))
    _check(paths, lengths, output, overwrite, processes)
    outcomes = list(_followed(draw_all(draw, paths, lengths, output, processes), len(paths)))
    skipped = sum(outcome.problem is not None for outcome in outcomes)
    files = (len(paths) - skipped) * len(lengths)
    strokes = sum(outcome.strokes for outcome in outcomes)
    fraction = sum(outcome.labelled for outcome in outcomes) / max(sum(outcome.pixels for outcome in outcomes), 1)
    written = f"{counted(files, 'file')} with {counted(strokes, 'stroke')}"
    folders = ", ".join(scribble_folder_name(length) for length in lengths)
    print(f"Wrote {written}, {fraction:.2%} of the pixels, to {folders} in {output}")
    if (output / "images").is_dir():
        print(f"A folder of your own has its scribbles in scribbles/: rename {folders.partition(',')[0]} to that")
    if skipped:
        print(f"weakseg: {skipped} of {len(paths)} images were skipped, see above", file=sys.stderr)
    return 1 if skipped else 0


def _followed(outcomes: Iterator[Outcome], count: int) -> Iterator[Outcome]:
    """Show how far the work is, and what had to be skipped."""
    for outcome in followed(outcomes, "Scribbles", count):
        if outcome.problem is not None:
            Console(stderr=True).print(
                f"weakseg: skipped: {outcome.problem}", markup=False, highlight=False, soft_wrap=True
            )
        yield outcome
