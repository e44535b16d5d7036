"""The learner's process: it hears what is drawn, does what is most urgent, and tells what it found."""

import signal
from collections.abc import Iterator, Mapping
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

from weakseg_lightning.data.samples import BadSampleError
from weakseg_lightning.painting.learning.messages import (
    Annotated,
    Answer,
    Failed,
    Learned,
    LearningSettings,
    Message,
    Scores,
    Shown,
    UseNetwork,
)

if TYPE_CHECKING:
    from weakseg_lightning.painting.learning.learner import Learner
    from weakseg_lightning.painting.learning.network import TrainedNetwork

__all__ = ["Desk", "work"]

_ORDERED_EACH = 25  # images encoded between two looks at their order


def work(connection: Connection, settings: LearningSettings, images: Mapping[str, Path], num_classes: int) -> None:
    """Learn until the other end of the pipe is closed, as it is when the page's process dies.

    Args:
        connection: the learner's end.
        settings: encoder and memory.
        images: files of all images, by name.
        num_classes: classes K.
    """
    import torch

    from weakseg_lightning.painting.learning.learner import Learner

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the page, which saves and then ends this process
    torch.set_num_threads(1)  # the other cores are the page's
    with connection, suppress(EOFError, BrokenPipeError, ConnectionResetError):  # the page is gone
        try:
            desk = Desk(Learner(settings, images, num_classes))
        except (ValueError, OSError, ImportError) as error:
            connection.send(Failed(f"learning is off: {_one_line(error)} (of `weakseg paint`: --encoder_weights FILE)"))
        else:
            connection.send(desk.report())
            _serve(connection, desk)


def _serve(connection: Connection, desk: "Desk") -> None:
    tasks: Iterator[Answer | None] = iter(())
    done = object()
    answer: object = done
    while True:
        # Sleeps only where nothing is left to do; all that waits is heard before any more work.
        heard = connection.poll(None if answer is done else 0)
        if heard:
            while connection.poll(0):
                desk.hear(connection.recv())
            tasks = desk.tasks()
        answer = next(tasks, done)
        if answer is not None and answer is not done:
            connection.send(answer)


class Desk:
    """What has been heard, and the work that follows from it.

    Args:
        learner: does the work.
    """

    def __init__(self, learner: "Learner") -> None:
        self.learner = learner
        self.shown: tuple[str, ...] = ()
        self.network: TrainedNetwork | None = None
        self._checkpoint: Path | None = None
        self._loads = False
        self._order: tuple[str, ...] = ()
        self._told: dict[str, object] = {}  # what scores of an image that is shown came from when they were last told

    def hear(self, message: Message) -> None:
        """Take a message; the work that it means is among the tasks from then on."""
        if isinstance(message, Annotated):
            if message.name in self.learner.features.images:
                self.learner.annotate(message)
        elif isinstance(message, Shown):
            self.shown = tuple(name for name in message.names if name in self.learner.features.images)
            self._told = {name: told for name, told in self._told.items() if name in self.shown}
        elif isinstance(message, UseNetwork):
            self._checkpoint, self._loads = message.checkpoint, True
            self._told.clear()

    def report(self) -> Learned:
        """Tell how far the learner is."""
        learner = self.learner
        annotated = set(learner.annotated)
        order = tuple(name for name in self._order if name not in annotated)
        return Learned(
            cached=learner.num_known,
            full=not learner.features.has_room,
            learned=learner.num_learned,
            held_out=learner.held_out,
            held_out_strokes=learner.held_out_strokes,
            order=order,
        )

    def tasks(self) -> Iterator[Answer | None]:
        """Work in small pieces, the most urgent first; each gives what is to be told, or None.

        It may be left at any piece: what is not done is among the next tasks.
        """
        yield from self._load()
        yield from self._learn_shown()
        yield from self._score()
        yield from self._learn_others()
        while self.learner.settle():
            yield None
        yield from self._score()
        yield from self._encode()
        while self.learner.validate():
            yield None
        yield from self._weigh()
        self._order = self.learner.order()
        yield self.report()

    def _load(self) -> Iterator[Answer | None]:
        if not self._loads:
            return
        self._loads, self.network = False, None
        if self._checkpoint is not None:
            from weakseg_lightning.painting.learning.network import TrainedNetwork

            try:
                self.network = TrainedNetwork(self._checkpoint, self.learner.num_classes)
            except (ValueError, OSError, ImportError, RuntimeError) as error:
                yield Failed(_one_line(error), "network")

    def _learn_shown(self) -> Iterator[Answer | None]:
        """Learn from what is being drawn, at once."""
        for name in self.shown:
            if name in self.learner.pending and self._take(name):
                self.learner.adapt()
                yield self.report()

    def _learn_others(self) -> Iterator[Answer | None]:
        """Collect what was drawn before; the fit that follows learns from it, and a first head is worth a moment."""
        for name in self.learner.pending:
            if self._take(name) and not self.learner.num_learned:
                self.learner.adapt()
            yield from self._score()
            yield None

    def _score(self) -> Iterator[Answer | None]:
        """Score the images that are shown, where that has not been done by this head and these strokes."""
        for name in self.shown:
            origin = self.network or (self.learner.head_version, self.learner.learned.get(name, -1))
            if self._told.get(name) != origin and self._encoded(name):
                self._told[name] = origin
                yield self._scores(name)

    def _scores(self, name: str) -> Scores | None:
        if self.network is None:
            return self.learner.scores(name)
        values = self.network.scores(self.learner.features.images[name])
        return Scores(name, self.learner.learned.get(name, -1), values, "network")

    def _encode(self) -> Iterator[Answer | None]:
        """Make the features of all images that there is room for."""
        features = self.learner.features
        for name in features.images:
            if not features.has_room:
                return
            if name not in features.sizes and self._encoded(name):
                if len(features.sizes) % _ORDERED_EACH == 0:
                    self._order = self.learner.order()
                yield self.report()

    def _weigh(self) -> Iterator[Answer | None]:
        """Find out how uncertain the head is about each image without strokes."""
        annotated = set(self.learner.annotated)
        for name in list(self.learner.features.sizes):
            if name not in annotated and not self.learner.is_weighed(name) and self._encoded(name):
                self.learner.scores(name)
                yield None

    def _take(self, name: str) -> bool:
        with suppress(BadSampleError):
            self.learner.take(name)
            return True
        return False

    def _encoded(self, name: str) -> bool:
        """True once the features of an image are there; False where it cannot be read."""
        if name in self.learner.features.broken:
            return False
        with suppress(BadSampleError):
            self.learner.features.maps(name)
            return True
        return False


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
