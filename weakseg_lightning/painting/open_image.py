"""An image that is open: its annotation, its labeling, the pictures that the browser shows of it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from weakseg_lightning.errors import UserError
from weakseg_lightning.painting.document import Accept, ImageAnnotation
from weakseg_lightning.painting.folder import PaintFolder
from weakseg_lightning.painting.history import Document
from weakseg_lightning.painting.learning.messages import Scores
from weakseg_lightning.painting.pictures import (
    MAX_SIDE,
    image_layer,
    labeling_layer,
    scribble_layer,
    uncertainty_layer,
)
from weakseg_lightning.painting.preview import Labeling, Preview, accepted_labels

__all__ = ["Key", "OpenImage", "read_open_image"]

Palette = NDArray[np.uint8]
Key = tuple[str, int]
"""Sender of a change, and its number among the sender's."""


@dataclass(eq=False)
class OpenImage:
    """An image that was opened.

    Attributes:
        name: of the image, in the folder's list.
        size: height and width in pixels.
        encoded: the image as the browser shows it, JPEG.
        document: its annotation.
        on_disk: the annotation as it was last read or written.
        saved: version of the document that is on the disk.
        trouble: why it could not be written; empty if it could.
        labeling: of some version of the document; None without scores where fewer than two classes are drawn.
        labeling_version: which version.
        scores: those that the labeling was found with.
        labelings: how many labelings there have been.
        seen: by sender, the number of the last change that has arrived; a sender is one load of the page in a browser.
        written: the same, when it was last written.
        watchers: called after every change of anything above.
    """

    name: str
    size: tuple[int, int]
    encoded: bytes
    preview: Preview
    document: Document
    on_disk: ImageAnnotation
    saved: int = 0
    trouble: str = ""
    labeling: Labeling | None = None
    labeling_version: int = -1
    scores: Scores | None = None
    labelings: int = 0
    seen: dict[str, int] = field(default_factory=dict)
    written: dict[str, int] = field(default_factory=dict)
    watchers: list[Callable[[], None]] = field(default_factory=list)

    @property
    def unsaved(self) -> bool:
        """True if there are changes that are not on the disk."""
        return self.document.version != self.saved

    @property
    def safe(self) -> dict[str, int]:
        """By sender, the number up to which changes need not be sent again, whatever becomes of this process."""
        return dict(self.written if self.unsaved else self.seen)

    def receive(self, key: Key) -> bool:
        """Note that a change has arrived; False if it had before. Each sender sends its changes in their order."""
        sender, number = key
        if number <= self.seen.get(sender, 0):
            return False
        self.seen[sender] = number
        return True

    @property
    def shows_accepted(self) -> bool:
        """True if accepted labels are shown in place of the labeling: until something else changes."""
        done = self.document.done
        return self.document.current.accepted is not None and (not done or isinstance(done[-1], Accept))

    def accept_labeling(self, threshold: float) -> Accept:
        """Take the labeling for the labels wherever its probability reaches a threshold.

        Raises:
            ValueError: if there is none of what is drawn by now, it was found without scores, or nowhere reaches the
                threshold.
        """
        if self.labeling is None:
            raise ValueError("there is no labeling to accept")
        if self.labeling_version != self.document.version:
            raise ValueError("the labeling does not know the last stroke yet: accept it when it is shown")
        accept = Accept(accepted_labels(self.labeling, threshold, self.size))
        if accept.applied_to(ImageAnnotation.empty(*self.size)).accepted is None:
            raise ValueError(f"no pixel's label has a probability of {threshold:.2f}: lower the threshold")
        return accept

    def tell(self) -> None:
        """Tell all tabs."""
        for watcher in tuple(self.watchers):
            watcher()

    def layer(self, kind: str, palette: Palette) -> bytes | None:
        """Paint a picture of the image.

        Args:
            kind: "image", which is a JPEG, "scribbles", "labeling", "accepted" or "uncertainty", which are PNGs.
            palette: colors of all labels, uint8 ``(256, 3)``.

        Returns:
            The file; None if there is no such picture.
        """
        current, labeling, scores = self.document.current, self.labeling, self.scores
        if kind == "image":
            return self.encoded
        if kind == "scribbles":
            return scribble_layer(current.labels, palette)
        if kind == "labeling" and labeling is not None:
            return labeling_layer(labeling.labels, palette)
        if kind == "accepted" and current.accepted is not None:
            step = -(-max(self.size) // MAX_SIDE)
            return labeling_layer(current.accepted[::step, ::step], palette)
        if kind == "uncertainty" and scores is not None:
            return uncertainty_layer(scores.values)
        return None


def read_open_image(folder: PaintFolder, name: str, seen: dict[str, int]) -> OpenImage:
    """Open an image of a folder, whose list then says whether that is possible.

    Args:
        folder: the folder.
        name: of the image, in its list.
        seen: of :class:`OpenImage`.

    Raises:
        ValueError: if it cannot be opened, for whatever reason.
    """
    entry = folder.entries[name]
    try:
        pixels = folder.read_image(name)
        size = pixels.shape[1], pixels.shape[2]
        known = folder.read(name, size)
        opened = OpenImage(name, size, image_layer(pixels), Preview(pixels), Document(known), known, seen=seen)
    except Exception as error:  # of any library that reads, or too little memory
        entry.problem = _reason(entry.path, error)
        raise UserError(entry.problem) from error
    entry.problem = None
    folder.note(name, known)
    return opened


def _reason(path: Path, error: Exception) -> str:
    if isinstance(error, UserError):
        return str(error)
    return f"{path} cannot be opened ({getattr(error, 'strerror', None) or str(error) or type(error).__name__})"
