"""Parts of the scripts that measure: their command lines, the trainings that they start, clocks and tables."""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Self, TypeVar

import torch

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]

Name, Found = TypeVar("Name"), TypeVar("Found")


def command_line(text: str | None) -> argparse.ArgumentParser:
    """A command line whose help shows a script's docstring as it stands."""
    return argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)


def resolved(text: str) -> Path:
    """A path that is given, also for programs that run elsewhere."""
    return Path(text).resolve()


def parse_own(parser: argparse.ArgumentParser, arguments: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """Split arguments at ``--``: the script's own, parsed, and those of ``weakseg fit``."""
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    return parser.parse_args(arguments[:cut]), arguments[cut + 1 :]


def cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0))


def machine() -> str:
    """The machine and the version of PyTorch, as measurements name them."""
    return f"{cores()} CPU cores, torch {torch.__version__}"


# ---- programs -----------------------------------------------------------------------------------------------


def run_python(words: Sequence[str], log: Path, threads: int = 1, **environment: str) -> None:
    """Run Python from the project's root; what it says goes to a file.

    Raises:
        subprocess.CalledProcessError: if it fails.
    """
    variables = {**os.environ, "OMP_NUM_THREADS": str(threads), **environment}
    with log.open("w") as file:
        subprocess.run([sys.executable, *words], check=True, cwd=ROOT, stdout=file, stderr=file, env=variables)


def run_once(words: Callable[[], Sequence[str]], folder: Path, threads: int = 1) -> float:
    """Run Python if it has not finished in this folder before; the seconds that it took, then or now."""
    done = folder / "seconds.txt"
    if not done.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with Clock() as clock:
            run_python(words(), folder / "log.txt", threads)
        done.write_text(f"{clock.wall:.1f}")
    return float(done.read_text())


def import_path() -> str:
    """``PYTHONPATH`` of programs that import parts of these scripts, such as callbacks."""
    own = [str(folder) for folder in (HERE, *HERE.iterdir()) if folder.is_dir() and folder.name[0] != "_"]
    return os.pathsep.join([*own, *filter(None, [os.environ.get("PYTHONPATH")])])


def newest(folder: Path, name: str) -> Path:
    """The file of this name in the newest run of a folder."""
    return max(folder.resolve().glob(f"version_*/{name}"), key=lambda path: path.stat().st_mtime)


# ---- numbers ------------------------------------------------------------------------------------------------


class Clock:
    """Wall time and processor time of a block, in seconds."""

    def __enter__(self) -> Self:
        self._began = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.wall = time.perf_counter() - self._began[0]
        self.cpu = time.process_time() - self._began[1]


def interleaved(runs: Mapping[Name, Callable[[], Found]], repeats: int, warm_up: int = 0) -> dict[Name, list[Found]]:
    """Call functions alternately, so that what else the machine does disturbs all alike; first rounds may not count."""
    found: dict[Name, list[Found]] = {name: [] for name in runs}
    for turn in range(-warm_up, repeats):
        for name, run in runs.items():
            value = run()
            found[name] += [value] if turn >= 0 else []
    return found


def markdown(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table."""
    lines = [f"| {' | '.join(cells)} |" for cells in (titles, *rows)]
    return "\n".join([lines[0], "|---" * len(titles) + "|", *lines[1:]])
