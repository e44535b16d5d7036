"""What tests ask of the simulated device: to run late, and to count."""

import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

_ROOT = Path(__file__).resolve().parents[3]


@contextmanager
def run_later() -> Iterator[None]:
    """Run work only when something waits for it."""
    torch.ops.sim.run_later(True)
    try:
        yield
    finally:
        torch.ops.sim.run_later(False)


@dataclass
class Counts:
    """Copies to the device and to the host, times that the host waited, and the lines of the project behind them."""

    to_device: int = 0
    to_host: int = 0
    waits: int = 0
    places: Counter[str] = field(default_factory=Counter)

    @property
    def of_batch(self) -> int:
        """Copies to the device that move batches."""
        start = "to_device, copy in weakseg_lightning/data"
        return sum(number for place, number in self.places.items() if place.startswith(start))


@contextmanager
def counting() -> Iterator[Counts]:
    """Count what happens inside."""
    found, before = Counts(), torch.ops.sim.counts()

    def note(message: Warning | str, *_: Any, **__: Any) -> None:
        text = str(message)
        if text.startswith("simulated device: "):
            found.places[f"{text.removeprefix('simulated device: ').split(' (Trig')[0]} in {_line_of_project()}"] += 1

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = note
        torch.ops.sim.tell(True)
        try:
            yield found
        finally:
            torch.ops.sim.tell(False)
            after = torch.ops.sim.counts()
            found.to_device, found.to_host, found.waits = (b - a for a, b in zip(before, after, strict=True))


def _line_of_project() -> str:
    """The innermost line of the package that is running, else of anything else but this file."""
    frame, nearest = sys._getframe(2), None
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(_ROOT / "weakseg_lightning"):
            return f"{path.relative_to(_ROOT)}:{frame.f_lineno}"
        if nearest is None and path.name != "warnings.py":
            nearest = f"{'/'.join(path.parts[-3:])}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return str(nearest)
