"""Curves of scores against the width of a trimap: their file, and a figure that compares runs."""

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

Curve = Sequence[float] | npt.NDArray[np.floating] | Tensor
Curves = Mapping[str, Curve]

_NAME = re.compile("trimap_(void|boundary)_(miou|pixel_accuracy)")
_COLUMNS = ["width", "definition", "miou", "pixel_accuracy"]
_TITLES = {"void": "near void", "boundary": "near boundaries"}
_SCORES = {"miou": "mIoU, %", "pixel_accuracy": "pixel accuracy, %"}


def write_trimap(path: str | Path, curves: Curves) -> None:
    """Write curves as CSV with the columns width, definition, miou, pixel_accuracy.

    Args:
        path: file to write.
        curves: what :meth:`weakseg_lightning.metrics.TrimapScores.compute` returns, of one definition or both in one.

    Raises:
        KeyError: if a definition has only one of its two scores.
        ValueError: if a name is not that of such a curve.
    """
    columns = {name: _values(curve) for name, curve in curves.items()}
    with Path(path).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(_COLUMNS)
        for definition in _definitions([columns]):
            pair = [columns[_name(definition, score)] for score in _SCORES]
            for width, values in enumerate(zip(*pair, strict=True), 1):
                writer.writerow([width, definition, *(f"{value:.6f}" for value in values)])


def read_trimap(path: str | Path) -> dict[str, npt.NDArray[np.float64]]:
    """Read the curves of a run.

    Args:
        path: the ``trimap.csv`` of a test.

    Returns:
        ``trimap_<definition>_miou`` and ``trimap_<definition>_pixel_accuracy`` of each definition in the file: entry
        ``w - 1`` for width ``w``, in 0..1, nan where nothing was counted.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is another kind of file.
    """
    found: dict[str, list[float]] = {}
    with Path(path).open(newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file)
        if rows.fieldnames != _COLUMNS:
            raise ValueError(f"{path} must have the columns {', '.join(_COLUMNS)}, got {rows.fieldnames}")
        for row in rows:
            for score in _SCORES:
                found.setdefault(_name(row["definition"], score), []).append(float(row[score]))
            if int(row["width"]) != len(found[_name(row["definition"], "miou")]):
                raise ValueError(f"{path}, line {rows.line_num}: widths must be 1, 2, 3 ..., got {row['width']}")
    return {name: np.array(values) for name, values in found.items()}


def trimap_figure(curves: Mapping[str, Curves]) -> Figure:
    """Draw scores against the width of the trimap: a column per definition, a row per score, a line per run.

    Args:
        curves: by the name for the legend, what :func:`read_trimap` or
            :meth:`weakseg_lightning.metrics.TrimapScores.compute` return.

    Returns:
        A figure without a window; ``savefig`` writes it.

    Raises:
        ValueError: if there is no curve, or a name is not that of such a curve.

    Example:
        >>> adm = {"trimap_void_miou": [0.4, 0.5], "trimap_void_pixel_accuracy": [0.6, 0.8]}
        >>> figure = trimap_figure({"ADM": adm, "pCE": {**adm, "trimap_void_miou": [0.3, 0.4]}})
        >>> [(axes.get_title(), axes.get_ylabel(), len(axes.lines)) for axes in figure.axes]
        [('near void', 'mIoU, %', 2), ('', 'pixel accuracy, %', 2)]
    """
    definitions = _definitions(curves.values())
    if not definitions:
        raise ValueError(f"`curves` must hold at least one run with curves, got {list(curves)}")
    figure = Figure(figsize=(1 + 3.6 * len(definitions), 5.6), layout="constrained")
    grid = figure.subplots(len(_SCORES), len(definitions), squeeze=False, sharex=True, sharey="row")
    for row, score in zip(grid, _SCORES, strict=True):
        row[0].set_ylabel(_SCORES[score])
        for axes, definition in zip(row, definitions, strict=True):
            _draw(axes, {run: found.get(_name(definition, score)) for run, found in curves.items()})
    for axes, definition in zip(grid[0], definitions, strict=True):
        axes.set_title(_TITLES[definition])
    for axes in grid[-1]:
        axes.set_xlabel("trimap width, pixels")
    if len(curves) > 1:
        grid[-1, -1].legend(frameon=False)
    return figure


def _draw(axes: Axes, curves: Mapping[str, Curve | None]) -> None:
    """Draw one line per run; a run without this curve keeps its color free."""
    for number, (run, curve) in enumerate(curves.items()):
        if curve is not None:
            values = 100 * _values(curve)
            style = ("-", "--", ":")[number // 10 % 3]  # there are ten colors
            marker = "." if len(values) == 1 else ""
            axes.plot(np.arange(1, len(values) + 1), values, style, color=f"C{number % 10}", label=run, marker=marker)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def _definitions(curves: Iterable[Curves]) -> list[str]:
    """Definitions of which there are curves, in the order of this file."""
    names = [name for found in curves for name in found]
    for name in names:
        if not _NAME.fullmatch(name):
            raise ValueError(f"a curve must be named trimap_<void|boundary>_<miou|pixel_accuracy>, got {name!r}")
    return [definition for definition in _TITLES if any(name.startswith(f"trimap_{definition}_") for name in names)]


def _name(definition: str, score: str) -> str:
    return f"trimap_{definition}_{score}"


def _values(curve: Curve) -> npt.NDArray[np.float64]:
    values = np.asarray(curve.detach().cpu() if isinstance(curve, Tensor) else curve, dtype=np.float64)
    return np.atleast_1d(values)  # torchmetrics makes scalars of curves of one width
