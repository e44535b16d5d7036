"""Training of the folder that is painted, as the page sees it: started, followed, stopped."""

import asyncio
import csv
import json
import math
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from weakseg_lightning.data.folder.recipe import is_users_own, recipe_of, runs_of
from weakseg_lightning.painting.image_reader import ImageReader

__all__ = ["TrainingRun", "TrainingState"]

_PROCESS = "weakseg_lightning.cli.training"  # this room knows nothing else of the command line
_LOOK_EVERY = 0.5
_KILL_AFTER = 60.0  # a step, or fitting the head before the first one, has to end
_MOST_POINTS = 500
_END_OF_LOG = 2**16
_FOLLOWED = ("--trainer.log_every_n_steps", "5", "--trainer.enable_progress_bar", "false")

_TERMINATED = 1 if sys.platform == "win32" else -signal.SIGTERM  # status of a process that was asked to end

Curve = tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class TrainingState:
    """State of a training. Replaced, never changed.

    Attributes:
        phase: "idle", "running", "stopping", "done", "stopped" or "failed".
        text: one line: by which recipe; where it failed the error and the file with all that was printed.
        step: iterations that are known to be done.
        steps: iterations in all; 0 where they are not known.
        curve: iterations and the training loss in them, at most about 500 of them.
        checkpoint: what `weakseg predict` takes; None where there is nothing yet.
    """

    phase: Literal["idle", "running", "stopping", "done", "stopped", "failed"] = "idle"
    text: str = ""
    step: int = 0
    steps: int = 0
    curve: Curve = ()
    checkpoint: Path | None = None


class TrainingRun:
    """`weakseg init`, where there is no recipe of the users', and `weakseg fit`, in a process of their own.

    The process goes on if this one is killed; what it prints goes to ``runs/NAME/training.log``. All methods run on
    one event loop, which they never block.

    Args:
        data: folder with the images.
        folder: working directory: NAME.yaml, as `weakseg init` names the recipe, and runs/ are there.
        encoder_weights: of `weakseg init`; None to train from scratch.
        options: more of `weakseg fit`.
        reader: reads the images.

    Attributes:
        state: its state.
        watchers: called on the loop after every change of it.
    """

    def __init__(
        self,
        data: Path,
        folder: Path,
        encoder_weights: str | None,
        options: Sequence[str] = (),
        reader: ImageReader = ImageReader(),  # noqa: B008 - frozen
    ) -> None:
        self.state = TrainingState()
        self.watchers: list[Callable[[], None]] = []
        self._folder = folder.absolute()
        self._recipe = self._folder / recipe_of(data.absolute())
        named = {"channels": reader.channels, "guide": reader.guide}
        of_init = [f"--{name}={json.dumps(value)}" for name, value in named.items() if value is not None]
        given = [str(data.absolute()), self._recipe.name, encoder_weights or "null", *of_init, *_FOLLOWED, *options]
        # -P: a file of the users' that is called as a module of Python's is not taken for it.
        self._command = [sys.executable, "-P", "-u", "-m", _PROCESS, *given]
        self._task: asyncio.Task[None] | None = None
        self._terminated = False
        self._kill_at = math.inf

    async def start(self) -> None:
        """Start to train, unless it is under way."""
        if self.state.phase in ("running", "stopping"):
            return
        self._terminated, self._kill_at = False, math.inf
        self._set(TrainingState("running", "starting"))
        self._task = asyncio.get_running_loop().create_task(self._train())

    async def stop(self) -> None:
        """Stop after the present step, with its checkpoint; wait for that, a minute at most."""
        if self._task is None:
            return
        if self.state.phase == "running":
            self._kill_at = time.monotonic() + _KILL_AFTER
            self._set(replace(self.state, phase="stopping"))
        await asyncio.wait([self._task])

    async def close(self) -> None:
        """Stop at the end of the page."""
        await self.stop()

    def hurry(self) -> None:
        """Wait no longer for a training that is being stopped: kill it."""
        self._kill_at = time.monotonic()

    # ---- the way of one process --------------------------------------------------------------------------

    async def _train(self) -> None:
        try:
            files = await asyncio.to_thread(_Files.of, self._recipe)
            process = await asyncio.to_thread(self._launch, files.log)
            while (status := process.poll()) is None:
                if self.state.phase == "stopping":
                    self._end(process)
                await asyncio.sleep(_LOOK_EVERY)
                seen = await asyncio.to_thread(files.look)
                self._set(replace(self.state, **seen))
            stopped = self.state.phase == "stopping"
            seen = await asyncio.to_thread(lambda: {**files.look(), **files.outcome(status, stopped)})
            self._set(replace(self.state, **seen))
        except (OSError, ValueError) as error:
            self._set(replace(self.state, phase="failed", text=f"training cannot be followed: {error}"))

    def _launch(self, log: Path) -> subprocess.Popen[bytes]:
        with log.open("ab") as output:
            # A session of its own: Ctrl-C at the page's terminal is not meant for it.
            return subprocess.Popen(
                self._command,
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),  # the same on Windows
            )

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        """Ask the process to end; later, kill it and those that load its data."""
        if not self._terminated:
            self._terminated = True
            process.terminate()
        elif time.monotonic() > self._kill_at:
            if hasattr(os, "killpg"):
                os.killpg(process.pid, signal.SIGKILL)
            else:  # Windows
                process.kill()

    def _set(self, state: TrainingState) -> None:
        if state != self.state:
            self.state = state
            for watcher in tuple(self.watchers):
                watcher()


@dataclass
class _Files:
    """What one process reads and writes, looked at from outside.

    Attributes:
        runs: folder of all runs by the recipe.
        recipe: which, in words.
        log: what the process prints.
        begins: where in it.
        earlier: runs of before.
    """

    runs: Path
    recipe: str
    log: Path
    begins: int
    earlier: frozenset[Path]

    @classmethod
    def of(cls, recipe: Path) -> "_Files":
        runs = runs_of(recipe)
        runs.mkdir(parents=True, exist_ok=True)
        log = runs / "training.log"
        begins = log.stat().st_size if log.exists() else 0
        written = "as you left it" if is_users_own(recipe) else "written by `weakseg init`"
        return cls(runs, f"{recipe.name}, {written}", log, begins, frozenset(runs.glob("version_*")))

    @property
    def run(self) -> Path | None:
        """The folder of the run, once there is one."""
        return next((path for path in self.runs.glob("version_*") if path not in self.earlier), None)

    def look(self) -> dict[str, Any]:
        """Find text, steps and curve so far."""
        seen: dict[str, Any] = {"text": f"by {self.recipe}"}
        if (run := self.run) is not None:
            seen["steps"] = _planned_steps(run / "config.yaml")
            if losses := _losses(run / "metrics.csv"):
                seen["step"] = losses[-1][0]
                every = -(-len(losses) // _MOST_POINTS)
                seen["curve"] = tuple(losses[::-every][::-1])  # the last is among them
        return seen

    def outcome(self, status: int, stopped: bool) -> dict[str, Any]:
        """Tell how it ended.

        Args:
            status: of the process.
            stopped: whether it had been asked to end.
        """
        checkpoint = self._last_checkpoint()
        if status == 0:
            return {"phase": "done", "text": f"by {self.recipe}", "checkpoint": self._best_checkpoint() or checkpoint}
        if (stopped and (status < 0 or status == _TERMINATED)) or status == 130:
            missing = "" if checkpoint else ", before the first step was done"
            return {"phase": "stopped", "text": f"by {self.recipe}{missing}", "checkpoint": checkpoint}
        why = self._last_error()
        if status < 0:
            why = f"the training process was killed ({signal.Signals(-status).name}), as where memory runs out"
        return {"phase": "failed", "text": f"{why} (all that was printed: {self.log})", "checkpoint": checkpoint}

    def _last_checkpoint(self) -> Path | None:
        folder = (self.run or self.runs) / "checkpoints"
        # One that was killed between two names has the state before the last one alone.
        return next((path for name in ("last", "previous") if (path := folder / f"{name}.ckpt").is_file()), None)

    def _best_checkpoint(self) -> Path | None:
        """The checkpoint that the command named in the end."""
        named = re.findall(r"^  weakseg predict .*--ckpt_path (.+)$", self._printed(), re.MULTILINE)
        return self.runs.parent.parent / shlex.split(named[-1])[0] if named else None

    def _last_error(self) -> str:
        """Find what the command says of an error, or the last line of a traceback."""
        lines = [line.strip() for line in self._printed().splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith("weakseg: error: ")] or lines
        return errors[-1].removeprefix("weakseg: error: ") if errors else "training ended without a word"

    def _printed(self) -> str:
        with self.log.open("rb") as printed:
            printed.seek(max(self.begins, self.log.stat().st_size - _END_OF_LOG))
            return printed.read().decode(errors="replace")


def _losses(metrics: Path) -> list[tuple[int, float]]:
    """Steps done and losses, of the rows that make sense: the file may be half written, or not be there yet."""
    found = []
    with suppress(OSError, csv.Error):
        text = metrics.read_text(encoding="utf-8", errors="replace")
        for row in csv.DictReader(text[: text.rfind("\n") + 1].splitlines()):
            with suppress(ValueError):
                found.append((int(row.get("step") or "") + 1, float(row.get("train_loss") or "")))
    return [(step, loss) for step, loss in found if math.isfinite(loss)]


def _planned_steps(config: Path) -> int:
    try:
        text = config.read_text(encoding="utf-8", errors="replace")
    except OSError:  # not yet
        return 0
    planned = re.search(r"^  max_steps: (\d+)$", text, re.MULTILINE)
    return int(planned[1]) if planned else 0
