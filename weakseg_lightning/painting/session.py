"""The images that are being annotated, shared by all tabs that show them."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field

from weakseg_lightning.painting.document import Change, Document, ImageAnnotation
from weakseg_lightning.painting.folder import PaintFolder
from weakseg_lightning.painting.pictures import image_layer, labeling_layer, scribble_layer
from weakseg_lightning.painting.preview import Labeling, Preview
from weakseg_lightning.visualization.panels import full_palette

__all__ = ["OpenImage", "Session"]

SAVE_AFTER = 0.7
"""Seconds after a change until it is written."""

_KEPT_OPEN = 8


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
        labeling: of some version of the document; None where fewer than two classes are drawn.
        labeling_version: which version.
        seen: ids of changes that have arrived.
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
    seen: dict[str, None] = field(default_factory=dict)
    watchers: list[Callable[[], None]] = field(default_factory=list)

    @property
    def unsaved(self) -> bool:
        """True if there are changes that are not on the disk."""
        return self.document.version != self.saved

    def tell(self) -> None:
        """Tell all tabs."""
        for watcher in tuple(self.watchers):
            watcher()


class Session:
    """Opens, changes and saves the images of a folder.

    All methods run on one event loop; what takes time is done in threads.

    Args:
        folder: the folder.
    """

    def __init__(self, folder: PaintFolder) -> None:
        self.folder = folder
        self.images: dict[str, OpenImage] = {}
        self._writing = asyncio.Lock()
        self._opening = asyncio.Lock()
        self._solving: set[OpenImage] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._save_at = 0.0

    async def open(self, name: str) -> OpenImage:
        """Open an image; one that is open stays as it is.

        Raises:
            ValueError: if it cannot be used; the folder's list then says why.
        """
        async with self._opening:
            if name not in self.images:
                try:
                    self.images[name] = await asyncio.to_thread(self._read, name)
                except ValueError as error:
                    self.folder.entries[name].problem = str(error)
                    raise
                self._start(self._solve(self.images[name]))
                self._close_oldest()
            return self.images[name]

    def change(self, image: OpenImage, change: Change, key: str | None = None) -> None:
        """Make a change, once.

        Args:
            image: of which image.
            change: which.
            key: names the change where it may come twice: a browser that lost its connection sends it again.
        """
        if key is not None:
            if key in image.seen:
                return
            image.seen[key] = None
        image.document.apply(change)
        self._changed(image)

    def undo(self, image: OpenImage) -> None:
        """Take the last change back."""
        if image.document.undo():
            self._changed(image)

    def redo(self, image: OpenImage) -> None:
        """Make the change again that was taken back last."""
        if image.document.redo():
            self._changed(image)

    async def save(self, image: OpenImage) -> None:
        """Write an image's annotation if it has changed; `OpenImage.trouble` says what went wrong."""
        async with self._writing:
            if not image.unsaved:
                return
            try:
                now = await asyncio.to_thread(self.folder.read, image.name, image.size)
                if not now.same_as(image.on_disk):  # another program has been there: nothing of either is lost
                    image.document.rebase(now, image.on_disk)
                version, annotation = image.document.version, image.document.current
                await asyncio.to_thread(self.folder.write, image.name, annotation)
            except (OSError, ValueError) as error:
                image.trouble = str(error)
            else:
                image.on_disk, image.saved, image.trouble = annotation, version, ""
        image.tell()

    async def save_all(self) -> list[str]:
        """Write everything; return what could not be written and why."""
        for image in list(self.images.values()):
            await self.save(image)
        return [f"{image.name}: {image.trouble}" for image in self.images.values() if image.unsaved]

    # ---- layers that the browser shows -------------------------------------------------------------------

    def scribbles(self, image: OpenImage) -> bytes:
        """Paint the scribbles, PNG."""
        return scribble_layer(image.document.current.labels, full_palette(self.folder.classes.palette))

    def labeling(self, image: OpenImage) -> bytes | None:
        """Paint the labeling, PNG; None if there is none."""
        if image.labeling is None:
            return None
        return labeling_layer(image.labeling.labels, full_palette(self.folder.classes.palette))

    # ---- the work ----------------------------------------------------------------------------------------

    def _read(self, name: str) -> OpenImage:
        pixels = self.folder.read_image(name)
        size = pixels.shape[1], pixels.shape[2]
        annotation = self.folder.read(name, size)
        return OpenImage(name, size, image_layer(pixels), Preview(pixels), Document(annotation), annotation)

    def _changed(self, image: OpenImage) -> None:
        image.tell()
        self._start(self._solve(image))
        self._start(self._save_soon(image))

    async def _solve(self, image: OpenImage) -> None:
        """Label the image again; changes that come meanwhile are taken together after it."""
        if image in self._solving:
            return
        self._solving.add(image)
        try:
            while image.labeling_version != image.document.version:
                version = image.document.version
                image.labeling = await asyncio.to_thread(image.preview.solve, image.document.current)
                image.labeling_version = version
                image.tell()
        finally:
            self._solving.discard(image)

    async def _save_soon(self, image: OpenImage) -> None:
        """Save once nothing has changed for a moment."""
        version = image.document.version
        await asyncio.sleep(SAVE_AFTER)
        if version == image.document.version:
            await self.save(image)

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)  # the loop itself keeps no strong reference
        task.add_done_callback(self._tasks.discard)

    def _close_oldest(self) -> None:
        """Forget images, the first first, that are saved and that no tab shows; their undo history goes with them."""
        for name, image in list(self.images.items())[: max(len(self.images) - _KEPT_OPEN, 0)]:
            if not image.unsaved and not image.watchers and image not in self._solving:
                del self.images[name]
