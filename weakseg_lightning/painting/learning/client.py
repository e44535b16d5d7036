"""The learner as the page sees it: told what is drawn, asked for scores, started again where it dies."""

import asyncio
import multiprocessing
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

from weakseg_lightning.painting.document import ImageAnnotation
from weakseg_lightning.painting.learning.messages import (
    Answer,
    Learned,
    LearningSettings,
    Message,
    Scores,
    Shown,
    UseNetwork,
    reduced_seeds,
)
from weakseg_lightning.painting.learning.worker import work

__all__ = ["Learning", "LearningSettings", "LearningState", "Scores"]

_MAX_DEATHS = 3


@dataclass(frozen=True, kw_only=True)
class LearningState(Learned):
    """State of the learner. Replaced, never changed.

    Attributes:
        phase: "starting", "ready", or "off".
        text: one line: why it is off, or why a network could not be used; empty otherwise.
        total: images.
        source: what gives the scores.
    """

    phase: Literal["starting", "ready", "off"] = "starting"
    text: str = ""
    total: int = 0
    source: Literal["head", "network"] = "head"


class Learning:
    """The learner in a process of its own, as the page sees it.

    All methods run on the event loop and return at once.

    Args:
        settings: encoder and memory.
        images: files of all images, by name.
        num_classes: classes K, background included.

    Attributes:
        state: its state.
        watchers: called on the loop, with the name of an image whose scores are new, with None where the state is.
    """

    def __init__(self, settings: LearningSettings, images: Mapping[str, Path], num_classes: int) -> None:
        self.state = LearningState(total=len(images))
        self.watchers: list[Callable[[str | None], None]] = []
        self._arguments = settings, dict(images), num_classes
        self._scores: dict[str, Scores] = {}
        self._shown: tuple[str, ...] = ()
        # What the learner has to know, by what it is about: all of it is told again to the next process.
        self._known: dict[object, Message] = {}
        self._untold: dict[object, None] = {}
        self._more = asyncio.Event()
        self._latest: dict[str, ImageAnnotation] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._process: Any = None
        self._deaths = self._farthest = 0

    @property
    def pid(self) -> int | None:
        """Number of the learner's process; None where there is none."""
        return None if self._process is None else self._process.pid

    async def run(self) -> None:
        """Run the learner, until this is cancelled, it is closed, or it stays off."""
        try:
            while not self._is_off and self._deaths < _MAX_DEATHS:
                await self._live()
                if not self._is_off:
                    self._deaths += 1
                    self._set(phase="starting")
            if not self._is_off:
                self._set(phase="off", text=f"learning is off: its process ended {_MAX_DEATHS} times in a row")
        finally:
            self.close()

    @property
    def _is_off(self) -> bool:
        return self.state.phase == "off"

    def close(self) -> None:
        """End the learner; nothing of it is on the disk that could be lost."""
        if self._process is not None:
            self._process.kill()
        if not self._is_off:
            self._set(phase="off")

    def show(self, names: Sequence[str]) -> None:
        """Say which images are shown: the open ones first, then neighbors. Scores are kept for these alone."""
        self._shown = tuple(names)
        self._scores = {name: found for name, found in self._scores.items() if name in self._shown}
        self._tell(Shown, Shown(self._shown))

    def annotate(self, name: str, version: int, annotation: ImageAnnotation) -> None:
        """Say what is drawn on an image.

        Args:
            name: of the image.
            version: of the annotation; it comes back with scores that were learned from it.
            annotation: all of it, as it is now.
        """
        self._latest[name] = annotation
        task = asyncio.get_running_loop().create_task(self._reduce(name, version, annotation))
        self._tasks.add(task)  # the loop itself keeps no strong reference
        task.add_done_callback(self._tasks.discard)

    def scores(self, name: str) -> Scores | None:
        """Find the latest scores of an image that is shown; None if there are none."""
        return self._scores.get(name)

    def use_network(self, checkpoint: Path | None) -> None:
        """Take scores from a trained network, or from the head again.

        Args:
            checkpoint: one that `weakseg fit` wrote; None = the head.
        """
        self._scores.clear()
        self._set(source="head" if checkpoint is None else "network", text="")
        self._tell(UseNetwork, UseNetwork(checkpoint))

    # ---- one life of the process -------------------------------------------------------------------------

    async def _live(self) -> None:
        """Start the process, and pass messages until it ends."""
        context = multiprocessing.get_context("spawn")  # a fork would inherit the locks of the page's threads
        own, others = context.Pipe()
        process = context.Process(target=work, args=(others, *self._arguments), daemon=True)
        await asyncio.to_thread(process.start)
        others.close()  # so that the pipe ends with the process
        self._process = process
        self._untold = dict.fromkeys(self._known)
        ended = asyncio.Event()
        threading.Thread(target=self._receive, args=(own, asyncio.get_running_loop(), ended), daemon=True).start()
        sending = asyncio.create_task(self._send(own))
        try:
            await ended.wait()
        finally:
            sending.cancel()
            process.kill()
            self._process = None
        await asyncio.to_thread(process.join)

    def _receive(self, connection: Connection, loop: asyncio.AbstractEventLoop, ended: asyncio.Event) -> None:
        """Hand on what the process says, in a thread, until the process ends."""
        with suppress(RuntimeError):  # the loop is closed
            with connection, suppress(EOFError, OSError):
                while True:
                    loop.call_soon_threadsafe(self._hear, connection.recv())
            loop.call_soon_threadsafe(ended.set)

    async def _send(self, connection: Connection) -> None:
        """Tell the process what it does not know yet, the newest first."""
        self._more.set()
        with suppress(OSError):  # the process has ended: the next one is told everything
            while await self._more.wait():
                self._more.clear()
                while self._untold:
                    about, _ = self._untold.popitem()
                    await asyncio.to_thread(connection.send, self._known[about])

    async def _reduce(self, name: str, version: int, annotation: ImageAnnotation) -> None:
        """Keep and tell what fits through the pipe of an annotation, unless there is a later one."""
        reduced = await asyncio.to_thread(reduced_seeds, name, version, annotation)
        if self._latest.get(name) is annotation:
            del self._latest[name]
            self._tell(name, reduced)

    def _hear(self, answer: Answer) -> None:
        if isinstance(answer, Scores):
            if answer.name in self._shown and answer.source == self.state.source:
                self._scores[answer.name] = answer
                self._call_watchers(answer.name)
        elif isinstance(answer, Learned):
            if answer.cached > self._farthest:
                self._farthest, self._deaths = answer.cached, 0
            if not answer.learned and self.state.source == "head" and self.state.phase == "ready":
                self._scores.clear()  # all strokes are gone; a process that has just begun knows none yet
            self._set(phase="ready", **vars(answer))
        elif answer.what == "network":
            self._set(source="head", text=answer.text)
        else:
            self._set(phase="off", text=answer.text)

    def _tell(self, about: object, message: Message) -> None:
        for told in (self._known, self._untold):
            told.pop(about, None)  # the newest last
        self._known[about] = message
        self._untold[about] = None
        self._more.set()

    def _set(self, **changes: Any) -> None:
        self.state = replace(self.state, **changes)
        self._call_watchers(None)

    def _call_watchers(self, name: str | None) -> None:
        for watcher in tuple(self.watchers):
            watcher(name)
