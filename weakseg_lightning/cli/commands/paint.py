"""`weakseg paint`: annotate images in the browser."""

import sys
import webbrowser
from importlib.util import find_spec
from pathlib import Path
from shlex import quote

from weakseg_lightning.checks import between
from weakseg_lightning.cli.commands.channels import channels_in_words, find_channels, guide_in_words
from weakseg_lightning.cli.commands.places import existing_folder
from weakseg_lightning.data.maps.inspection import require_no_maps
from weakseg_lightning.data.text import counted
from weakseg_lightning.errors import UserError
from weakseg_lightning.painting.folder import PaintFolder
from weakseg_lightning.painting.image_reader import ImageReader
from weakseg_lightning.painting.layout import write_private
from weakseg_lightning.painting.learning.client import Learning, LearningSettings
from weakseg_lightning.painting.learning.training import TrainingRun
from weakseg_lightning.painting.session import Session

__all__ = ["paint"]

_NEEDED = ("nicegui", "filelock")
_LOCK = ".weakseg-paint.lock"
_DOOR = ".weakseg-paint.html"


def paint(
    data: Path,
    classes: list[str] | None = None,
    port: int = 8123,
    no_browser: bool = False,
    encoder: str | None = "tf_efficientnet_lite0",
    encoder_weights: str | None = "imagenet",
    channels: dict[str, int | str] | list[str] | None = None,
    guide: list[str] | None = None,
) -> int:
    """Draw scribbles, clicks and tags on your own images, in a page that only you on this machine can open.

    The page saves as you draw: scribbles/NAME.png (value = class, 255 = unlabelled), points.csv and tags.csv, next to
    images/. What is there already can be continued. It learns from all strokes of the folder on the features of a
    frozen encoder, labels each image by a graph cut on what it has learned, shows where it is uncertain and which image
    needs a stroke most. A labeling that you accept becomes the image's labels, accepted/NAME.png. "Train" trains a
    network as `weakseg init` and `weakseg fit` do, in the working directory. Ctrl-C ends the page.

    Args:
        data: folder with the images in images/.
        classes: names of the classes, background first, for a folder without classes.yaml, where they are then kept.
        port: where the page is; 0 takes any that is free.
        no_browser: print the page's address alone, open no browser.
        encoder: what the page learns on, an encoder of timm by name; null = each image is labeled by its own strokes.
        encoder_weights: "imagenet" to download them, or their file.
        channels: names of the channels of images that are not gray or RGB, as `weakseg init` takes them; found without
            where it finds them. All are learned from.
        guide: three of them, or one, which are shown, each between the percentiles of its image.

    Returns:
        The exit status: 1 if something could not be saved.
    """
    if missing := [name for name in _NEEDED if find_spec(name) is None]:
        remedy = 'pip install ".[app]" in the checkout'
        raise ModuleNotFoundError(f"`weakseg paint` needs {' and '.join(missing)}, not installed here: {remedy}")
    between("port", port, 0, 65535)
    from filelock import FileLock, Timeout

    require_no_maps(existing_folder(data), "weakseg paint")
    found = find_channels(existing_folder(data), channels, guide)
    if found is not None:
        print(channels_in_words(found) + guide_in_words(found, guide))
    folder = PaintFolder(data, classes, ImageReader(None if found is None else found.given, guide))
    try:
        with FileLock(folder.root / _LOCK, timeout=0):
            return _run(_make_session(folder, data, encoder, encoder_weights), data, port, no_browser)
    except Timeout as error:
        raise UserError(f"`data`: {data} is open in another `weakseg paint`: end that one first") from error


def _make_session(folder: PaintFolder, data: Path, encoder: str | None, weights: str | None) -> Session:
    learning = None
    if encoder is not None:
        usable = {name: entry.path for name, entry in folder.entries.items() if entry.problem is None}
        learning = Learning(LearningSettings(encoder, weights, reader=folder.reader), usable, len(folder.classes.names))
    # `weakseg init` takes its own encoder, which a file for another one does not fit.
    of_init = weights if encoder in (None, LearningSettings.encoder) else "imagenet"
    return Session(folder, learning, TrainingRun(data, Path.cwd(), of_init, reader=folder.reader))


def _run(session: Session, data: Path, port: int, no_browser: bool) -> int:
    from weakseg_lightning.painting.server import serve

    folder = session.folder
    for entry in folder.entries.values():
        if entry.problem is not None:
            print(f"weakseg: skipped: {entry.problem}", file=sys.stderr)
    if folder.foreign:
        told = "training uses them, too; the page neither shows nor changes them"
        images = counted(len(folder.foreign), "image has", "images have")
        print(f"{images} annotations of other tools, as {folder.foreign[0]}: {told}")

    door = folder.root / _DOOR

    def ready(address: str) -> None:
        print(f"Painting in {data}: open {address} (Ctrl-C ends)", flush=True)
        if no_browser:
            return
        # A file leads to the page: the words that a browser is started with can be read by every user of the machine.
        if write_private(door, f'<meta http-equiv="refresh" content="0; url={address}">\n'):
            webbrowser.open(door.as_uri())
        else:
            print(f"No browser is opened: {data} cannot hold a file that only you can read; open the address yourself")

    try:
        unsaved = serve(session, port, ready)
    finally:
        door.unlink(missing_ok=True)
    for problem in unsaved:
        print(f"weakseg: not saved: {problem}", file=sys.stderr)
    annotated = sum(entry.annotated for entry in folder.entries.values())
    print(f"{annotated} of {len(folder.entries)} images are annotated. Next:\n  weakseg check {quote(str(data))}")
    return 1 if unsaved else 0
