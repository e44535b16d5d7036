"""Stand-ins for the learner and the training, without their processes; as a program, a page with both of them."""

import asyncio
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from weakseg_lightning.painting.learning.client import LearningState, Scores


class Learner:
    """Knows what it was told; gives scores as a test says, or by itself for each image that is shown or drawn on."""

    def __init__(self, by_itself: bool = False):
        self.by_itself = by_itself
        self.state = LearningState(phase="ready", cached=3, total=3, learned=1)
        self.watchers, self.told, self.shown, self.networks, self.found = [], [], [], [], {}

    async def run(self):
        await asyncio.Event().wait()

    def close(self):
        pass

    def show(self, names):
        self.shown.append(list(names))
        for name in names if self.by_itself else ():
            self.later(name, -1)

    def annotate(self, name, version, annotation):
        self.told.append((name, version, int((annotation.labels != 255).sum())))
        if self.by_itself:
            self.later(name, version)

    def scores(self, name):
        return self.found.get(name)

    def use_network(self, checkpoint):
        self.networks.append(checkpoint)
        self.tell(source="head" if checkpoint is None else "network")
        if self.by_itself:
            for name in self.found:
                self.later(name, -1)

    def later(self, name, version):
        """Find scores in a moment; a network says of the left half that it is a dog, the head, a cat."""

        def find():
            by_network = self.state.source == "network"
            self.tell(learned=1, held_out=0.875, held_out_strokes=4, order=tuple("cba"))
            self.find(name, version, 2 if by_network else 1, self.state.source)

        asyncio.get_running_loop().call_later(0.05, find)

    def find(self, name, version, left=1, source="head"):
        """The left half is of one class, the right of another, with a probability of 0.95 in all but one column."""
        probability = np.full((3, 4, 6), 0.025)
        probability[left, :, :3] = probability[0, :, 3:] = 0.95
        probability[:, :, 5] = 1 / 3
        self.found[name] = Scores(name, version, np.log(probability).astype(np.float16), source)
        self.tell(name)

    def forget(self):
        """All strokes are gone."""
        self.found.clear()
        self.tell(learned=0)

    def tell(self, name=None, **state):
        self.state = replace(self.state, **state)
        for watcher in self.watchers:
            watcher(name)


class Training:
    """Trains for some steps that take a moment each; fails where there is a file called `fail`."""

    def __init__(self, folder: Path):
        from weakseg_lightning.painting.learning.training import TrainingState

        self.state, self.watchers, self.folder = TrainingState(), [], folder

    async def start(self):
        self.task = asyncio.create_task(self.train())

    async def train(self):
        self.set(phase="running", text="by data.yaml", steps=30, step=0, curve=())
        for step in range(1, 31):
            await asyncio.sleep(0.3)
            if (self.folder / "fail").exists():
                return self.set(phase="failed", text="the disk is full (all that was printed: training.log)")
            if self.state.phase == "stopping":
                return self.set(phase="stopped", checkpoint=self.folder / "last.ckpt")
            self.set(step=step, curve=(*self.state.curve, (step, 1 / step)))
        return self.set(phase="done", checkpoint=self.folder / "best.ckpt")

    async def stop(self):
        self.set(phase="stopping")
        await self.task

    async def close(self):
        pass

    def set(self, **changes):
        self.state = replace(self.state, **changes)
        for watcher in self.watchers:
            watcher()


if __name__ == "__main__":
    from weakseg_lightning.painting.folder import PaintFolder
    from weakseg_lightning.painting.server import serve
    from weakseg_lightning.painting.session import Session

    data = Path(sys.argv[1])
    session = Session(PaintFolder(data, ["background", "cat", "dog"]), Learner(by_itself=True), Training(data))
    serve(session, 0, lambda address: print(f"open {address}", flush=True))
