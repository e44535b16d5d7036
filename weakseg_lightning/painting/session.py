"""The images that are being annotated, shared by all tabs that show them."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from weakseg_lightning.errors import UserError
from weakseg_lightning.painting.document import Change, ImageAnnotation, Step
from weakseg_lightning.painting.folder import PaintFolder
from weakseg_lightning.painting.learning.client import Learning, LearningState, Scores
from weakseg_lightning.painting.open_image import Key, OpenImage, read_open_image

if TYPE_CHECKING:
    from weakseg_lightning.painting.learning.training import TrainingRun

__all__ = ["Session"]

SAVE_AFTER = 0.7
"""Seconds after the last change until it is written."""
SAVE_AT_LATEST = 3.0
"""Seconds after the first change until it is written, however many follow."""
TRY_AGAIN_AFTER = 5.0
"""Seconds after which what could not be written is tried again."""

_KEPT_OPEN = 8


class Session:
    """Opens, changes and saves the images of a folder.

    All methods run on one event loop; what takes time is done in threads.

    Args:
        folder: the folder.
        learning: what learns from all that is drawn; None = each labeling comes from its own image alone.
        training: what trains a network on the folder; None = nothing does.

    Attributes:
        watchers: called when the state of the learner or of the training has changed.
        receipts: called with each image whose changes, some of them or all, need not be sent again.
    """

    def __init__(
        self, folder: PaintFolder, learning: Learning | None = None, training: "TrainingRun | None" = None
    ) -> None:
        self.folder = folder
        self.learning = learning
        self.training = training
        self.images: dict[str, OpenImage] = {}
        self.watchers: list[Callable[[], None]] = []
        self.receipts: list[Callable[[OpenImage], None]] = []
        self._seen: dict[str, dict[str, int]] = {}  # also of images that are closed
        self._waiting: dict[str, list[tuple[Change | Step | None, Key]]] = {}  # for images that are not open
        self._changed_at: dict[OpenImage, float] = {}  # of those that are about to be saved
        self._told: dict[str, int] = {}  # summaries of what the learner knows of images that are closed
        self._network: Path | None = None
        self._shown: list[str] = []
        if learning is not None:
            learning.watchers.append(self._learned)
        if training is not None:
            training.watchers.append(self._trained)
        self._writing = asyncio.Lock()
        self._opening = asyncio.Lock()
        self._solving: set[OpenImage] = set()
        self._retried: set[OpenImage] = set()  # those that wait to be saved once more
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self, name: str) -> OpenImage:
        """Open an image, and make the changes that waited for it; one that is open stays as it is.

        Raises:
            ValueError: if it cannot be opened, for whatever reason; the folder's list then says why.
        """
        async with self._opening:
            if name not in self.images:
                seen = self._seen.setdefault(name, {})
                image = self.images[name] = await asyncio.to_thread(read_open_image, self.folder, name, seen)
                known = image.on_disk
                if (name in self._told or known.is_drawn) and self._told.get(name) != known.summary:
                    self._tell_drawn(image)  # another program has been there
                for change, key in self._waiting.pop(name, ()):
                    self.change(image, change, key)
                self._start(self._solve(image))
                self._close_oldest()
            return self.images[name]

    def watch(self, image: OpenImage, watcher: Callable[[], None]) -> None:
        """Show an image in a tab: the watcher is called after every change of it."""
        image.watchers.append(watcher)
        self._tell_shown()
        self._start(self._solve(image))

    def leave(self, image: OpenImage, watcher: Callable[[], None]) -> None:
        """Show an image in a tab no longer."""
        if watcher in image.watchers:
            image.watchers.remove(watcher)

    def receive(self, name: str, change: Change | Step | None, key: Key) -> bool:
        """Make a change of an image, open or not, as :meth:`change`; False if it waits for the image to be opened."""
        if (image := self.images.get(name)) is not None:
            self.change(image, change, key)
        else:
            self._waiting.setdefault(name, []).append((change, key))
        return image is not None

    def change(self, image: OpenImage, change: Change | Step | None, key: Key | None = None) -> None:
        """Make a change, once.

        Args:
            image: of which image.
            change: which; undo and redo are among them, as they come in one order with strokes; None = one that makes
                no sense, which only is not to be sent again.
            key: names the change where it may come twice: a browser that lost its connection sends it again.
        """
        made = False
        if key is None or image.receive(key):
            if change == "undo":
                made = image.document.undo()
            elif change == "redo":
                made = image.document.redo()
            elif change is not None:
                image.document.apply(change)
                made = True
        if made:
            self._changed(image)
        elif key is not None:
            image.tell()
            self._confirm(image)

    async def save(self, image: OpenImage) -> None:
        """Write an image's annotation if it has changed; `OpenImage.trouble` says what went wrong."""
        async with self._writing:
            if not image.unsaved:
                return
            try:
                now = await asyncio.to_thread(self.folder.read, image.name, image.size)
                if not now.same_as(image.on_disk):  # another program has been there: nothing of either is lost
                    image.document.rebase(now, image.on_disk)
                    self._tell_drawn(image)
                version, annotation = image.document.version, image.document.current
                seen = dict(image.seen)
                await self._write(image, annotation)
            except (OSError, ValueError) as error:
                image.trouble = str(error)
            else:
                image.on_disk, image.saved, image.written, image.trouble = annotation, version, seen, ""
                self._confirm(image)
        image.tell()

    def _confirm(self, image: OpenImage) -> None:
        """Tell all tabs, whatever image they show: one may have been left before its strokes were written."""
        for receipt in tuple(self.receipts):
            receipt(image)

    async def _write(self, image: OpenImage, annotation: ImageAnnotation) -> None:
        try:
            await asyncio.to_thread(self.folder.write, image.name, annotation)
        except (OSError, ValueError):
            # Some of the files may be written: next time they must not be taken for another program's.
            image.on_disk = await asyncio.to_thread(self.folder.read, image.name, image.size)
            raise

    async def save_all(self) -> list[str]:
        """Write everything; return what could not be written and why."""
        unsaved = []
        for name, waiting in list(self._waiting.items()):
            try:
                await self.open(name)
            except ValueError as error:
                unsaved.append(f"{name}: {len(waiting)} changes that only the browser has: {error}")
        for image in list(self.images.values()):
            await self.save(image)
        return unsaved + [f"{image.name}: {image.trouble}" for image in self.images.values() if image.unsaved]

    # ---- learning, accepting, training -------------------------------------------------------------------

    async def learn(self) -> None:
        """Run the learner, and tell it what was drawn before; until cancelled."""
        if self.learning is None:
            return
        running = asyncio.create_task(self.learning.run())
        try:
            for name, entry in self.folder.entries.items():
                if not entry.annotated or entry.problem is not None:
                    continue
                with suppress(Exception):  # is said when the image is opened
                    found, summary = await asyncio.to_thread(self._read_annotation, name)
                    if (image := self.images.get(name)) is None:
                        self._told[name] = summary
                        self.learning.annotate(name, 0, found)
                    else:
                        self._tell_drawn(image)
            await running
        finally:
            running.cancel()

    @property
    def learning_state(self) -> LearningState:
        """State of the learner."""
        if self.learning is None:
            return LearningState(phase="off", text="learning is off: --encoder null")
        return self.learning.state

    def needed(self) -> list[str]:
        """Images about which nothing is known, the one where a stroke helps most first."""
        return self.folder.needed(self.learning_state.order)

    async def accept(self, image: OpenImage, threshold: float) -> None:
        """Take an image's labeling for its labels, see :meth:`OpenImage.accept_labeling`."""
        self.change(image, await asyncio.to_thread(image.accept_labeling, threshold))

    async def train(self) -> None:
        """Save everything and begin to train; raises ``UserError`` if something could not be saved."""
        if self.training is not None:
            if unsaved := await self.save_all():
                raise UserError(f"not saved, so that training would not know it: {'; '.join(unsaved)}")
            await self.training.start()

    def use_network(self, wanted: bool) -> None:
        """Take the scores from the network that was trained last, or from the head."""
        if self.learning is not None:
            self.learning.use_network(self._network if wanted else None)

    @property
    def is_training(self) -> bool:
        """True while a network is trained."""
        return self.training is not None and self.training.state.phase in ("running", "stopping")

    @property
    def has_network(self) -> bool:
        """True if a network has been trained that can give the scores."""
        return self._network is not None and self.learning_state.phase != "off"

    async def close(self) -> None:
        """End the learner and the training."""
        if self.learning is not None:
            self.learning.close()
        if self.training is not None:
            await self.training.close()

    def _trained(self) -> None:
        assert self.training is not None
        checkpoint = self.training.state.checkpoint
        if self.training.state.phase in ("done", "stopped") and checkpoint not in (None, self._network):
            self._network = checkpoint
            self.use_network(True)
        self._tell_tabs()

    def _learned(self, name: str | None) -> None:
        for image in self.images.values() if name is None else filter(None, [self.images.get(name)]):
            if image.watchers:
                self._start(self._solve(image))
        if name is None:
            self._tell_shown()
            self._tell_tabs()

    def _tell_tabs(self) -> None:
        for watcher in tuple(self.watchers):
            watcher()

    def _tell_drawn(self, image: OpenImage) -> None:
        if self.learning is not None:
            self.learning.annotate(image.name, image.document.version, image.document.current)

    def _tell_shown(self) -> None:
        """Name the images whose scores are needed now, and those where users are likely to go."""
        if self.learning is None:
            return
        usable = [name for name, entry in self.folder.entries.items() if entry.problem is None]
        shown = [name for name, image in self.images.items() if image.watchers]
        places = [usable.index(name) for name in shown if name in usable]
        near = [usable[(place + step) % len(usable)] for place in places for step in (1, -1)]
        names = list(dict.fromkeys([*shown, *self.learning.state.order[:1], *near]))
        if names != self._shown:
            self._shown = names
            self.learning.show(names)

    # ---- the work ----------------------------------------------------------------------------------------

    def _read_annotation(self, name: str) -> tuple[ImageAnnotation, int]:
        found = self.folder.read(name, self.folder.size(name))
        return found, found.summary

    def _changed(self, image: OpenImage) -> None:
        image.tell()
        self._tell_drawn(image)
        self._start(self._solve(image))
        if image not in self._changed_at:
            self._start(self._save_soon(image))
        self._changed_at[image] = time.monotonic()

    async def _solve(self, image: OpenImage) -> None:
        """Label the image again; changes and scores that come meanwhile are taken together after it."""
        if image in self._solving:
            return
        self._solving.add(image)
        try:
            while not self._is_labeled(image):
                version, current, scores = image.document.version, image.document.current, self._scores(image)
                image.labeling = await asyncio.to_thread(
                    image.preview.solve, current, None if scores is None else scores.values
                )
                image.labeling_version, image.scores = version, scores
                image.labelings += 1
                image.tell()
        finally:
            self._solving.discard(image)

    def _is_labeled(self, image: OpenImage) -> bool:
        return image.labeling_version == image.document.version and image.scores is self._scores(image)

    def _scores(self, image: OpenImage) -> Scores | None:
        """The latest scores; the ones before where new ones are only on their way."""
        if self.learning is None or (state := self.learning.state).phase == "off":
            return None
        if state.phase == "ready" and state.source == "head" and not state.learned:
            return None  # all strokes are gone
        return self.learning.scores(image.name) or image.scores

    async def _save_soon(self, image: OpenImage) -> None:
        """Save once nothing has changed for a moment, or a little later where changes do not cease."""
        pause, latest = SAVE_AFTER, time.monotonic() + SAVE_AT_LATEST
        while pause > 0:
            await asyncio.sleep(pause)
            pause = min(self._changed_at[image] + SAVE_AFTER, latest) - time.monotonic()
        del self._changed_at[image]
        await self.save(image)
        while image.trouble and image not in self._retried:
            self._retried.add(image)
            await asyncio.sleep(TRY_AGAIN_AFTER)
            self._retried.discard(image)
            await self.save(image)

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)  # the loop itself keeps no strong reference
        task.add_done_callback(self._tasks.discard)

    def _close_oldest(self) -> None:
        """Forget images, the first first, that are saved and that no tab shows; their undo history goes with them."""
        for name, image in list(self.images.items())[: max(len(self.images) - _KEPT_OPEN, 0)]:
            if not image.unsaved and not image.watchers and image not in self._solving:
                self._told[name] = image.on_disk.summary
                del self.images[name]
